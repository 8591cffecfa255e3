"""The client against a real server: the same answers as without one, and what a connection can do to it."""

import pathlib
import socket
import sys
import threading

import pytest

import atf.query

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import doctraces
import query_server


@pytest.fixture(scope="module")
def url(root):
    with query_server.serving(root) as server:
        yield server.url


@pytest.fixture
def client(url):
    with atf.query.connect(url.removesuffix("/rpc"), trace_id=doctraces.MONDAY) as made:
        yield made


def test_a_server_says_what_a_directory_says(client, root):
    with atf.query.connect(root / doctraces.MONDAY) as near:
        for ask in (
            lambda c: list(c.iter_spans_list(limit=9, order_by="duration", projection={"status": True})),
            lambda c: c.functions_top(limit=4).functions,
            lambda c: c.trace_info().threads,
        ):
            assert ask(client) == ask(near)
    with pytest.raises(atf.query.RpcError) as error:
        client.trace_info(trace_id="nope")
    assert error.value.code == -32000
    a, b = client.batch([("trace.info", {"traceId": doctraces.MONDAY}), ("no", {})])
    assert a["eventCount"] == 150 and b.code == -32601


def test_one_connection_is_kept(client):
    client.trace_info()
    kept = client._transport._open.sock
    client.trace_info()
    assert client._transport._open.sock is kept is not None
    client.close()
    assert client.trace_info().event_count == 150


def test_a_connection_that_the_server_closed_is_made_again(client):
    client.trace_info()
    client._transport._open.sock.shutdown(socket.SHUT_RDWR)
    assert client.trace_info().event_count == 150


def test_a_path_that_is_no_rpc(url):
    with atf.query.connect(url + "/elsewhere") as client, pytest.raises(atf.query.TransportError) as error:
        client.call("trace.info", {})
    assert error.value.status == 404


def test_a_unix_socket(root, tmp_path):
    with query_server.serving(root, "--uds", tmp_path / "s") as server, atf.query.connect(server.address, trace_id=doctraces.MONDAY) as client:
        assert server.address == f"unix:{tmp_path}/s" and client.trace_info().event_count == 150


def test_a_server_that_asks_for_a_token(root, tmp_path):
    file = tmp_path / "token"
    with query_server.serving(root, "--token-file", file) as server:
        for more in ({}, {"token": "another word"}):
            with atf.query.connect(server.url, **more) as client, pytest.raises(atf.query.TransportError, match="token") as error:
                client.call("trace.info", [doctraces.MONDAY])
            assert error.value.status == 401
        for more in ({"token": file.read_text().strip()}, {"token_file": file}):
            with atf.query.connect(server.url, **more) as client:
                assert client.trace_info(trace_id=doctraces.MONDAY).event_count == 150


class Odd:
    """A server that takes a request and does something odd, then answers the next as it should."""

    def __init__(self, *deeds):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.deeds, self.seen = deeds, 0
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        for deed in self.deeds:
            one, _ = self.listener.accept()
            with one:
                one.settimeout(10)
                data = b""
                while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                    data += one.recv(65536)
                self.seen += 1
                deed(one)

    def end(self):
        self.thread.join(10)
        self.listener.close()


def says(text, head=b"HTTP/1.1 200 OK\r\n"):
    return lambda one: one.sendall(head + b"Content-Length: %d\r\n\r\n" % len(text) + text)


def drops(one):
    pass


def cuts(one):
    one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


GOOD = b'{"jsonrpc":"2.0","id":%d,"result":5}'


@pytest.mark.parametrize("deed", [drops, cuts, lambda one: one.sendall(b"garbage\r\n\r\n")])
def test_a_server_that_breaks_off(deed):
    odd = Odd(deed, says(GOOD % 2))
    with atf.query.connect(odd.url) as client:
        with pytest.raises(atf.query.TransportError):
            client.call("a")
        assert client.call("a") == 5
    odd.end()
    assert odd.seen == 2


def test_a_server_that_says_nothing():
    silent = threading.Event()
    odd = Odd(lambda one: silent.wait(10), says(GOOD % 2))
    with atf.query.connect(odd.url, timeout_s=0.2) as client:
        with pytest.raises(atf.query.TransportError, match="within 0.2 s"):
            client.call("a")
        silent.set()
        assert client.call("a") == 5
    odd.end()


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"413 Too Large", b"500 Oops", b"302 Found"])
def test_other_statuses(status):
    odd = Odd(says(b"no\n", b"HTTP/1.1 %b\r\n" % status))
    with atf.query.connect(odd.url) as client, pytest.raises(atf.query.TransportError, match="no") as error:
        client.call("a")
    odd.end()
    assert error.value.status == int(status[:3])
