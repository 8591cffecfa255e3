"""Questions about the spans of random sessions, for the tests of the methods about spans."""

import sys
from pathlib import Path

import msgspec
import pytest

from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.rpc import INVALID_PARAMS, Rpc, RpcError
from atf.query.traces import Traces

sys.path.insert(0, str(Path(__file__).parents[1]))
import spancases

RPC = Rpc(all_methods())
ORDERS = {"startTime": "start", "duration": "duration", "selfTime": "self"}
MEMBERS = {
    "spanId": lambda row: row.id,
    "functionName": lambda row: row.name,
    "startTimeNs": lambda row: row.start,
    "endTimeNs": lambda row: row.span.end,
    "durationNs": lambda row: row.duration,
    "threadId": lambda row: row.tid,
    "moduleName": lambda row: row.module,
    "depth": lambda row: row.depth,
    "childCount": lambda row: row.span.children,
    "selfTimeNs": lambda row: row.self_ns,
    "activeTimeNs": lambda row: row.span.active,
    "parentSpanId": lambda row: row.above.id if row.above else None,
    "status": lambda row: row.span.status,
    "file": lambda row: row.file,
    "line": lambda row: row.line,
    "processId": lambda row: row.pid,
    "functionId": lambda row: f"0x{row.function[1]:016x}",
}
DEFAULT = ("spanId", "functionName", "startTimeNs", "endTimeNs", "durationNs")
ALL = dict.fromkeys(MEMBERS, True)


def asked_case(root, seed):
    """A spancases.Case with `ask(method, **params)`: the answer as plain JSON values."""
    found = spancases.Case(root, seed)
    traces = Traces(root)

    def ask(method, answer_bytes=256 * 1024, **params):
        result = RPC.call(Context(traces, answer_bytes=answer_bytes), method, {"traceId": found.name, **params})
        text = msgspec.json.encode(result)
        assert len(text) <= answer_bytes
        msgspec.json.decode(text, type=RPC.methods[method].result)  # is what the method says that it gives
        return msgspec.json.decode(text)

    found.ask = ask
    return found


def refused(case, method, **params):
    with pytest.raises(RpcError) as why:
        case.ask(method, **params)
    assert why.value.code == INVALID_PARAMS and why.value.data["reason"]
    return why.value.data


def rows_of(answer, key="spans"):
    """The rows of an answer of either shape."""
    found = answer[key]
    return found if isinstance(found, list) else [dict(zip(found, values)) for values in zip(*found.values())]


def walk(case, method, key="spans", **params):
    """The rows of all pages, by cursor."""
    rows, cursor, total = [], None, None
    while True:
        answer = case.ask(method, **params, **({"cursor": cursor} if cursor else {}))
        got, said = rows_of(answer, key), answer["metadata"]
        total = said["totalCount"] if total is None else total
        assert (said["totalCount"], said["returnedCount"]) == (total, len(got)) and said["hasMore"] == ("nextCursor" in said)
        assert said["offset"] == (None if cursor else params.get("offset", 0))
        rows += got
        cursor = said.get("nextCursor")
        if cursor is None:
            return rows, total
        assert got
