"""trace.flamegraph against sums made span by span."""

import collections
import json
import sys
from pathlib import Path

import pytest
from query_calls import Caller, timeless
from random_session import NAME, SYMBOLS, write

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf

pytestmark = pytest.mark.at_rest

VALUE = {"self": lambda row: row.self_ns, "active": lambda row: row.span.active, "count": lambda row: 1}


def frames(names):
    return ";".join(name.replace(";", ":") for name in names)


def lines_of(folded):
    return {name: int(value) for name, _, value in (line.rpartition(" ") for line in folded.splitlines())}


def sums(rows, weight):
    found = collections.Counter()
    for row in rows:
        found[frames(row.names())] += VALUE[weight](row)
    return {name: value for name, value in found.items() if value}


@pytest.mark.parametrize("weight", ["self", "active", "count"])
@pytest.mark.parametrize("seed", range(4))
def test_folded_lines_are_the_oracles(tmp_path, seed, weight):
    rows = write(tmp_path, seed)
    result = Caller(tmp_path)("trace.flamegraph", NAME, weight=weight)
    assert lines_of(result["folded"]) == sums(rows, weight)
    assert result["total"] == sum(VALUE[weight](row) for row in rows if weight != "active" or row.span.parent is None)
    assert result["pruned"] == {"paths": 0, "spans": 0, "value": 0} and result["unit"] == ("spans" if weight == "count" else "ns")


@pytest.mark.parametrize("weight", ["self", "active", "count"])
@pytest.mark.parametrize("seed", range(4))
def test_nodes_are_the_oracles(tmp_path, seed, weight):
    rows = write(tmp_path, seed)
    result = Caller(tmp_path)("trace.flamegraph", NAME, weight=weight, format="tree")
    by_path = collections.defaultdict(list)
    for row in rows:
        by_path[row.names()].append(row)
    names = {None: ()}
    for node in result["nodes"]:  # parents come first
        own = f"{node['moduleName']}.{node['functionName']}" if node["moduleName"] else node["functionName"]
        names[node["id"]] = path = (*names[node["parentId"]], own)
        mine = by_path.pop(path)
        value = sum(VALUE[weight](row) for row in mine)
        below = sum(VALUE[weight](row) for row in rows if row.names()[: len(path)] == path)
        assert (node["value"], node["total"], node["count"]) == (value, value if weight == "active" else below, len(mine))
        assert node["slowestSpanId"] == max(mine, key=lambda row: row.span.active).id  # the first of equal ones
    assert not by_path and len(set(names)) == result["nodeCount"] + 1


@pytest.mark.parametrize("weight", ["self", "count"])
@pytest.mark.parametrize("most", [1, 3, 10])
def test_what_is_pruned_is_counted(tmp_path, most, weight):
    rows = write(tmp_path, 5, 200)
    call = Caller(tmp_path)
    whole = call("trace.flamegraph", NAME, weight=weight, format="tree", maxNodes=20000)
    cut = call("trace.flamegraph", NAME, weight=weight, format="tree", maxNodes=most)
    assert cut["nodes"] == whole["nodes"][:most] and cut["nodeCount"] == most
    assert {node["parentId"] for node in cut["nodes"]} <= {None} | {node["id"] for node in cut["nodes"]}
    assert cut["pruned"]["paths"] == len(whole["nodes"]) - most
    assert cut["pruned"]["spans"] == len(rows) - sum(node["count"] for node in cut["nodes"])
    assert cut["pruned"]["value"] == whole["total"] - sum(node["value"] for node in cut["nodes"])
    lines = lines_of(call("trace.flamegraph", NAME, weight=weight, maxNodes=most)["folded"])
    assert sum(lines.values()) == whole["total"]
    assert sum(value for name, value in lines.items() if name.endswith("…")) == cut["pruned"]["value"] > 0


def test_small_shares_are_pruned(tmp_path):
    write(tmp_path, 6, 200)
    call = Caller(tmp_path)
    whole = call("trace.flamegraph", NAME, format="tree")
    cut = call("trace.flamegraph", NAME, format="tree", minShare=0.1)
    assert [node["total"] for node in cut["nodes"]] == [n["total"] for n in whole["nodes"] if n["total"] >= int(0.1 * whole["total"])]
    assert call("trace.flamegraph", NAME, format="tree", minShare=1.0)["nodeCount"] <= 1


def inside(span, start, end):
    return max(0, min(span.end, end) - max(span.start, start)) if span.start <= end and span.end >= start else 0


@pytest.mark.parametrize("seed", range(6))
def test_a_window_cuts_what_reaches_beyond(tmp_path, seed):
    rows = write(tmp_path, seed, 150, generators=False)
    first, last = min(r.span.start for r in rows), max(r.span.end for r in rows)
    start, end = first + (last - first) // 3, first + 2 * (last - first) // 3
    want, counts = collections.Counter(), collections.Counter()
    for row in rows:
        below = sum(inside(other.span, start, end) for other in rows if other.span.parent is row.span)
        want[frames(row.names())] += inside(row.span, start, end) - below
        counts[frames(row.names())] += row.span.start <= end and row.span.end >= start
    call = Caller(tmp_path)
    window = {"timeStartNs": start, "timeEndNs": end}
    result = call("trace.flamegraph", NAME, filters=window)
    assert lines_of(result["folded"]) == {name: value for name, value in want.items() if value} and "estimatedSpans" not in result
    assert lines_of(call("trace.flamegraph", NAME, weight="count", filters=window)["folded"]) == {n: c for n, c in counts.items() if c}
    active = lines_of(call("trace.flamegraph", NAME, weight="active", filters=window)["folded"])
    assert sum(active.values()) == sum(inside(row.span, start, end) for row in rows)


def test_what_is_estimated_is_said(tmp_path):
    write(tmp_path, 3, 400)
    call = Caller(tmp_path)
    start, end = (call("trace.info", NAME)[name] for name in ("timeStartNs", "timeEndNs"))
    middle = (start + end) // 2
    assert call("trace.flamegraph", NAME, filters={"timeEndNs": middle})["estimatedSpans"] > 0
    assert "estimatedSpans" not in call("trace.flamegraph", NAME, filters={"timeStartNs": start, "timeEndNs": end})


def test_what_runs_a_generator_of_another_is_estimated(tmp_path):
    main, run, step = (1 << 32 | n for n in range(3))
    steps = [(100, main, 1, 1), (110, step, 1, 2), (120, step, 5, 2), (130, run, 1, 2), (140, step, 6, 3), (190, step, 2, 3)]
    events = [tf.event(*one) for one in [*steps, (200, run, 2, 2), (300, main, 2, 1)]]
    tf.write_process(tmp_path / NAME, 7, {0: (100, events, ())}, tf.manifest({0: {"tid": 100}}, SYMBOLS, {1: "app"}, pid=7))
    call = Caller(tmp_path)
    lines = lines_of(call("trace.flamegraph", NAME)["folded"])
    assert lines == {"app.main": 120, "app.main;app.run": 20, "app.main;app.step": 60}
    # `run` called nothing, but is cut while something else ran on top of it.
    assert call("trace.flamegraph", NAME, filters={"timeStartNs": 135, "timeEndNs": 190})["estimatedSpans"] == 3
    assert "estimatedSpans" not in call("trace.flamegraph", NAME, filters={"timeStartNs": 135, "timeEndNs": 190}, weight="count")
    assert call("trace.flamegraph", NAME, filters={"timeStartNs": 99, "timeEndNs": 195})["estimatedSpans"] == 2


def test_threads_apart_and_threads_chosen(tmp_path):
    rows = write(tmp_path, 2)
    call = Caller(tmp_path)
    apart = lines_of(call("trace.flamegraph", NAME, byThread=True)["folded"])
    for tid in {row.tid for row in rows}:
        want = sums([row for row in rows if row.tid == tid], "self")
        assert lines_of(call("trace.flamegraph", NAME, filters={"threadIds": [tid]})["folded"]) == want
        mine = {name.partition(";")[2]: value for name, value in apart.items() if name.startswith(f"thread {tid % 10} ({tid})")}
        assert mine == want
    assert call("trace.flamegraph", NAME, filters={"threadIds": []})["folded"] == ""
    nodes = call("trace.flamegraph", NAME, byThread=True, format="tree")["nodes"]
    assert {node["slowestSpanId"] is None for node in nodes if node["parentId"] is None} == {True}


@pytest.mark.parametrize("room", [3000, 5000])
@pytest.mark.parametrize("params", [{}, {"format": "tree"}, {"format": "tree", "shape": "columns"}, {"weight": "active"}])
def test_answers_fit(tmp_path, params, room):
    write(tmp_path, 7, 2000)
    call = Caller(tmp_path, answer_bytes=room)
    body = call.bytes("trace.flamegraph", NAME, **params)
    result = json.loads(body)
    assert len(body) <= room and result["didTruncate"] and 0 < result["nodeCount"]
    assert result["pruned"]["paths"] > 0
    whole = Caller(tmp_path)("trace.flamegraph", NAME, **params)
    if not params:
        assert sum(lines_of(result["folded"]).values()) == whole["total"]


def test_the_same_again(tmp_path):
    write(tmp_path, 8)
    assert timeless(Caller(tmp_path)("trace.flamegraph", NAME)) == timeless(Caller(tmp_path)("trace.flamegraph", NAME))


def test_without_a_span(tmp_path):
    write(tmp_path, 1, 0)
    result = Caller(tmp_path)("trace.flamegraph", NAME)
    assert result["folded"] == "" and result["total"] == result["nodeCount"] == 0
    assert Caller(tmp_path)("trace.flamegraph", NAME, format="tree")["nodes"] == []
