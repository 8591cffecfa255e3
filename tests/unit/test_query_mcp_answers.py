"""Answers within a number of tokens, and the schemas that say what goes in and comes out."""

import sys
from pathlib import Path

import msgspec
import pytest

from atf.query.context import Context
from atf.query.mcp.answers import ask, shortened
from atf.query.mcp.schemas import input_schema, output_schema
from atf.query.mcp.tools import BYTES_PER_TOKEN, LEAST_TOKENS, TOOLS, Tool, offered
from atf.query.methods import all_methods
from atf.query.pages import Limit, Metadata, Shape
from atf.query.params import Params, Result
from atf.query.rpc import Method, Rpc, RpcError
from atf.query.traces import Traces

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
from schemacheck import faults


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    root = tmp_path_factory.mktemp("traces")
    doctraces.write(root)
    return Traces(root)


@pytest.fixture(scope="module")
def rpc():
    return Rpc(all_methods())


@pytest.fixture
def call(rpc, traces):
    def called(name, **arguments):
        tool = next(tool for tool in TOOLS if tool.name == name)
        given = {"traceId": doctraces.MONDAY, **arguments}
        text, _ = ask(rpc, Context(traces), tool, {name: value for name, value in given.items() if value is not None})
        tokens = arguments.get("maxTokens", 4000)
        assert len(text) <= tokens * BYTES_PER_TOKEN
        result = msgspec.json.decode(text)
        assert faults(result, output_schema(rpc.methods[tool.method])) == []
        return result

    return called


def test_listings_come_as_columns_with_a_cursor_and_a_note(call):
    seen, arguments = [], {"limit": 7, "filters": {"functionNames": ["handle", "price"]}}
    while True:
        page = call("spans_list", **arguments)
        seen += page["spans"]["spanId"]
        if "nextCursor" not in page["metadata"]:
            break
        assert page["note"].startswith("7 of ") and "cursor" in page["note"]
        arguments["cursor"] = page["metadata"]["nextCursor"]
    assert "note" not in page and len(seen) == page["metadata"]["totalCount"] == len(set(seen))


def test_an_answer_shrinks_with_its_tokens_and_the_cursor_goes_on(call):
    whole = call("spans_list", limit=10_000, maxTokens=25_000)["spans"]["spanId"]
    seen, cursor, pages = [], None, 0
    while True:
        page = call("spans_list", limit=10_000, maxTokens=LEAST_TOKENS, **({"cursor": cursor} if cursor else {}))
        seen += page["spans"]["spanId"]
        pages += 1
        assert page["metadata"]["limit"] == 10_000  # the method itself knew how many bytes there were
        cursor = page["metadata"].get("nextCursor")
        if cursor is None:
            break
    assert seen == whole and pages > 1


def test_defaults_of_a_tool_give_way(call):
    assert isinstance(call("spans_list", shape="rows", limit=2)["spans"], list)
    assert {"endTimeNs", "startTimeNs"} & set(call("spans_list")["spans"]) == set()
    members = set(call("spans_list", projection={"end_time_ns": True, "selfTimeNs": False})["spans"])
    assert "endTimeNs" in members and "selfTimeNs" not in members and "status" in members


def test_nothing_found_says_where_the_names_are(call):
    assert "functions_top" in call("spans_list", filters={"functionNames": ["nobody"]})["note"]


@pytest.mark.parametrize(
    ("name", "arguments", "word"),
    [("trace_compare", {"other": doctraces.MONDAY}, "minChange"), ("events_chain", {"requestId": "nobody"}, "request_id")],
)
def test_nothing_found_says_what_would_be(call, name, arguments, word):
    assert word in call(name, **arguments)["note"]


def test_ids_go_from_tool_to_tool(call):
    slowest = call("spans_list", orderBy="duration", ascending=False, filters={"functionNames": ["handle"]}, limit=1)["spans"]
    tree = call("spans_tree", spanId=slowest["spanId"][0])
    assert tree["nodes"][0]["functionName"] == "handle" and tree["ancestors"]


EACH = {
    "traces_list": {"traceId": None},
    "trace_info": {},
    "trace_summary": {},
    "functions_top": {},
    "spans_list": {},
    "spans_tree": {"depth": 9},
    "events_get": {"projection": {"detail": True, "attributes": True}},
    "events_detail": {"eventId": "422:20"},
    "events_chain": {"requestId": "r-1"},
    "trace_compare": {"other": doctraces.TUESDAY},
}


@pytest.mark.parametrize("tokens", [LEAST_TOKENS, 4000])
@pytest.mark.parametrize("name", EACH)
def test_each_tool_answers_within_its_tokens_and_as_its_schema_says(call, name, tokens):
    """To the last page, where there are pages."""
    arguments = {**EACH[name], "maxTokens": tokens}
    for _ in range(100):
        found = call(name, **arguments)
        cursor = found.get("metadata", {}).get("nextCursor")
        assert ("note" in found) or cursor is None
        if cursor is None:
            return
        arguments["cursor"] = cursor
    raise AssertionError("the pages do not end")


def test_each_tool_is_asked():
    assert set(EACH) == {tool.name for tool in TOOLS}


class Asked(Params):
    limit: Limit = 100
    shape: Shape = "rows"


class Row(Result):
    number: int
    text: str


class Rows(Result):
    rows: list[Row]
    metadata: Metadata


class Wide(Result):
    name: str
    members: list[str]
    columns: dict[str, list[int]]


class Tree(Result):
    name: str
    children: "list[Tree]"


def careless(context, params):
    """A listing that does not look at `answer_bytes`."""
    rows = [Row(number=n, text="x" * 40) for n in range(params.limit)]
    metadata = Metadata(
        total_count=100, returned_count=len(rows), offset=0, limit=params.limit, has_more=params.limit < 100, execution_time_ms=0.0,
        next_cursor=f"at {params.limit}",
    )  # fmt: skip
    return Rows(rows=rows, metadata=metadata)


def single(result, run, params=Asked, **more):
    rpc = Rpc([Method("a.b", params, result, run, "")])
    return lambda **arguments: msgspec.json.decode(ask(rpc, Context(Traces(".")), Tool("a.b", "", "", **more), arguments)[0])


def test_a_method_that_gives_too_much_is_asked_for_less():
    page = single(Rows, careless)(maxTokens=LEAST_TOKENS)
    count = len(page["rows"])
    assert 20 < count < 100 and page["metadata"]["nextCursor"] == f"at {count}" and page["note"].startswith(f"{count} of 100 rows")


def test_what_is_no_listing_is_cut_at_its_largest_list():
    found = single(Wide, lambda c, p: Wide(name="n", members=["x" * 50] * 1000, columns={"a": list(range(50)), "b": [0] * 50}), Params)()
    assert found["name"] == "n" and 100 < len(found["members"]) < 1000
    assert len(found["columns"]["a"]) == 50
    assert found["note"].startswith(f"members: {len(found['members'])} of 1000 shown")


def test_columns_are_cut_alike():
    found = single(Wide, lambda c, p: Wide(name="n", members=[], columns={"a": list(range(9999)), "b": [7] * 9999}), Params)()
    assert found["columns"]["a"] == list(range(len(found["columns"]["b"]))) and 100 < len(found["columns"]["b"]) < 9999


def test_what_cannot_be_cut_is_an_error_that_says_what_would_do():
    with pytest.raises(RpcError) as error:
        single(Wide, lambda c, p: Wide(name="n" * 50_000, members=["x"], columns={}), Params)()
    assert error.value.code == -32003 and "maxTokens" in error.value.data["hint"]


@pytest.mark.parametrize("room", [200, 1000, 5000])
def test_shortened_fits_and_keeps_the_front(room):
    value = {"a": list(range(3000)), "b": {"c": [{"d": list(range(20))} for _ in range(20)]}, "e": "kept"}
    text, cut = shortened(msgspec.json.encode(value), room)
    found = msgspec.json.decode(text)
    assert len(text) <= room and found["e"] == "kept" and found["a"] == list(range(len(found["a"]))) and cut


def test_input_schemas_have_no_references_and_hide_what_programs_need(rpc):
    for tool in offered(rpc.methods):
        schema = input_schema(tool, rpc.methods[tool.method])
        text = msgspec.json.encode(schema).decode()
        assert "$ref" not in text and '"null"' not in text and '"title"' not in text
        assert schema["type"] == "object" and schema["additionalProperties"] is False
        assert "offset" not in schema["properties"] and schema["properties"]["maxTokens"]["default"]
        for name, value in tool.defaults.items():
            if not isinstance(value, dict):
                assert schema["properties"][name]["default"] == value


def test_input_schemas_accept_what_the_method_accepts(rpc):
    tool = next(tool for tool in TOOLS if tool.name == "spans_list")
    schema = input_schema(tool, rpc.methods["spans.list"])
    assert faults({"traceId": "x", "filters": {"functionNames": ["a"], "minDurationNs": 3}, "projection": {"depth": True}}, schema) == []
    for wrong in ({}, {"traceId": 1}, {"traceId": "x", "limit": 0}, {"traceId": "x", "filters": {"name": "a"}}, {"traceId": "x", "x": 1}):
        assert faults(wrong, schema)


def test_the_definitions_are_short(rpc):
    shown = [{**{k: getattr(t, k) for k in ("name", "description")}, "s": input_schema(t, rpc.methods[t.method])} for t in offered(rpc.methods)]
    assert len(msgspec.json.encode(shown)) // BYTES_PER_TOKEN < 6_000


def test_a_result_that_holds_itself_has_a_schema():
    schema = output_schema(Method("a.b", Params, Tree, print, ""))
    leaf = {"name": "a", "children": []}
    assert faults({"name": "a", "children": [leaf, {**leaf, "children": [leaf]}], "note": "n"}, schema) == []
    assert faults({"name": "a", "children": [{"name": 3, "children": []}]}, schema)
