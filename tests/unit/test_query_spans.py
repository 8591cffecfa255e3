"""spans.list, spans.path, spans.tree and functions.top against slow Python, on random sessions."""

import sys
from pathlib import Path

import msgspec
import pytest

from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.pages import fit_columns
from atf.query.rpc import INVALID_PARAMS, TOO_LARGE, Rpc, RpcError
from atf.query.traces import Traces

sys.path.insert(0, str(Path(__file__).parents[1]))
import spancases

pytestmark = pytest.mark.at_rest
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


@pytest.fixture(scope="module", params=range(20, 28))
def case(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("spans")
    found = spancases.Case(root, request.param)
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


# spans.list


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


# spans.path


def test_path_is_the_oracles(case):
    for row in case.rng.sample(case.rows, 25):
        if next(r for r in case.rows if r.id == row.id) is not row:
            continue
        path, at = [], row
        while at is not None:
            path.insert(0, {name: MEMBERS[name](at) for name in ("spanId", "depth", "status", "moduleName", "startTimeNs")})
            at = at.above
        rows, total = walk(case, "spans.path", spanId=row.id, limit=2, shape=case.rng.choice(("rows", "columns")))
        assert total == len(path) and [{name: got[name] for name in path[0]} for got in rows] == path
        assert [got["spanId"] for got in case.ask("spans.path", spanId=row.id, offset=1)["spans"]] == [one["spanId"] for one in path[1:]]
    data = refused(case, "spans.path", spanId="1:2:3")
    assert data["param"] == "spanId" and "spans.list" in data["hint"]


# spans.tree


def expected_tree(case, roots, depth, most, least):
    """{id: [ids of the children shown, in order]} by the rules of the document: level by level, the longest of a level stay."""
    shown = {id(row): [] for row in roots}
    level, left = roots, most - len(roots)
    for _ in range(depth):
        below = [(parent, row) for parent in level for row in case.rows if row.above is parent and row.duration >= least]
        longest = sorted(range(len(below)), key=lambda n: (-below[n][1].duration, n))[:left]
        level = []
        for n in sorted(longest):
            parent, row = below[n]
            shown[id(parent)].append(row)
            shown[id(row)] = []
            level.append(row)
        left -= len(level)
    return shown


def check_node(node, row, shown, root):
    start = row.start - root
    assert (node["spanId"], node["functionName"], node["moduleName"]) == (row.id, row.name, row.module)
    assert (node["startRelativeNs"], node["durationNs"], node["selfTimeNs"]) == (start, row.duration, row.self_ns)
    assert (node["status"], node["childCount"]) == (row.span.status, row.span.children)
    assert node.get("activeTimeNs", row.duration) == row.span.active
    children = shown[id(row)]
    assert len(node.get("children", ())) == len(children)
    assert node.get("moreChildren", 0) == row.span.children - len(children)
    for child, of in zip(node.get("children", ()), children):
        check_node(child, of, shown, root)


def test_tree_is_the_oracles(case):
    rng, trace_start = case.rng, case.ask("trace.info")["timeStartNs"]
    for _ in range(25):
        row = rng.choice(case.rows)
        depth, most, least = rng.choice((0, 1, 2, 9)), rng.choice((1, 2, 5, 40, 2000)), rng.choice((0, 0, 3, 30))
        params = {"depth": depth, "maxNodes": most, "minDurationNs": least}
        kind = rng.choice(("span", "time", "thread", "all"))
        if kind in ("span", "time"):
            params |= {"spanId": row.id} if kind == "span" else {"threadId": row.tid, "timeNs": row.start}
            if kind == "time":
                open_then = [r for r in case.rows if r.tid == row.tid and r.start <= row.start <= r.span.end]
                row = [r for r in open_then if r.thread == open_then[0].thread][-1]
            row = next(r for r in case.rows if r.id == row.id)
            roots, total = [row], 1
        else:
            params |= {"threadId": row.tid} if kind == "thread" else {}
            roots = [r for r in case.rows if r.depth == 0 and r.duration >= least and (kind == "all" or r.tid == row.tid)]
            total = len(roots)
            roots = sorted(sorted(roots, key=lambda r: r.key("duration"), reverse=True)[:most], key=lambda r: r.key("start"))
        answer = case.ask("spans.tree", **params)
        shown = expected_tree(case, roots, depth, most, least)
        assert (answer["metadata"]["rootCount"], answer["metadata"]["nodeCount"]) == (total, len(shown)) and len(shown) <= max(most, 1)
        assert len(answer["nodes"]) == len(roots) and answer["traceStartNs"] == trace_start
        for node, root in zip(answer["nodes"], roots):
            assert (node["threadId"], node["depth"]) == (root.tid, root.depth)
            check_node(node, root, shown, trace_start)
        above, at = [], roots[0].above if kind in ("span", "time") else None
        while at is not None:
            above.insert(0, at.id)
            at = at.above
        assert [node["spanId"] for node in answer["ancestors"]] == above


def test_a_tree_that_is_too_large_is_cut(case):
    whole = case.ask("spans.tree", depth=50, maxNodes=2000)
    answer = case.ask("spans.tree", answer_bytes=6000, depth=50, maxNodes=2000)
    assert answer["metadata"]["didTruncate"] and 1 <= answer["metadata"]["nodeCount"] < whole["metadata"]["nodeCount"]
    assert "didTruncate" not in whole["metadata"] and whole["metadata"]["nodeCount"] == len(case.rows)


def test_tree_refuses(case):
    row = case.rows[0]
    assert refused(case, "spans.tree", spanId="7")["param"] == "spanId"
    assert refused(case, "spans.tree", spanId=row.id, threadId=row.tid)["param"] == "spanId"
    assert refused(case, "spans.tree", timeNs=5)["param"] == "timeNs"
    assert refused(case, "spans.tree", threadId=row.tid, timeNs=5)["param"] == "timeNs"
    unknown = refused(case, "spans.tree", threadId=123456)
    assert unknown["param"] == "threadId" and str(row.tid) in unknown["hint"]


def test_ancestors_that_are_many_are_counted(tmp_path):
    import tracefiles as tf

    events = [tf.event(10 + n, 1, tf.CALL, n + 1) for n in range(300)] + [tf.event(500 + n, 1, tf.RETURN, 300 - n) for n in range(300)]
    tf.write_process(tmp_path / "session_1", 9, {0: (9, events, ())}, tf.manifest({0: {"tid": 9}}, {1: ("f", "", 0)}, {}, pid=9))
    context = Context(Traces(tmp_path))
    answer = RPC.call(context, "spans.tree", {"traceId": "session_1", "spanId": "9:309:299"})
    assert len(answer.ancestors) == 64 and answer.more_ancestors == 235 and answer.ancestors[-1].span_id == "9:308:298"
    path = RPC.call(context, "spans.path", {"traceId": "session_1", "spanId": "9:309:299"})
    assert path.metadata.total_count == path.metadata.returned_count == 300
    assert len(msgspec.json.encode(RPC.call(context, "spans.tree", {"traceId": "session_1", "depth": 100}))) > 1000


# functions.top


@pytest.mark.parametrize("group", ["function", "module", "file", "thread"])
def test_top_is_the_oracles(case, group):
    rng = case.rng
    for by in ("self", "total", "count", "mean", "min", "max", "p50", "p95", "p99", "exceptions"):
        filters = case.random_filters() if rng.random() < 0.7 else {}
        expected = []
        for name, (count, total, active, self_ns, low, high, exceptions, times) in spancases.sums(case.passing(filters), group).items():
            ranks = {f"p{p}Ns": spancases.nearest_rank(times, p) for p in (50, 95, 99)}
            row = {"count": count, "totalNs": total, "selfNs": self_ns, "minNs": low, "maxNs": high, "meanNs": active // count}
            row |= {**ranks, "exceptions": exceptions}
            expected.append(row | names_of(case, group, name))
        member = by if by in ("count", "exceptions") else f"{by}Ns"
        expected.sort(key=lambda row: (-row[member], order_of(row, group)))
        params = {"by": by, "group": group, "filters": filters, "shape": rng.choice(("rows", "columns"))}
        rows, total = walk(case, "functions.top", "functions", **params, limit=rng.choice((2, 7, 100)))
        if group != "file":
            assert [{k: v for k, v in row.items() if k in expected[0]} for row in rows] == expected, params
        assert total == len(expected) and sorted(map(comparable, rows)) == sorted(map(comparable, expected))
        offset = rng.randrange(4)
        assert rows_of(case.ask("functions.top", **params, offset=offset, limit=3), "functions") == rows[offset : offset + 3]


def names_of(case, group, name):
    if group == "thread":
        return {"threadId": case.tids[name], "threadName": "worker"}
    if group == "function":
        return dict(zip(("functionName", "moduleName", "file", "line"), name))
    return {"moduleName" if group == "module" else "file": name}


def order_of(row, group):
    if group == "thread":
        return row["threadId"]
    return tuple(row.get(name, "") for name in ("functionName", "moduleName", "file", "line")) if group == "function" else row.get("moduleName")


def comparable(row):
    return sorted((name, value) for name, value in row.items() if name.endswith("Ns") or name in ("count", "exceptions"))


# Beside the methods


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
