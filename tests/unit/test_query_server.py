"""The server as a process, over real sockets: transport, limits, and its end."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
from query_server import JSON, Server, call, read_answer, request_bytes, serving

MONDAY = doctraces.MONDAY


@pytest.fixture(scope="module")
def server(root):
    with serving(root, "--timeout", "0.5", "--rate", "0", misbehaving=True) as server:
        yield server


@pytest.fixture
def client():
    with httpx.Client(timeout=20) as client:
        yield client


def test_answers_at_both_paths(server, client):
    for url in (server.url, server.url.removesuffix("rpc")):
        answer = client.post(url, content=call("trace.info", {"traceId": MONDAY}), headers=JSON)
        assert answer.json()["result"]["eventCount"] == 150
        assert answer.headers["content-type"] == "application/json"


def test_the_first_question_imports_nothing(root, client):
    with serving(root, misbehaving=True) as server:
        before = set(server.post(client, "test.modules")["result"])
        server.post(client, "trace.info", {"traceId": MONDAY})
        assert set(server.post(client, "test.modules")["result"]) - before == set()


def test_every_answer_forbids_sniffing_and_storing(server, client):
    answers = [
        client.post(server.url, content=b"{", headers=JSON),
        client.get(server.url),
        client.get(server.url.replace("rpc", "healthz")),
        client.get(server.url.replace("rpc", "nowhere")),
        client.post(server.url, content=b"{}", headers={**JSON, "Origin": "http://evil.example"}),
    ]
    assert [one.status_code for one in answers] == [200, 405, 200, 404, 403]
    for one in answers:
        assert (one.headers["x-content-type-options"], one.headers["cache-control"]) == ("nosniff", "no-store")
        assert "server" not in one.headers


@pytest.mark.parametrize("body", [b'{"jsonrpc":"2.0","method":"trace.info"}', b'[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","method":"y"}]'])
def test_notifications_are_204_without_a_body(server, client, body):
    answer = client.post(server.url, content=body, headers=JSON)
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp", "text/json"])
def test_other_content_types_are_415(server, client, kind):
    assert client.post(server.url, content=call("trace.info"), headers={"Content-Type": kind}).status_code == 415


def test_json_with_parameters_is_taken_but_nothing_compressed(server, client):
    assert client.post(server.url, content=call("x"), headers={"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 200
    assert client.post(server.url, content=call("x"), headers={**JSON, "Content-Encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_other_methods_are_405(server, client, method):
    answer = client.request(method, server.url)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_body_that_is_too_large_is_413(server, client):
    most = 1 << 20
    exact = call("x").ljust(most)
    assert client.post(server.url, content=exact, headers=JSON).status_code == 200
    assert client.post(server.url, content=exact + b" ", headers=JSON).status_code == 413
    assert client.post(server.url, content=(b" " * 65536 for _ in range(20)), headers=JSON).status_code == 413  # chunked, no length
    with server.connect() as sock:  # refused before the client sends it
        sock.sendall(request_bytes(b"", "Expect: 100-continue", length=1 << 40))
        assert read_answer(sock)[0] == 413


def test_an_endless_body_is_cut(server):
    with server.connect() as sock:
        sock.sendall(request_bytes(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b""))
        sent = 0
        with pytest.raises(OSError):
            while sent < 1 << 28:
                sock.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        assert sent < 1 << 26


def test_slow_bodies_and_slow_headers(root):
    # Not an option of the command line: nobody needs another time, but a test cannot wait for ten seconds.
    program = "from atf.query.serve import run, settings; import sys; run.serve(settings.Settings(sys.argv[1], port=0, body_timeout_s=0.4))"
    process = subprocess.Popen([sys.executable, "-c", program, str(root)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    server = Server.__new__(Server)
    server.url, server.process = process.stdout.readline().decode().strip(), process
    body = call("trace.info", {"traceId": MONDAY})
    with server.connect() as slow, server.connect() as silent, server.connect() as half, server.connect() as again:
        slow.sendall(request_bytes(body)[:-5])
        half.sendall(b"POST /rpc HTTP/1.1\r\nHost: 127")
        again.sendall(request_bytes(body))
        assert read_answer(again)[0] == 200
        again.sendall(b"POST")
        assert read_answer(slow)[0] == 408
        assert [read_answer(sock) for sock in (slow, silent, half, again)] == [None] * 4
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


def test_a_method_that_takes_too_long(server, client):
    for method in ("test.sleep", "test.stuck"):
        started = time.monotonic()
        said = server.post(client, method, {"amount": 3}, id="a")
        assert (said["id"], said["error"]["code"]) == ("a", -32003)
        assert "narrow" in said["error"]["data"]["hint"]
        assert time.monotonic() - started < 2.8


def test_a_batch_shares_its_time(server, client):
    body = b"[" + b",".join(call("test.sleep", {"amount": 0.3}, n) for n in range(50)) + b"]"
    started = time.monotonic()
    codes = [one.get("error", {}).get("code", 0) for one in client.post(server.url, content=body, headers=JSON).json()]
    assert time.monotonic() - started < 2.5
    assert (len(codes), codes[0], set(codes[2:])) == (50, 0, {-32003})


def test_an_answer_that_is_too_long(server, client):
    assert len(server.post(client, "test.long", {"amount": 262_000})["result"]) == 262_000
    said = server.post(client, "test.long", {"amount": 262_144})
    assert said["error"]["code"] == -32003
    body = b"[" + b",".join(call("test.long", {"amount": 200_000}, n) for n in range(100)) + b"]"
    answer = client.post(server.url, content=body, headers=JSON)
    assert len(answer.content) <= 256 * 1024
    assert [one.get("error", {}).get("code", 0) for one in answer.json()] == [0] + [-32003] * 99


def test_who_goes_away_is_not_waited_for(root, client):
    with serving(root, "--timeout", "60", misbehaving=True) as server:
        for _ in range(3):
            with server.connect() as sock:
                sock.sendall(request_bytes(call("test.sleep", {"amount": 50})))
                time.sleep(0.15)
        until = time.monotonic() + 10
        while len(seen := server.post(client, "test.seen")["result"]) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        assert ["nobody waits" in one for one in seen] == [True] * 3


def test_workers_are_bounded(server, client):
    def ask():
        with httpx.Client(timeout=20) as one:
            server.post(one, "test.sleep", {"amount": 0.05})

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert server.post(client, "test.threads")["result"] <= max(4, os.cpu_count() or 1) + 2


def test_too_many_calls_a_second(root, client):
    with serving(root, "--rate", "20") as server:
        answers = [server.post(client, "trace.info", {"traceId": MONDAY}, id=n) for n in range(40)]
        refused = [one for one in answers if "error" in one]
        assert 10 <= len(refused) <= 20
        assert {one["error"]["code"] for one in refused} == {-32001}
        assert all(one["id"] == n for n, one in enumerate(answers))
        assert 1 <= refused[0]["error"]["data"]["retryAfterMs"] <= 50
        time.sleep(0.3)
        assert "result" in server.post(client, "trace.info", {"traceId": MONDAY})
        batch = b"[" + b",".join([call("x")] * 60) + b"]"
        assert -32001 in {one["error"]["code"] for one in client.post(server.url, content=batch, headers=JSON).json()}


def test_too_many_connections(root, client):
    with serving(root, "--max-connections", "3") as server:
        held = [server.connect() for _ in range(3)]
        for sock in held:
            sock.sendall(request_bytes(call("trace.info", {"traceId": MONDAY})))
            assert read_answer(sock)[0] == 200
        answer = client.post(server.url, content=call("trace.info", id="z"), headers=JSON)
        assert (answer.json()["id"], answer.json()["error"]["code"], answer.headers["connection"]) == ("z", -32002, "close")
        time.sleep(0.1)
        more = [server.connect() for _ in range(50)]
        time.sleep(0.2)
        cut = 0
        for sock in more:
            sock.settimeout(0.01)
            try:
                cut += sock.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                cut += 1
        assert cut >= 15
        for sock in (*held, *more):
            sock.close()
        until = time.monotonic() + 10
        while "error" in server.post(client, "trace.info", {"traceId": MONDAY}) and time.monotonic() < until:
            time.sleep(0.05)
        assert "result" in server.post(client, "trace.info", {"traceId": MONDAY})


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_the_end_finishes_what_is_in_flight(root, numbers):
    """`timeout` sends its signal to the process and to its group: two at once are one."""
    server = Server(root, misbehaving=True)
    with server.connect() as sock, server.connect() as idle:
        sock.sendall(request_bytes(call("test.sleep", {"amount": 0.7})))
        idle.sendall(request_bytes(call("trace.info", {"traceId": MONDAY})))
        assert read_answer(idle)[0] == 200
        for number in numbers:
            server.process.send_signal(number)
            time.sleep(0.1)
        status, _, body = read_answer(sock)
        assert (status, json.loads(body)["result"]) == (200, "slept")
    status, _, err = server.stop(within_s=10)
    assert (status, err) == (0, "")


def test_the_end_is_bounded(root):
    server = Server(root, "--timeout", "0.3", misbehaving=True)
    with server.connect() as sock, server.connect() as half:
        half.sendall(request_bytes(b"{}", length=100))
        sock.sendall(request_bytes(call("test.stuck", {"amount": 60})))
        time.sleep(0.2)
        started = time.monotonic()
        assert server.stop(within_s=15)[0] == 0
        assert time.monotonic() - started < 9


def test_access_log_and_metrics(root, tmp_path, client):
    log = tmp_path / "access.log"
    with serving(root, "--access-log", log, "--access-log-format", "json") as server:
        server.post(client, "trace.info", {"traceId": MONDAY})
        server.post(client, "no.such\nmethod")
        client.post(server.url, content=b"[" + call("trace.info", {"traceId": MONDAY}) + b",7]", headers=JSON)
        client.post(server.url, content=b"x")
        text = client.get(server.url.replace("rpc", "metrics")).text
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["method"], line["code"]) for line in lines[:4]] == [("trace.info", 0), ("-", -32601), ("trace.info", 0), ("-", -32600)]
    assert (lines[4]["status"], len(lines)) == (415, 5)
    assert all(line["client"] == "127.0.0.1" and line["time"].endswith("Z") for line in lines)
    assert lines[0]["durationMs"] > 0
    assert lines[0]["bytes"] > 500
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    said = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert said['atf_query_requests_total{method="trace.info",code="0"}'] == "2"
    assert said['atf_query_requests_total{method="unknown",code="-32601"}'] == "1"
    assert said['atf_query_duration_seconds_bucket{method="trace.info",le="+Inf"}'] == "2"
    assert said['atf_query_refused_total{status="415"}'] == "1"
    assert (said["atf_query_open_traces"], said["atf_query_connections"]) == ("1", "1")
    assert float(said["process_resident_memory_bytes"]) > 1e6
    assert float(said["atf_query_answer_bytes_total"]) > 1000


def test_access_log_as_text_on_standard_output(root, client):
    server = Server(root, "--access-log", "-")
    server.post(client, "trace.info", {"traceId": MONDAY})
    status, out, _ = server.stop()
    assert status == 0
    assert " 127.0.0.1 trace.info code=0 durationMs=" in out


def test_unix_socket(root, tmp_path):
    path = tmp_path / "s"
    with serving(root, "--uds", path) as server:
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            answer = client.post("http://anything/rpc", content=call("trace.info", {"traceId": MONDAY}), headers=JSON)
            assert answer.json()["result"]["eventCount"] == 150
        second = subprocess.run([sys.executable, "-m", "atf.query", "--trace-root", root, "--uds", path], capture_output=True, text=True, cwd=Path(__file__).parents[2])
        assert (second.returncode, "another server" in second.stderr) == (2, True)
        server.process.kill()
        server.process.wait()
        with serving(root, "--uds", path):  # takes the place of the socket that was left
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()
        server.process.returncode = 0
