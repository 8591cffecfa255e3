"""The protocol for assistants: what each revision's messages are answered, over headers and without."""

import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atf.query.context import Context
from atf.query.mcp.server import LEGACY, MODERN, Server
from atf.query.mcp.tools import MOST_TOKENS, MOST_TOOLS, TOOLS
from atf.query.methods import all_methods
from atf.query.params import Params, Result
from atf.query.rpc import Method, Rpc
from atf.query.traces import Traces

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces

META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
INIT = {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    root = tmp_path_factory.mktemp("traces")
    doctraces.write(root)
    return Traces(root)


@pytest.fixture(scope="module")
def server():
    return Server(Rpc(all_methods()))


@pytest.fixture
def ask(server, traces):
    def asked(message, headers=None):
        body = message if isinstance(message, bytes) else msgspec.json.encode(message)
        found = server.answer(body, Context(traces), headers)
        return found.status, None if found.body is None else msgspec.json.decode(found.body)

    return asked


def request(method, params=None, id=1):
    return {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}


def modern(method, params=None, **more):
    """(message, headers) as a client of the stateless revision sends them."""
    headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
    if params and "name" in params:
        headers["mcp-name"] = params["name"]
    return request(method, {**(params or {}), "_meta": META}), {**headers, **more}


INFO = {"name": "trace_info", "arguments": {"traceId": doctraces.MONDAY}}


@pytest.mark.parametrize("asked", [*LEGACY, "2024-11-05", "1999-01-01", 7, None])
def test_initialize_settles_a_revision(ask, asked):
    status, reply = ask(request("initialize", {**INIT, "protocolVersion": asked}))
    assert status == 200 and reply["result"]["protocolVersion"] == (asked if asked in LEGACY else LEGACY[0])
    assert reply["result"]["serverInfo"]["name"] == "atf" and reply["result"]["capabilities"] == {"tools": {"listChanged": False}}


def test_requests_before_and_without_initialize_are_answered(ask):
    assert ask(request("ping")) == (200, {"jsonrpc": "2.0", "id": 1, "result": {}})
    status, reply = ask(request("tools/call", INFO, id="x"))
    assert (status, reply["id"], reply["result"]["isError"]) == (200, "x", False)
    assert reply["result"]["structuredContent"]["traceId"] == doctraces.MONDAY
    assert msgspec.json.decode(reply["result"]["content"][0]["text"]) == reply["result"]["structuredContent"]
    assert "resultType" not in reply["result"]


@pytest.mark.parametrize("version", [None, *LEGACY])
def test_header_of_an_earlier_revision(ask, version):
    status, reply = ask(request("tools/list"), {} if version is None else {"mcp-protocol-version": version})
    assert status == 200 and reply["result"]["tools"] and "ttlMs" not in reply["result"]


@pytest.mark.parametrize("method", ["prompts/list", "resources/list", "logging/setLevel", "server/", "tools/call/x", "server/discover"])
def test_methods_we_do_not_have(ask, method):
    status, reply = ask(request(method))
    assert status == 200 or method == "server/discover"  # which belongs to the later era, and lacks its _meta here
    assert reply["error"]["code"] == (-32602 if method == "server/discover" else -32601)
    message, headers = modern(method)
    status, reply = ask(message, headers)
    assert status == (200 if method == "server/discover" else 404)


@pytest.mark.parametrize("method", ["initialize", "ping"])
def test_what_the_later_era_dropped(ask, method):
    status, reply = ask(*modern(method))
    assert (status, reply["error"]["code"]) == (404, -32601)


def test_discover_list_and_call_of_the_later_era(ask):
    status, reply = ask(*modern("server/discover"))
    assert status == 200 and reply["result"]["supportedVersions"] == [MODERN, *LEGACY]
    status, listed = ask(*modern("tools/list"))
    for result in (reply["result"], listed["result"]):
        assert result["resultType"] == "complete" and result["ttlMs"] >= 0 and result["cacheScope"] == "public"
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "atf"
    status, called = ask(*modern("tools/call", INFO))
    assert called["result"]["resultType"] == "complete" and called["result"]["structuredContent"]["eventCount"]


def without(key):
    return {k: v for k, v in META.items() if k != f"io.modelcontextprotocol/{key}"}


H = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}


@pytest.mark.parametrize(
    ("params", "headers", "code"),
    [
        ({}, H, -32602),
        ({"_meta": None}, H, -32602),
        ({"_meta": without("protocolVersion")}, H, -32602),
        ({"_meta": without("clientCapabilities")}, H, -32602),
        ({"_meta": {**META, "io.modelcontextprotocol/clientCapabilities": 3}}, H, -32602),
        ({"_meta": META}, {"mcp-method": "tools/list"}, -32020),
        ({"_meta": META}, {**H, "mcp-protocol-version": LEGACY[0]}, -32020),
        ({"_meta": META}, {"mcp-protocol-version": MODERN}, -32020),
        ({"_meta": META}, {**H, "mcp-method": "TOOLS/LIST"}, -32020),
        ({"_meta": {**META, "io.modelcontextprotocol/protocolVersion": "v9"}}, {**H, "mcp-protocol-version": "v9"}, -32022),
        ({}, {"mcp-protocol-version": "v9"}, -32022),
    ],
)
def test_what_the_later_era_refuses(ask, params, headers, code):
    status, reply = ask(request("tools/list", params), headers)
    assert (status, reply["id"], reply["error"]["code"]) == (400, 1, code)
    if code == -32022:
        assert reply["error"]["data"] == {"supported": [MODERN, *LEGACY], "requested": "v9"}


@pytest.mark.parametrize(
    ("said", "fits"),
    [("trace_info", True), ("=?base64?dHJhY2VfaW5mbw==?=", True), ("=?base64?dHJhY2U=?=", False), ("=?base64?*?=", False), ("Trace_info", False)],
)
def test_mcp_name_is_the_tool(ask, said, fits):
    status, reply = ask(*modern("tools/call", INFO, **{"mcp-name": said}))
    assert (status, reply.get("error", {}).get("code")) == ((200, None) if fits else (400, -32020))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b'{"jsonrpc":"2.0","id":NaN}', -32700),
        (b"\xff", -32700),
        (b"[" * 100_000, -32700),
        (b"3", -32600),
        (b"[]", -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":3}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', -32600),
        (b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}', -32700),
    ],
)
def test_bodies_that_are_no_message(ask, body, code):
    status, reply = ask(body)
    assert (status, reply["error"]["code"]) == (400, code)


@pytest.mark.parametrize("id", [0, -1, "", "é\\n", 2**60, "1"])
def test_ids_come_back(ask, id):
    assert ask(request("ping", id=id))[1]["id"] == id


def test_notifications_and_answers_of_clients_get_nothing(ask):
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}},
    ):
        assert ask(message) == (202, None)
        assert ask(message, {"mcp-protocol-version": LEGACY[0]}) == (202, None)


def test_batches_are_of_one_revision(ask):
    batch = [request("ping"), 3, {"jsonrpc": "2.0", "method": "notifications/initialized"}, request("nope", id="b")]
    for headers in (None, {}, {"mcp-protocol-version": "2025-03-26"}):
        status, replies = ask(batch, headers)
        assert status == 200 and [r.get("error", {}).get("code") for r in replies] == [None, -32600, -32601]
        assert ask(batch[2:3], headers) == (202, None)
    for version in (MODERN, "2025-06-18", "2025-11-25"):
        assert ask(batch, {"mcp-protocol-version": version})[0] == 400


@pytest.mark.parametrize("name", ["trace_inf", "", "x" * 500, 7, None])
def test_unknown_tools_are_errors_of_the_protocol(ask, name):
    status, reply = ask(request("tools/call", {"name": name, "arguments": {}}))
    assert (status, reply["error"]["code"]) == (200, -32602)
    if name == "trace_inf":
        assert reply["error"]["data"]["didYouMean"][0] == "trace_info"


HALF = b'"\\udc00"'


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":%b}' % HALF,
        b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % HALF,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%b}}' % HALF,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"trace_info","arguments":{"traceId":%b}}}' % HALF,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"trace_info","arguments":{%b:1}}}' % HALF,
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":%b}}}' % HALF,
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":%b}}' % HALF,
    ],
)
def test_half_a_surrogate_pair_is_no_json(ask, body):
    assert ask(body)[1]["error"]["code"] == -32700


def test_the_dotted_name_is_understood(ask):
    assert ask(request("tools/call", {**INFO, "name": "trace.info"}))[1]["result"]["isError"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ({}, -32602, "traceId"),
        ({"traceId": "nope"}, -32000, "traces_list names"),
        ({"traceId": "../x"}, -32000, "../x"),
        ({"traceID": doctraces.MONDAY}, -32602, "didYouMean"),
        ({"traceId": doctraces.MONDAY, "includeSamples": 3}, -32602, "includeSamples"),
        ({"traceId": doctraces.MONDAY, "maxTokens": 10}, -32602, "maxTokens"),
        ({"traceId": doctraces.MONDAY, "maxTokens": True}, -32602, "maxTokens"),
    ],
)
def test_errors_of_tools_are_results_that_a_model_reads(ask, arguments, code, said):
    status, reply = ask(request("tools/call", {"name": "trace_info", "arguments": arguments}))
    result = reply["result"]
    assert status == 200 and result["isError"] is True and "structuredContent" not in result
    error = msgspec.json.decode(result["content"][0]["text"])["error"]
    assert error["code"] == code and said in str(error["data"])


class Nothing(Params):
    pass


class Empty(Result):
    pass


def test_a_method_that_breaks_is_an_error_and_says_nothing_of_itself(traces, caplog):
    def run(context, params):
        raise RuntimeError("secret")

    server = Server(Rpc([Method("traces.list", Nothing, Empty, run, "")]))
    reply = server.answer(msgspec.json.encode(request("tools/call", {"name": "traces_list"})), Context(traces)).body
    assert b"-32603" in reply and b"isError" in reply and b"secret" not in reply
    server.tools["traces_list"] = None  # a fault of our own
    reply = server.answer(msgspec.json.encode(request("tools/call", {"name": "traces_list"})), Context(traces)).body
    server.tools["traces_list"] = object()
    reply = server.answer(msgspec.json.encode(request("tools/call", {"name": "traces_list"})), Context(traces)).body
    assert msgspec.json.decode(reply)["error"]["code"] == -32603


def test_a_body_has_at_most_256_kib(traces):
    """The result is in it twice."""

    class Much(Result):
        rows: list[dict[str, str]]

    server = Server(Rpc([Method("traces.list", Nothing, Much, lambda context, params: Much(rows=[{"a": "b"}] * 99_999), "")]))
    call = request("tools/call", {"name": "traces_list", "arguments": {"maxTokens": MOST_TOKENS}})
    body = server.answer(msgspec.json.encode(call), Context(traces)).body
    assert 180 * 1024 < len(body) < 256 * 1024


def test_a_call_that_was_given_up_is_answered_in_its_era(server):
    for message, headers in ((request("tools/call", INFO, id="a"), {}), modern("tools/call", INFO)):
        found = server.refuse(msgspec.json.encode(message), -32003, {"reason": "took longer"}, headers)
        result = msgspec.json.decode(found.body)["result"]
        assert (found.status, result["isError"], found.calls[0].code) == (200, True, -32003) and "took longer" in result["content"][0]["text"]
        assert ("resultType" in result) is bool(headers)
    assert b"-32003" in server.refuse(b"[]", -32003, {}).body


def test_what_was_done_is_told(server, traces):
    def done(method, params=None):
        (call,) = server.answer(msgspec.json.encode(request(method, params)), Context(traces)).calls
        return call.method, call.code, call.rows

    assert done("tools/call", INFO) == ("trace.info", 0, None)
    assert done("tools/call", {"name": "spans_list", "arguments": {"traceId": doctraces.MONDAY, "limit": 3}}) == ("spans.list", 0, 3)
    assert done("tools/call", {"name": "trace_info", "arguments": {"traceId": "no"}}) == ("trace.info", -32000, None)
    assert done("tools/list") == ("tools/list", 0, None)
    assert done("no/such") == ("", -32601, None) and done("tools/call", {"name": "x"}) == ("", -32602, None)


def test_tools_are_few_well_named_and_the_same_every_time(ask, server):
    assert len(TOOLS) <= MOST_TOOLS and len({tool.name for tool in TOOLS}) == len(TOOLS)
    first, second = ask(request("tools/list")), ask(request("tools/list"))
    assert first == second
    for tool in first[1]["result"]["tools"]:
        assert set(tool["name"]) <= set("abcdefghijklmnopqrstuvwxyz_") and len(tool["description"]) > 40
        assert tool["annotations"]["readOnlyHint"] is True
    assert ask(request("tools/list", {"cursor": "x"}))[1]["error"]["code"] == -32602


def test_every_tool_has_its_method(server):
    assert [tool.method for tool in TOOLS if tool.method not in server.rpc.methods] == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TOOL_NAMES = st.sampled_from([*(tool.name for tool in TOOLS), "x"])
ARGUMENTS = st.dictionaries(
    st.sampled_from(["traceId", "maxTokens", "limit", "cursor", "filters", "projection", "shape", "spanId", "trace_id", "y"]),
    st.just(doctraces.MONDAY) | VALUES,
    max_size=4,
)
PARAMS = st.fixed_dictionaries({"name": TOOL_NAMES | VALUES, "arguments": ARGUMENTS | VALUES}, optional={"_meta": st.just(META) | VALUES})
METHODS = st.sampled_from(["tools/call", "tools/call", "tools/list", "initialize", "ping", "server/discover"])
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | VALUES, "method": METHODS | VALUES, "params": PARAMS | VALUES}, optional={"id": st.just(1) | VALUES}
)
HEADERS = st.none() | st.fixed_dictionaries(
    {}, optional={"mcp-protocol-version": st.sampled_from([MODERN, *LEGACY, "x"]), "mcp-method": METHODS, "mcp-name": TOOL_NAMES}
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MESSAGES | st.lists(MESSAGES, max_size=3) | VALUES, HEADERS)
def test_whatever_is_sent_gets_an_answer_of_the_protocol(server, traces, message, headers):
    found = server.answer(msgspec.json.encode(message), Context(traces), headers)
    assert found.status in (200, 202, 400, 404) and (found.body is None) == (found.status == 202)
    replies = msgspec.json.decode(found.body or b"[]")
    for reply in replies if isinstance(replies, list) else [replies]:
        assert reply["jsonrpc"] == "2.0" and ("result" in reply) != ("error" in reply)
        assert reply.get("error", {}).get("code") != -32603 and b"-32603" not in found.body
