"""Asks the query engine in process, as a client sees it."""

import msgspec
import pytest

from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.rpc import Rpc, RpcError
from atf.query.traces import Traces

RPC = Rpc(all_methods())


def ask(traces, method, answer_bytes=256 * 1024, **params):
    """The decoded result. traces: a Traces, or its root."""
    traces = traces if isinstance(traces, Traces) else Traces(traces)
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    body = RPC.answer(msgspec.json.encode(request), Context(traces, answer_bytes=answer_bytes)).body
    assert len(body) <= answer_bytes + 100
    reply = msgspec.json.decode(body)
    if "error" in reply:
        raise RpcError(reply["error"]["code"], reply["error"].get("data"))
    return reply["result"]


def refused(traces, method, **params):
    """The error of a question."""
    with pytest.raises(RpcError) as caught:
        ask(traces, method, **params)
    return caught.value


def walk(traces, method, member, **params):
    """All rows by cursor."""
    found, cursor = [], {}
    for _ in range(2000):
        got = ask(traces, method, **params, **cursor)
        found += got[member]
        if not got["metadata"]["hasMore"]:
            return found
        cursor = {"cursor": got["metadata"]["nextCursor"]}
    raise AssertionError("a walk without an end")
