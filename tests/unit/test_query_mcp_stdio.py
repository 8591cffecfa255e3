"""Messages over pipes: long requests beside short ones, cancelling, lines that are too long, the end of the input."""

import io
import os
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from atf.query.context import Context
from atf.query.mcp.server import Server
from atf.query.mcp.stdio import MOST_LINE_BYTES, Stdio
from atf.query.params import Params, Result
from atf.query.rpc import Method, Rpc
from atf.query.traces import Traces

sys.path.insert(0, str(Path(__file__).parents[1]))


class Nothing(Params):
    pass


class Done(Result):
    at: int


class Talk:
    """A real Stdio on pipes, with one method that runs until it is let go or cancelled."""

    def __init__(self):
        self.go, self.started, self.cancelled = threading.Event(), threading.Event(), threading.Event()
        (read_in, self._write), (self._read, write_out) = os.pipe(), os.pipe()
        self.to, self.got = os.fdopen(self._write, "wb", 0), os.fdopen(self._read, "rb")
        server = Server(Rpc([Method("traces.list", Nothing, Done, self._run, "")]))
        source, sink = os.fdopen(read_in, "rb"), os.fdopen(write_out, "wb")

        def serve():
            with source, sink:
                Stdio(server, lambda: Context(Traces(".")), source, sink).serve()

        self.thread = threading.Thread(target=serve)
        self.thread.start()

    def _run(self, context, params):
        self.started.set()
        while not self.go.wait(0.005):
            try:
                context.check()
            except Exception:
                self.cancelled.set()
                raise
        return Done(at=1)

    def say(self, id, method, **params):
        self.to.write(msgspec.json.encode({"jsonrpc": "2.0", **({} if id is None else {"id": id}), "method": method, "params": params}) + b"\n")

    def hear(self):
        return msgspec.json.decode(self.got.readline())

    def end(self):
        self.go.set()
        self.to.close()
        self.thread.join(10)
        rest = self.got.read()
        self.got.close()
        assert not self.thread.is_alive()
        return [msgspec.json.decode(line) for line in rest.splitlines()]


@pytest.fixture
def talk():
    made = Talk()
    yield made
    if not made.to.closed:
        made.end()


def test_a_long_request_holds_up_no_other(talk):
    talk.say(1, "tools/call", name="traces_list")
    assert talk.started.wait(5)
    talk.say("2", "ping")
    assert talk.hear() == {"jsonrpc": "2.0", "id": "2", "result": {}}
    talk.go.set()
    assert talk.hear()["result"]["structuredContent"] == {"at": 1}


@pytest.mark.parametrize("id", [7, "7", "é\n"])
def test_a_cancelled_request_stops_and_is_not_answered(talk, id):
    talk.say(id, "tools/call", name="traces_list")
    assert talk.started.wait(5)
    talk.say(None, "notifications/cancelled", requestId="nobody")
    talk.say(None, "notifications/cancelled", requestId=[id])
    talk.say(None, "notifications/cancelled", requestId=id)
    assert talk.cancelled.wait(5)
    assert talk.end() == []


def test_another_type_of_id_cancels_nothing(talk):
    talk.say(7, "tools/call", name="traces_list")
    assert talk.started.wait(5)
    talk.say(None, "notifications/cancelled", requestId="7")
    assert [reply["id"] for reply in talk.end()] == [7]


def test_what_runs_at_the_end_of_the_input_is_answered(talk):
    talk.say(1, "tools/call", name="traces_list")
    assert [reply["id"] for reply in talk.end()] == [1]


def test_lines_that_are_no_messages(talk):
    talk.to.write(b"\n  \n{\n" + b"x" * (2 * MOST_LINE_BYTES) + b"\n[1]\n[" + b'{"jsonrpc":"2.0","id":3,"method":"ping"}]\n')
    found = [talk.hear() for _ in range(4)]
    assert sorted((r[0] if isinstance(r, list) else r).get("error", {}).get("code", 0) for r in found) == [-32700, -32600, -32600, 0]
    talk.say(9, "ping")
    assert talk.hear()["id"] == 9


def test_a_client_that_is_gone_breaks_nothing():
    sink = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")
    source = io.BytesIO(b'{"jsonrpc":"2.0","id":3,"method":"ping"}\n' * 3)
    Stdio(Server(Rpc([])), lambda: Context(Traces(".")), source, sink).serve()
    with pytest.raises(OSError):
        sink.close()
