"""spans.list against slow Python, on random sessions."""

import msgspec
import pytest

from atf.query.context import Context
from atf.query.pages import fit_columns
from atf.query.rpc import TOO_LARGE, RpcError
from atf.query.traces import Traces

from span_answers import ALL, DEFAULT, MEMBERS, ORDERS, RPC, asked_case, refused, rows_of, spancases, walk

pytestmark = pytest.mark.at_rest


@pytest.fixture(scope="module", params=range(20, 28))
def case(request, tmp_path_factory):
    return asked_case(tmp_path_factory.mktemp("spans"), request.param)


def test_list_has_the_published_defaults(case):
    answer = case.ask("spans.list")
    assert [tuple(row) for row in answer["spans"][:3]] == [DEFAULT] * 3
    said = answer["metadata"]
    assert said["totalCount"] == said["returnedCount"] == len(case.rows) and (said["offset"], said["limit"]) == (0, 1000)
    assert not said["hasMore"] and said["executionTimeMs"] >= 0
    camel = {"returns_without_call": "returnsWithoutCall", "yields_without_call": "yieldsWithoutCall", "gaps": "gaps"}
    camel |= {"resumes_without_call": "resumesWithoutCall", "events_lost": "eventsLost"}
    assert said.get("unmatched", {}) == {camel[name]: n for name, n in case.counts.items() if n}
    roots = case.ask("spans.list", include_children=False, filters={"max_depth": 3})
    assert [row["spanId"] for row in roots["spans"]] == [r.id for r in sorted(case.rows, key=lambda r: r.key("start")) if r.depth == 0]
    nothing = case.ask("spans.list", filters={"functionNames": ["nobody"]})
    assert nothing["spans"] == [] and nothing["metadata"]["totalCount"] == 0 and "nextCursor" not in nothing["metadata"]
    assert set(case.ask("spans.list", projection=dict.fromkeys(DEFAULT, False), limit=2)["spans"][0]) == set()


def test_list_is_the_oracles(case):
    rng = case.rng
    for number in range(40):
        filters, shown = case.random_filters(), {name: rng.random() < 0.5 for name in rng.sample(sorted(MEMBERS), 6)}
        order, ascending = rng.choice(sorted(ORDERS)), rng.choice((None, True, False))
        reverse = order != "startTime" if ascending is None else not ascending
        passing = sorted(case.passing(filters), key=lambda row: row.key(ORDERS[order]), reverse=reverse)
        names = [name for name in MEMBERS if shown.get(name, name in DEFAULT)]
        expected = [{name: MEMBERS[name](row) for name in names} for row in passing]
        params = {"filters": filters, "projection": shown, "orderBy": order, "shape": rng.choice(("rows", "columns"))}
        params |= {} if ascending is None else {"ascending": ascending}
        offset, limit = rng.choice((0, 1, 9)), rng.choice((1, 5, 1000))
        answer = case.ask("spans.list", **params, offset=offset, limit=limit)
        if names:
            assert rows_of(answer) == expected[offset : offset + limit], params
        assert answer["metadata"]["totalCount"] == len(expected)
        assert answer["metadata"]["hasMore"] == (offset + limit < len(expected))
        if number < 12 and names:
            assert walk(case, "spans.list", **params, limit=rng.choice((3, 17, 100))) == (expected, len(expected))


@pytest.mark.parametrize("shape", ["rows", "columns"])
def test_an_answer_that_is_too_large_is_cut_and_goes_on(case, shape):
    whole = case.ask("spans.list", projection=ALL)["spans"]
    answer = case.ask("spans.list", answer_bytes=8192, projection=ALL, shape=shape)
    assert answer["metadata"]["didTruncate"] and 1 <= answer["metadata"]["returnedCount"] < len(whole)
    assert walk(case, "spans.list", answer_bytes=8192, projection=ALL, shape=shape)[0] == whole
    with pytest.raises(RpcError) as why:
        case.ask("spans.list", answer_bytes=2100, projection=ALL)
    assert why.value.code == TOO_LARGE


@pytest.mark.parametrize("shape", ["rows", "columns"])
@pytest.mark.parametrize("wide", [1, 100])
@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 30_000])
def test_a_page_is_as_long_as_fits(shape, wide, count):
    asked = []

    def build(n):
        asked.append(n)
        return {"a": list(range(n)), "b": ["x" * wide if i % 3 else msgspec.UNSET for i in range(n)]}

    room = 64 * 1024
    text, fitting = fit_columns(build, count, shape, room)
    decoded = msgspec.json.decode(text)
    rows = decoded if shape == "rows" else [dict(zip(decoded, values)) for values in zip(*decoded.values())]
    assert len(rows) == fitting and [row["a"] for row in rows] == list(range(fitting)) and len(text) <= room
    assert fitting == count or len(text) > 0.75 * room
    assert max(asked, default=0) <= max(1000, 2 * fitting)


def test_times_since_the_start(case):
    first = case.ask("trace.info")["timeStartNs"]
    rows = case.ask("spans.list", projection={"startRelativeNs": True})["spans"]
    assert [row["startTimeNs"] - first for row in rows] == [row["startRelativeNs"] for row in rows]


def test_cursors_belong_to_a_question(case):
    asked = {"limit": 2, "orderBy": "duration", "filters": {"minDepth": 0}}
    cursor = case.ask("spans.list", **asked)["metadata"]["nextCursor"]
    same = {**asked, "limit": 5, "shape": "columns", "projection": {"depth": True}}
    assert case.ask("spans.list", **same, cursor=cursor)["metadata"]["returnedCount"] == 5
    for other in ({"filters": {"minDepth": 1}}, {"orderBy": "startTime"}, {"ascending": True}, {"includeChildren": False}):
        assert refused(case, "spans.list", **{**asked, **other}, cursor=cursor)["param"] == "cursor"
    for bad in ("x", cursor[:-3], cursor + "A"):
        assert refused(case, "spans.list", **asked, cursor=bad)["param"] == "cursor"
    assert refused(case, "spans.list", **asked, cursor=cursor, offset=3)["param"] == "offset"
    assert refused(case, "functions.top", cursor=cursor)["param"] == "cursor"


@pytest.mark.parametrize(
    "params,param",
    [
        ({"filters": {"status": ["late"]}}, "filters.status[0]"),
        ({"filters": {"minDurationNs": -1}}, "filters.minDurationNs"),
        ({"filters": {"minDurationNs": 1.5}}, "filters.minDurationNs"),
        ({"filters": {"threadId": [1]}}, "filters.threadId"),
        ({"projection": {"durations": True}}, "projection.durations"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"orderBy": "size"}, "orderBy"),
        ({"shape": "tree"}, "shape"),
    ],
)
def test_list_refuses(case, params, param):
    assert refused(case, "spans.list", **params)["param"] == param


def test_details_are_given_where_they_were_recorded(tmp_path):
    from trace_session import session

    name = session(tmp_path).name
    shown = dict.fromkeys(("args", "result", "exception", "attributes"), True)
    answer = RPC.call(Context(Traces(tmp_path)), "spans.list", {"traceId": name, "projection": shown})
    got = {row["spanId"]: {k: v for k, v in row.items() if k in shown} for row in msgspec.json.decode(answer.spans)}
    found = {span: said for span, said in got.items() if said}
    assert len(got) == 7 and found == {
        "200:100:0": {"args": {"n": 3, "who": {"~": "app.Model"}}, "result": [1, 2]},
        "200:120:2": {"exception": {"type": "builtins.ValueError", "message": "no"}},
        "200:165:7": {"attributes": {"file": "a.txt"}},
    }
    answer = RPC.call(Context(Traces(tmp_path)), "spans.list", {"traceId": name, "projection": shown, "shape": "columns", "limit": 3})
    assert msgspec.json.decode(answer.spans)["exception"] == [None, None, None]


def test_recorded_values_become_json():
    import numpy

    from atf.jsonable import jsonable

    class Odd:
        def __str__(self):
            return "odd"

    value = {1: float("nan"), None: [b"\x01\xff", (True, None)], "f": 0.5, "n": numpy.arange(2), "u": numpy.uint64(3), "o": Odd()}
    assert jsonable(value) == {"1": "nan", "None": ["01ff", [True, None]], "f": 0.5, "n": [0, 1], "u": 3, "o": "odd"}
    assert jsonable([-float("inf"), 1 << 63]) == ["-inf", 1 << 63]


def test_a_growing_trace_says_so(tmp_path):
    import os

    import tracefiles as tf

    events = [tf.event(10, 1, tf.CALL), tf.event(20, 1, tf.RETURN), tf.event(30, 1, tf.CALL)]
    said = tf.manifest({0: {"tid": 9}}, {1: ("f", "", 0)}, {}, pid=os.getpid())
    tf.write_process(tmp_path / "session_1", os.getpid(), {0: (9, events, ())}, {**said, "status": "recording"}, finalized=False)
    for method in ("spans.list", "spans.tree", "functions.top"):
        metadata = RPC.call(Context(Traces(tmp_path)), method, {"traceId": "session_1"}).metadata
        assert metadata.growing is True and metadata.as_of_ns == 30


def test_info_knows_the_number_of_spans_once_they_were_asked_for(tmp_path):
    case = spancases.Case(tmp_path, 5)
    context = Context(Traces(tmp_path))
    assert RPC.call(context, "trace.info", {"traceId": case.name}).span_count is None
    RPC.call(context, "spans.list", {"traceId": case.name})
    assert RPC.call(context, "trace.info", {"traceId": case.name}).span_count == len(case.rows)


def test_time_is_bounded(case):
    for method, params in (("spans.list", {"filters": {"minDepth": 1}}), ("functions.top", {"filters": {"minDepth": 1}}), ("spans.tree", {})):
        context = Context(Traces(case.path.parent), timeout_s=-1)
        with pytest.raises(RpcError) as why:
            RPC.call(context, method, {"traceId": case.name, **params})
        assert why.value.code == TOO_LARGE and why.value.data["hint"]
