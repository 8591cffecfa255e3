"""spans.tree and spans.path against slow Python, on random sessions."""

import msgspec
import pytest

from atf.query.context import Context
from atf.query.traces import Traces

from span_answers import MEMBERS, RPC, asked_case, refused, walk

pytestmark = pytest.mark.at_rest


@pytest.fixture(scope="module", params=range(20, 28))
def case(request, tmp_path_factory):
    return asked_case(tmp_path_factory.mktemp("spans"), request.param)


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
