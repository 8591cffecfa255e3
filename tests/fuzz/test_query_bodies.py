"""Bodies that no client should send: each gets the error of the contract, in bounded time, and nothing grows."""

import asyncio
import contextlib
import itertools
import logging
import sys
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))
import badbodies
import doctraces
from query_server import JSON, read_answer, request_bytes, serving

from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.rpc import Rpc
from atf.query.serve.app import Service
from atf.query.serve.settings import Settings
from atf.query.traces import Traces

IDS = [doctraces.MONDAY, doctraces.TUESDAY, f"{doctraces.MONDAY}/pid_411"]


def test_the_core(root, caplog):
    caplog.set_level(logging.CRITICAL, "atf.query")
    rpc, traces = Rpc(all_methods()), Traces(root)
    codes = set()
    for body in itertools.islice(badbodies.Bodies(1, IDS), 3000):
        started = time.monotonic()
        reply = rpc.answer(body, Context(traces))
        badbodies.judge(body, 204 if reply.body is None else 200, reply.body)
        assert time.monotonic() - started < 10, body[:300]
        codes |= {call.code for call in reply.calls}
    assert codes >= {0, -32700, -32600, -32601, -32602, -32000}


def test_the_application(root):
    service = Service(Rpc(all_methods()), Traces(root), Settings(str(root), rate=0))

    async def run():
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for body in itertools.islice(badbodies.Bodies(2, IDS), 500):
                answer = await client.post("/rpc", content=body, headers=JSON)
                badbodies.judge(body, answer.status_code, answer.content)

    asyncio.run(run())
    assert service.close()


HTTP = [
    b"", b"\r\n\r\n", b"\x00" * 100, b"\xff" * 100, b"GET\r\n\r\n", b"POST /rpc\r\n\r\n", b"POST /rpc HTTP/9.9\r\n\r\n", b"POST  /rpc HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\n\r\n", b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", b"POST /rpc HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1e3\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nZZ\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST http://evil.example/rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %2frpc HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST /rpc%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


def test_a_real_server(root):
    with serving(root, "--rate", "0") as server:
        bodies = iter(badbodies.Bodies(3, IDS))
        for body in itertools.islice(bodies, 200):
            with server.connect() as sock:
                sock.sendall(request_bytes(body))
                status, _, answer = read_answer(sock)
                badbodies.judge(body, status, answer)
        for bytes_sent in HTTP:
            with server.connect() as sock:
                # A head that is too long is refused before all of it was said; what is on its way then meets a closed connection.
                with contextlib.suppress(OSError) if len(bytes_sent) > 65536 else contextlib.nullcontext():
                    sock.sendall(bytes_sent)
                    sock.shutdown(1)
                answer = read_answer(sock)
                assert answer is None or answer[0] < 500, bytes_sent[:100]
        with server.connect() as sock:  # many requests at once on one connection, and nobody reads
            for body in itertools.islice(bodies, 100):
                sock.sendall(request_bytes(body))
        with httpx.Client() as client:
            assert client.get(server.url.replace("rpc", "healthz")).text == "ok\n"
