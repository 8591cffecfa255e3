"""JSON-RPC 2.0: the examples of its specification, and what it leaves open or others get wrong."""

import json
import logging
import time
from typing import Annotated, Literal

import msgspec
import pytest

from atf.errors import FormatError, UsageError
from atf.query.params import Params, Result, bind
from atf.query.rpc import MAX_BATCH, Caller, Method, Rpc, RpcError


class Two(Params):
    minuend: int
    subtrahend: int


class Any3(Params):
    a: int = 0
    b: int = 0
    c: int = 0


class Five(Params):
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0


class Window(Params):
    start_ns: Annotated[int, msgspec.Meta(ge=0)] = 0
    kinds: list[Literal["call", "return"]] | None = None


class Rich(Params):
    trace_id: str
    window: Window = msgspec.field(default_factory=Window)
    order: Literal["timestamp", "thread"] = "timestamp"
    limit: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    maybe: Window | None = None


class Page(Result):
    class Metadata(Result):
        returned_count: int

    metadata: Metadata


def fail(error):
    def run(context, params):
        raise error

    return run


def nothing(context, params):
    return None


def type_error(context, params):
    return len(7)


METHODS = [
    Method("subtract", Two, int, lambda context, params: params.minuend - params.subtrahend, ""),
    Method("sum", Any3, int, lambda context, params: params.a + params.b + params.c, ""),
    Method("update", Five, None, nothing, ""),
    Method("notify_hello", Any3, None, nothing, ""),
    Method("notify_sum", Any3, None, nothing, ""),
    Method("get_data", Any3, list, lambda context, params: ["hello", 5], ""),
    Method("rich", Rich, dict, lambda context, params: msgspec.to_builtins(params), ""),
    Method("page", Any3, Page, lambda context, params: Page(metadata=Page.Metadata(returned_count=7)), ""),
    Method("fails.inside", Any3, None, type_error, ""),
    Method("fails.usage", Any3, None, fail(UsageError("this cannot be used")), ""),
    Method("fails.format", Any3, None, fail(FormatError("that is damaged")), ""),
    Method("fails.own", Any3, None, fail(RpcError(-32003, {"reason": "too much"})), ""),
    Method("fails.json", Any3, None, lambda context, params: object(), ""),
    Method("fails.text", Any3, None, lambda context, params: "\ud800", ""),
    Method("fails.badly", Any3, None, fail(RpcError(-32000, {"reason": "\ud800"})), ""),
]
RPC = Rpc(METHODS)


def ask(body, context=None):
    """The answer's JSON, or None."""
    reply = RPC.answer(body if isinstance(body, bytes) else body.encode(), context)
    return None if reply.body is None else json.loads(reply.body)


def error(code, message, id=None):
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": id}


def result(value, id):
    return {"jsonrpc": "2.0", "result": value, "id": id}


PARSE, INVALID = error(-32700, "Parse error"), error(-32600, "Invalid request")
# Section 7 of the specification, in its order: (what is sent, what comes back).
SPECIFICATION = [
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', result(19, 1)),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}', result(-19, 2)),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}', result(19, 3)),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}', result(19, 4)),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', error(-32601, "Method not found", "1")),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    ('[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]', PARSE),
    ("[]", INVALID),
    ("[1]", [INVALID]),
    ("[1,2,3]", [INVALID, INVALID, INVALID]),
    (
        """[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
            {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"}, {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"}, {"jsonrpc": "2.0", "method": "get_data", "id": "9"}]""",
        [result(7, "1"), result(19, "2"), INVALID, error(-32601, "Method not found", "5"), result(["hello", 5], "9")],
    ),
    ('[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]}, {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]', None),
]


def bare(answer):
    """Without `data`, which the specification leaves to the server."""
    if isinstance(answer, list):
        return [bare(one) for one in answer]
    if answer and "error" in answer:
        answer["error"].pop("data", None)
    return answer


@pytest.mark.parametrize(("sent", "expected"), SPECIFICATION, ids=range(1, 16))
def test_examples_of_the_specification(sent, expected):
    assert bare(ask(sent)) == expected


IDS = ["1", "0", "-1", "1.50", "-0.0", "1E5", "1e400", "-1e400", "9007199254740993", "1" * 300, '""', '"a"', '"\\u0041\\n"', '"é😀"', "null"]


@pytest.mark.parametrize("id", [*IDS, '"' + "x" * 1000 + '"'])
@pytest.mark.parametrize("call", ['"method": "get_data"', '"method": "nowhere"', '"method": "get_data", "params": [1,2,3,4]', '"method": 5', ""])
def test_id_comes_back_byte_for_byte(id, call):
    body = RPC.answer(f'{{"jsonrpc": "2.0", "id" : {id} {"," * bool(call)}{call}}}'.encode()).body
    assert body.startswith(f'{{"jsonrpc":"2.0","id":{id},'.encode())
    msgspec.json.decode(body, type=dict[str, msgspec.Raw])


@pytest.mark.parametrize("id", ["true", "false", "[]", "[1]", "{}", '{"a":1}', '"' + "x" * 1100 + '"'])
def test_ids_of_other_types_are_refused(id):
    answer = ask(f'{{"jsonrpc": "2.0", "id": {id}, "method": "get_data"}}')
    assert (answer["error"]["code"], answer["id"]) == (-32600, None)


NO_JSON = [
    *(b"", b" ", b"\n", b"nul", b"'a'", b"{", b"[", b'{"a":1,}', b"[1,]", b'{"a" 1}', b"{1:2}", b"01", b"1.", b".5", b"+1", b"- 1", b"1e", b"0x10", b"// no"),
    *(b'{"jsonrpc":"2.0","id":NaN,"method":"get_data"}', b'{"jsonrpc":"2.0","id":1,"method":"sum","params":[Infinity]}', b"NaN", b"-Infinity"),
    *(b'{"jsonrpc":"2.0","id":1,"method":"get_data"} x', b'{"jsonrpc":"2.0","id":1,"method":"get_data"}{}', b"{}\x00", b"\x00{}"),
    b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"get_data"}',
    '{"jsonrpc":"2.0","id":1,"method":"get_data"}'.encode("utf-16"),
    b'{"jsonrpc":"2.0","id":"\xff","method":"get_data"}',
    b'{"jsonrpc":"2.0","id":1,"method":"get_data","params":{"\xed\xa0\x80":1}}',
    b'{"jsonrpc":"2.0","id":1,"method":"\xc3("}',
    b'{"jsonrpc":"2.0","id":"a\x01b","method":"get_data"}',
    b'{"jsonrpc":"2.0","id":"\\x41","method":"get_data"}',
    b'{"jsonrpc":"2.0","id":1,"method":"get_data","params":{"a":"\\ud800"}}',
    b"[" * 100_000 + b"]" * 100_000,
    b"[" * 100_000,
    b'{"jsonrpc":"2.0","id":1,"method":"get_data","params":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    b'{"jsonrpc":"2.0","id":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
]


@pytest.mark.parametrize("body", NO_JSON, ids=[repr(body[:24]) for body in NO_JSON])
def test_what_is_not_json(body):
    reply = RPC.answer(body)
    answer = json.loads(reply.body)
    assert (answer["error"]["code"], answer["id"], reply.calls[0].code) == (-32700, None, -32700)
    assert answer["error"]["data"]["reason"]


INVALID_REQUESTS = [
    *("1", '"x"', "null", "true", "{}", '{"id": null}', '{"jsonrpc": 2.0, "method": "get_data"}', '{"jsonrpc": 1e400, "method": "get_data"}'),
    *('{"jsonrpc": "1.0", "method": "get_data"}', '{"method": "get_data"}', '{"jsonrpc": "2.0"}', '{"jsonrpc": "2.0", "method": null}'),
    *(f'{{"jsonrpc": "2.0", "method": "get_data", "params": {params}}}' for params in ("null", "1", '"x"', "true")),
]


@pytest.mark.parametrize("body", INVALID_REQUESTS)
def test_what_is_no_request_is_answered_even_without_an_id(body):
    answer = ask(body)
    assert (answer["error"]["code"], answer["id"]) == (-32600, None)


@pytest.mark.parametrize(
    "call",
    [
        '"method": "get_data"',
        '"method": "nowhere"',
        '"method": "sum", "params": {"x": 1}',
        '"method": "sum", "params": [1e400]',
        '"method": "fails.inside"',
        '"method": "fails.own"',
        '"method": "fails.json"',
    ],
)
def test_a_notification_is_never_answered(call, caplog):
    caplog.set_level(logging.CRITICAL, "atf.query")
    body = f'{{"jsonrpc": "2.0", {call}}}'
    assert ask(body) is None
    assert ask(f"[{body}]") is None
    assert len(ask(f'[{body}, {{"jsonrpc": "2.0", "method": "get_data", "id": 1}}]')) == 1


def call(method, params=None, id=1):
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method} | ({} if params is None else {"params": params}))


@pytest.mark.parametrize("count", [1, 2, 99, MAX_BATCH])
def test_batches(count):
    answers = ask("[" + ",".join(call("sum", [n], n) for n in range(count)) + "]")
    assert answers == [result(n, n) for n in range(count)]


def test_a_batch_that_is_too_long_runs_nothing():
    ran = []
    rpc = Rpc([Method("run", Any3, None, lambda context, params: ran.append(1), "")])
    for members in ([call("run")] * (MAX_BATCH + 1), ["1"] * 300_000):
        started = time.monotonic()
        answer = json.loads(rpc.answer(("[" + ",".join(members) + "]").encode()).body)
        assert (answer["error"]["code"], ran) == (-32600, [])
        assert time.monotonic() - started < 5


def test_of_a_member_that_is_given_twice_the_last_one_counts():
    assert ask('{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "nowhere", "method": "sum", "params": [1], "params": [5]}') == result(5, 2)


def test_members_that_json_rpc_does_not_know_are_ignored():
    assert ask('{"jsonrpc": "2.0", "id": 1, "method": "sum", "auth": {"x": [1]}}') == result(0, 1)


@pytest.mark.parametrize("name", ["rpc.describe", "rpc.", "rpc", "", "trace\x00", "su", "SUM", "sum ", "__init__", "x" * 100_000])
def test_unknown_methods_are_named_with_the_nearest(name):
    answer = ask(call(name))
    assert answer["error"]["code"] == -32601
    assert answer["error"]["data"]["method"].startswith(name[:100])
    assert answer["error"]["data"]["didYouMean"][:1] == (["sum"] if name in ("su", "sum ") else [])
    assert len(json.dumps(answer)) < 1000


BAD = [
    ({}, "traceId", None),
    ([], "traceId", None),
    (["t", {}, "thread", 1, {}, 9], None, None),
    ({"traceId": 1}, "traceId", None),
    ({"traceId": None}, "traceId", None),
    ({"traceID": "t"}, "traceID", ["traceId"]),
    ({"traceId": "t", "trace_id": "t"}, "traceId", None),
    ({"traceId": "t", "ordr": 1}, "ordr", ["order"]),
    ({"traceId": "t", "order": "time"}, "order", ["timestamp"]),
    ({"traceId": "t", "order": 7}, "order", None),
    ({"traceId": "t", "limit": 0}, "limit", None),
    ({"traceId": "t", "limit": 11}, "limit", None),
    ({"traceId": "t", "limit": "5"}, "limit", None),
    ({"traceId": "t", "limit": True}, "limit", None),
    ({"traceId": "t", "limit": 3.0}, "limit", None),
    ({"traceId": "t", "limit": 10**30}, "limit", None),
    ({"traceId": "t", "window": []}, "window", None),
    ({"traceId": "t", "window": {"startNs": -1}}, "window.startNs", None),
    ({"traceId": "t", "window": {"start": 1}}, "window.start", ["startNs"]),
    ({"traceId": "t", "window": {"kinds": ["call", "retrun"]}}, "window.kinds[1]", ["return"]),
    ({"traceId": "t", "window": {"kinds": "call"}}, "window.kinds", None),
    ({"traceId": "t", "maybe": {"kinds": [7]}}, "maybe.kinds[0]", None),
    ({"traceId": "t", "x" * 100_000: 1}, "x" * 200, None),
]


@pytest.mark.parametrize(("params", "param", "near"), BAD, ids=[repr(case[0])[:40] for case in BAD])
def test_bad_params_say_which_and_what_is_allowed(params, param, near):
    answer = ask(call("rich", params))
    assert answer["error"]["code"] == -32602
    data = answer["error"]["data"]
    assert (data["param"] or "")[:200] == (param or "")
    assert data["reason"]
    assert data.get("didYouMean", [])[:1] == (near or [])
    assert len(json.dumps(answer)) < 2000


def test_choices_are_listed():
    assert ask(call("rich", {"traceId": "t", "order": "time"}))["error"]["data"]["hint"] == "one of: timestamp, thread"
    assert "list" in ask(call("rich", {"traceId": "t", "window": {"kinds": "call"}}))["error"]["data"]["hint"]
    assert "traceId, window, order" in ask(call("rich", {"ordr": 1}))["error"]["data"]["hint"]


@pytest.mark.parametrize(
    "params",
    [["t"], ["t", {"startNs": 3}], {"traceId": "t"}, {"trace_id": "t", "window": {"start_ns": 3}}, {"traceId": "t", "limit": None, "window": None, "maybe": None}],
)
def test_params_by_name_by_position_and_in_snake_case(params):
    said = ask(call("rich", params))["result"]
    assert said["traceId"] == "t"
    assert said["window"]["startNs"] == (3 if "startNs" in str(params) or "start_ns" in str(params) else 0)
    assert said["limit"] == 5


def test_failures_inside_a_method(caplog):
    caplog.set_level(logging.CRITICAL, "atf.query")
    for name in ("fails.inside", "fails.json", "fails.text"):
        reply = RPC.answer(call(name).encode())
        said = json.loads(reply.body)["error"]
        assert (said["code"], reply.calls[0].code) == (-32603, -32603), name
        assert "Traceback" not in str(said)
        assert "line " not in str(said)
    assert ask(call("fails.usage"))["error"] == {"code": -32602, "message": "Invalid params", "data": {"param": None, "reason": "this cannot be used"}}
    assert ask(call("fails.format"))["error"] == {"code": -32004, "message": "Trace damaged", "data": {"reason": "that is damaged"}}
    assert ask(call("fails.own"))["error"]["data"] == {"reason": "too much"}
    assert ask(call("fails.badly"))["error"]["code"] == -32000


def test_the_log_has_the_traceback(caplog):
    ask(call("fails.inside"))
    assert "TypeError" in caplog.text


def test_what_was_done_is_told():
    members = [call("page", [1]), call("nowhere"), "7", call("sum", {"x": 1})]
    done = RPC.answer(f"[{','.join(members)}]".encode()).calls
    assert [(one.method, one.code, one.rows) for one in done] == [("page", 0, 7), ("", -32601, None), ("", -32600, None), ("sum", -32602, None)]
    assert all(one.duration_ms >= 0 for one in done)


def test_refuse_answers_each_under_its_id():
    body = b'[{"jsonrpc":"2.0","id":1.50,"method":"sum"},{"jsonrpc":"2.0","method":"sum"},7]'
    answers = json.loads(RPC.refuse(body, -32002, {"reason": "full"}).body)
    assert [(one["id"], one["error"]["code"]) for one in answers] == [(1.5, -32002), (None, -32002)]


class Bounded(Caller):
    """Room for `answer_bytes`; takes a token a call."""

    def __init__(self, answer_bytes, calls=1 << 30):
        self.answer_bytes, self.calls = answer_bytes, calls

    def one(self, room):
        self.calls -= 1
        if self.calls < 0:
            raise RpcError(-32001, {"reason": "x" * 500})
        return Bounded(room)

    def finish(self, result):
        encoded = msgspec.json.encode(result)
        if len(encoded) > self.answer_bytes:
            raise RpcError(-32003, {"reason": "y" * 500})
        return encoded


LONG = Rpc([Method("long", Any3, str, lambda context, params: "z" * params.a, "")])


@pytest.mark.parametrize(("count", "each", "room"), [(1, 700, 1000), (1, 990, 1000), (100, 10, 20_000), (100, 3000, 20_000), (50, 1, 20_000), (100, 10**6, 20_000)])
def test_a_batch_keeps_to_its_room(count, each, room):
    bodies = ",".join(call("long", [each], "i" * 20) for _ in range(count))
    body = LONG.answer(f"[{bodies}]".encode(), Bounded(room)).body
    assert len(body) <= room
    codes = [one.get("error", {}).get("code", 0) for one in json.loads(body)]
    assert len(codes) == count
    assert codes[0] == (0 if each + 200 < room else -32003)


def test_a_caller_may_refuse_a_call():
    answers = json.loads(LONG.answer(f"[{','.join([call('long', [1])] * 3)}]".encode(), Bounded(1 << 20, calls=2)).body)
    assert [one.get("error", {}).get("code", 0) for one in answers] == [0, 0, -32001]


def test_bind_reads_a_dict_of_structs_by_its_own_keys():
    class Many(Params):
        windows: dict[str, Window] | None = None

    assert bind(Many, {"windows": {"startNs": {"startNs": 5}}}).windows["startNs"].start_ns == 5
