"""Who may ask: Host and Origin, tokens, addresses, and trace ids that try to leave the root."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
from query_server import JSON, call, read_answer, request_bytes, serving

from atf.errors import UsageError
from atf.query.errors import RpcError
from atf.query.serve.run import serve, tcp_socket, unix_socket
from atf.query.serve.security import Guard, is_loopback, read_token
from atf.query.serve.settings import Settings
from atf.query.traces import Traces

TOKEN = b"0123456789abcdef0123"


async def routed(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"mine")]})
    await send({"type": "http.response.body", "body": b""})


def ask(settings, path="/rpc", **headers):
    """(status, headers) of what a guard with these settings says."""
    sent = []
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(routed, settings)({"type": "http", "path": path, "method": "POST", "headers": raw}, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


OURS = ["127.0.0.1", "127.0.0.1:9090", "localhost", "LOCALHOST:1", "[::1]", "[::1]:9090"]
FOREIGN = [
    *("evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example@127.0.0.1", "127.0.0.1@evil.example"),
    *("", "0.0.0.0", "127.0.0.2", "192.168.1.5:9090", "127.1", "2130706433", "localhost:x", "localhost:1:2", "[::1", "[::1]x", "[::2]"),
    *("localhost.", "127.0.0.1, localhost", "localhost/", "\xe9", "::1", "[localhost", "127.0.0.1:\xb2"),
]


@pytest.mark.parametrize("host", OURS)
def test_our_hosts(host):
    assert ask(Settings(), host=host)[0] == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_other_hosts(host):
    assert ask(Settings(), host=host)[0] == 403
    assert ask(Settings(), "/healthz", host=host)[0] == 403


def test_no_host_and_allowed_hosts():
    assert ask(Settings())[0] == 403
    settings = Settings(allowed_hosts=("traces.example",))
    assert [ask(settings, host=host)[0] for host in ("Traces.example:80", "127.0.0.1", "a.traces.example")] == [200, 200, 403]
    assert ask(Settings(uds="s"), host="anything")[0] == 200


def test_bound_to_all_addresses_takes_addresses_but_no_names():
    settings = Settings(host="0.0.0.0", token=TOKEN)
    answers = [ask(settings, host=host, authorization=f"Bearer {TOKEN.decode()}")[0] for host in ("10.1.2.3:9090", "[fe80::1]", "evil.example", "0.0.0.0")]
    assert answers == [200, 200, 403, 200]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:9090", 200),
        ("HTTP://LOCALHOST:9090", 200),
        ("http://localhost:3000", 403),
        ("http://localhost", 403),
        ("http://127.0.0.1:9090", 403),
        ("http://evil.example", 403),
        ("http://localhost:9090.evil.example", 403),
        ("null", 403),
        ("", 403),
        ("file://", 403),
    ],
)
def test_origins(origin, status):
    assert ask(Settings(), host="localhost:9090", origin=origin)[0] == status


def test_a_foreign_origin_is_refused_on_a_unix_socket_too():
    assert ask(Settings(uds="s"), host="x", origin="http://evil.example")[0] == 403


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {TOKEN.decode()}", 200),
        (f"bearer  {TOKEN.decode()} ", 200),
        (f"Basic {TOKEN.decode()}", 401),
        (TOKEN.decode(), 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {TOKEN.decode()}x", 401),
        (f"Bearer {TOKEN.decode()[:-1]}", 401),
        ("Bearer \xe9", 401),
    ],
)
def test_tokens(given, status):
    settings = Settings(token=TOKEN)
    answer, headers = ask(settings, host="localhost", authorization=given)
    assert (answer, headers.get(b"www-authenticate")) == (status, b"Bearer" if status == 401 else None)
    assert ask(settings, "/metrics", host="localhost")[0] == 401
    assert ask(settings, "/healthz", host="localhost")[0] == 200
    assert ask(settings, "//healthz", host="localhost")[0] == 401


def test_headers_of_ours_do_not_replace_those_of_a_route():
    assert ask(Settings(), host="localhost")[1] == {
        b"cache-control": b"mine",
        b"x-content-type-options": b"nosniff",
        b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    }


def test_a_token_file_is_made_and_read_again(tmp_path):
    place = tmp_path / "token"
    token = read_token(place)
    assert len(token) >= 32
    assert (place.stat().st_mode & 0o777, read_token(place)) == (0o600, token)
    assert read_token(tmp_path / "other") != token


@pytest.mark.parametrize(("content", "mode", "said"), [("x" * 40, 0o640, "chmod 600"), ("x" * 40, 0o604, "chmod 600"), ("", 0o600, "no token"), ("short", 0o600, "no token"), ("two words" * 9, 0o600, "no token")])
def test_token_files_that_cannot_be_used(tmp_path, content, mode, said):
    place = tmp_path / "token"
    place.write_text(content)
    place.chmod(mode)
    with pytest.raises(UsageError, match=said):
        read_token(place)


def test_a_token_file_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    for place in (tmp_path, tmp_path / "fifo", tmp_path / "no" / "token", "/proc/token"):
        with pytest.raises(UsageError):
            read_token(place)


def test_loopback():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1", "0.0.0.0", "::", "10.0.0.1")] == [True] * 4 + [False] * 3
    with pytest.raises(UsageError, match="no address"):
        is_loopback("nowhere.invalid")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_needs_a_token(tmp_path, host):
    with pytest.raises(UsageError, match="--token-file"):
        serve(Settings(str(tmp_path), host=host))


def test_addresses_that_cannot_be_bound(tmp_path):
    with tcp_socket("127.0.0.1", 0) as sock:
        for port in (sock.getsockname()[1], 70_000):
            with pytest.raises(UsageError, match="--port 0"):
                tcp_socket("127.0.0.1", port)
    with pytest.raises(UsageError, match="107 bytes"):
        unix_socket(str(tmp_path / ("x" * 200)))
    with pytest.raises(UsageError, match="cannot be bound"):
        unix_socket(str(tmp_path / "no" / "socket"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be bound"):
        unix_socket(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_server_with_a_token(tmp_path):
    doctraces.write(tmp_path / "traces")
    with serving(tmp_path / "traces", "--token-file", tmp_path / "token") as server, httpx.Client() as client:
        assert client.post(server.url, content=call("trace.info"), headers=JSON).status_code == 401
        token = (tmp_path / "token").read_text().strip()
        answer = client.post(server.url, content=call("trace.info", [doctraces.MONDAY]), headers={**JSON, "Authorization": f"Bearer {token}"})
        assert answer.json()["result"]["eventCount"] == 150
        with server.connect() as sock:  # asked by a page that was led here by a name server
            sock.sendall(request_bytes(call("trace.info"), f"Authorization: Bearer {token}", host=f"evil.example:{server.port}"))
            assert read_answer(sock)[0] == 403


TRICKS = [
    *("", ".", "..", "../secret", "a/../../secret", "/", "/etc", "//", "./session", "session/", "/session", "session//pid_410", "~", "~root", "-", ".hidden"),
    *("session\x00", "session\x00/../..", "\x00", "session\n", "%2e%2e", "%2e%2e%2fsecret", "..%2fsecret", "%00", "..\\secret", "session\\pid_410", "C:\\", "C:", "\\\\host\\share"),
    *("．．", "．．／secret", "..\u2215secret", "\u202e..", "e\u0301/..", "😀", "x" * 255, "x" * 256, "x" * 100_000, "a/b/c/d", "a/" * 5000, "é" * 200),
    *("leaves", "leaves/session", "loop", "file", "file/x", "session/thread_0/..", "session/pid_410/..", "secret", "empty", "pipe"),
    *(None, True, 7, 1.5, [], ["session"], {}, {"x": 1}),
]


@pytest.fixture(scope="module")
def tricky(tmp_path_factory):
    """A root with a session, and beside it one that must not be reached."""
    place = tmp_path_factory.mktemp("tricks")
    root = place / "root"
    doctraces.write(root)
    (root / doctraces.MONDAY).rename(root / "session")
    (root / doctraces.TUESDAY).rename(place / "secret")
    (root / "leaves").symlink_to(place / "secret")
    (root / "loop").symlink_to("loop")
    (root / "file").write_text("x")
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")
    (root / "inside").symlink_to("session")
    return root


@pytest.mark.parametrize("id", TRICKS, ids=[ascii(id)[:30] for id in TRICKS])
def test_no_id_leaves_the_root(tricky, id):
    with pytest.raises(RpcError) as caught:
        Traces(tricky).view(id)
    assert caught.value.code == -32000
    assert len(str(caught.value.data)) < 500


def test_ids_that_are_good(tricky):
    traces = Traces(tricky)
    assert len(traces.view("session").trace.threads) == 4
    assert len(traces.view("session/pid_410").trace.threads) == 3
    assert len(traces.view("inside").trace.threads) == 4
    shutil.copytree(tricky / "session", tricky / "Évening, of the 5th")
    assert len(traces.view("Évening, of the 5th").trace.threads) == 4


def test_tricks_over_http(tricky):
    with serving(tricky) as server, httpx.Client() as client:
        for id in TRICKS:
            said = server.post(client, "trace.info", {"traceId": id})["error"]
            assert said["code"] == (-32000 if isinstance(id, str) else -32602), id
        for path in ("/rpc/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/rpc%00", "/healthz/../rpc"):
            with server.connect() as sock:
                sock.sendall(request_bytes(b"", method="GET", path=path))
                assert read_answer(sock)[0] in (400, 404, 405), path


def test_refusals_on_the_command_line(tmp_path):
    def run(*options):
        done = subprocess.run([sys.executable, "-m", "atf.query", *map(str, options)], capture_output=True, text=True, cwd=Path(__file__).parents[2])
        return done.returncode, done.stderr

    assert run("--trace-root", tmp_path, "--host", "0.0.0.0")[0] == 2
    assert "--token-file" in run("--trace-root", tmp_path, "--host", "0.0.0.0")[1]
