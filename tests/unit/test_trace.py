"""atf.open: sessions, names, events, spans, trees and sums, on files made byte by byte."""

import json
import sys
from pathlib import Path

import numpy
import pytest

from atf._core.errors import UsageError
from atf.trace import open_trace

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, RETURN, event

from trace_session import MAIN, MODULES, NAMES, SOLVE, STEP, USER, session

pytestmark = pytest.mark.at_rest


@pytest.fixture
def trace(tmp_path):
    with open_trace(session(tmp_path)) as opened:
        yield opened


def test_info(trace):
    info = trace.info
    assert info["status"] == "complete" and info["threads"] == 2 and info["events"] == 15 and info["lost"] == {"exhausted": 4}
    assert (info["time_start_ns"], info["time_end_ns"], info["duration_ns"]) == (100, 200, 100)
    assert info["processes"] == [
        {"pid": 50, "status": "complete", "parent_pid": None, "argv": ["app.py", "x"], "exit": 0, "python": "3.11.7"}
    ]
    assert info["recovered"] == {"files": [], "problems": []} and trace.check() == []
    assert info["spans"] is None and len(trace.spans()) == 7 and trace.info["spans"] == 7
    json.dumps(info)


def test_names(trace):
    assert trace.functions[SOLVE].qualified == "app.Model.solve" and trace.functions[(50, STEP)].line == 1
    assert trace.functions[USER].qualified == "load" and len(trace.functions) == 4
    assert [(t.number, t.tid, t.name, t.lost) for t in trace.threads] == [(0, 200, "MainThread", 0), (1, 201, "worker-1", 4)]


def test_events_come_in_order_of_time_with_their_details(trace):
    events = list(trace.events())
    assert [e.timestamp_ns for e in events] == sorted(e.timestamp_ns for e in events)
    # At 150 both threads have an event: the thread that comes first, first.
    assert [(e.thread.number, e.index_seq) for e in events if e.timestamp_ns == 150] == [(0, 5), (1, 2)]
    by_kind = {e.kind: e for e in events}
    assert by_kind["instant"].detail == {"name": "hit", "attributes": {"rows": 2}}
    assert by_kind["exception"].detail["message"] == "no" and events[1].detail is None
    gap = by_kind["gap"]
    assert (gap.lost, gap.reason, gap.function) == (4, "exhausted", None)


@pytest.mark.parametrize(
    "filters,count",
    [
        ({"function": "step"}, 5),
        ({"function": "lib.step", "kind": "call"}, 3),
        ({"function": "*solve"}, 4),
        ({"module": "app"}, 6),
        ({"module": "a*", "function": "main"}, 2),
        ({"module": ""}, 3),
        ({"function": "*"}, 14),
        ({"kind": ("gap", "instant")}, 2),
        ({"kind": []}, 0),
        ({"thread": 201}, 4),
        ({"thread": 1}, 4),
        ({"thread": "worker-*"}, 4),
        ({"thread": "nobody"}, 0),
        ({"start_ns": 120, "end_ns": 130}, 3),
        ({"start_ns": 131, "end_ns": 120}, 0),
        ({"depth": 3}, 4),
        ({"depth": (2, 3)}, 9),
        ({"limit": 3}, 3),
        ({"limit": 0}, 0),
        ({"function": "nothing"}, 0),
    ],
)
def test_event_filters(trace, filters, count):
    found = trace.events(**filters)
    assert len(found) == count == len(list(found))
    if "limit" not in filters:
        assert sum(len(one.events) for one in found.arrays()) == count
        assert sum(len(rows) for _, _, rows in found.chunks(2)) == count


def test_arrays_without_a_filter_are_the_file_itself(trace):
    one, two = trace.events(start_ns=110, end_ns=150).arrays()
    assert numpy.shares_memory(one.events, trace.threads[0].events) and one.index_seq == range(1, 6)
    assert two.events["timestamp_ns"].tolist() == [125, 150]


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.events(functoin="x"),
        lambda t: t.events(function=3),
        lambda t: t.events(kind="calls"),
        lambda t: t.events(start_ns="now"),
        lambda t: t.events(start_ns=1.5),
        lambda t: t.spans(min_duration=3),
        lambda t: t.spans(module=b"x"),
        lambda t: t.spans(status="fine"),
        lambda t: t.spans(order_by="name"),
        lambda t: t.spans(thread=1.0),
        lambda t: t.spans().column("_table"),
        lambda t: t.top(by="time"),
        lambda t: t.top(group="line"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error(trace, call):
    with pytest.raises(UsageError):
        call(trace)


def test_a_misspelt_filter_is_told_its_neighbour(trace):
    with pytest.raises(UsageError, match="did you mean 'function'"):
        trace.events(functoin="x")


def test_spans(trace):
    main = trace.spans(function="main")[0]
    assert (main.duration_ns, main.self_ns, main.depth, main.status, main.span_id) == (100, 40, 1, "ok", "200:100:0")
    assert main.args == {"n": 3, "who": {"~": "app.Model"}} and main.result == [1, 2] and main.exception is None
    assert [s.name for s in main.children] == ["app.Model.solve", "load"] and main.child_count == 2 and main.children[0].parent == main
    assert main.children[1].attributes == {"file": "a.txt"} and main.children[1].args is None
    (raised,) = trace.spans(status="exception")
    assert raised.exception == {"type": "builtins.ValueError", "message": "no"} and raised.parent.name == "app.Model.solve"
    (lost,) = trace.spans(status="lost")
    assert lost.thread.name == "worker-1" and lost.end_ns == 200 and lost.end_seq is None


def test_span_filters_and_orders(trace):
    assert [s.start_ns for s in trace.spans()] == [100, 105, 110, 120, 140, 150, 165]
    assert [s.duration_ns for s in trace.spans(order_by="duration", limit=3)] == [100, 50, 50]
    assert [s.self_ns for s in trace.spans(order_by="self")][:2] == [50, 40]
    assert len(trace.spans(start_ns=120, end_ns=175)) == 3 and len(trace.spans(min_depth=2, max_depth=2)) == 2
    assert trace.spans(min_duration_ns=20, max_duration_ns=50).duration_ns.tolist() == [20, 50, 50]
    assert len(trace.spans(function="nothing")) == len(trace.spans(thread="nobody")) == 0
    assert len(trace.spans()[2:4]) == 2 and trace.spans()[-1].name == "load"
    assert trace.spans(module="lib").column("status").tolist() == [0, 1, 4]


def test_the_first_of_many_are_the_first_of_all_in_order(tmp_path):
    times = [(i * 7919) % 50 for i in range(400)]  # many ties
    events, now = [], 1000
    for n in times:
        events += [event(now, STEP, CALL), event(now + n, STEP, RETURN)]
        now += 100
    trace = open_trace(tf.write_process(tmp_path, 1, {0: (9, events, ())}))
    for order in ("start", "duration", "self"):
        everything = [s.call_seq for s in trace.spans(order_by=order)]
        for limit in (1, 7, 30, 399, 400, 1000):
            assert [s.call_seq for s in trace.spans(order_by=order, limit=limit)] == everything[:limit]


def test_calls_in_progress_at_the_start_say_so(tmp_path):
    place = tf.write_process(
        tmp_path,
        1,
        {0: (9, [event(5, MAIN, CALL), event(5, STEP, CALL, 2), event(9, SOLVE, CALL, 3)], ())},
        tf.manifest({0: {"entered": 2}}, NAMES, MODULES),
    )
    assert [s.start_known for s in open_trace(place).spans()] == [False, False, True]


def test_the_tree(trace):
    drawn = ["  " * (node.level - 1) + node.span.function.name for node in trace.tree().walk()]
    assert drawn == ["main", "  Model.solve", "    step", "    Model.solve", "  load", "step", "step"]
    assert [node.level for node in trace.tree(max_depth=2).walk()] == [1, 2, 2, 1, 1]
    below = trace.tree(function="*solve")  # the inner solve is in the tree of the outer one, not beside it
    assert len(below) == 1 and [n.span.function.name for n in below.walk()] == ["Model.solve", "step", "Model.solve"]
    cut = trace.tree(limit=3)
    assert len(list(cut.walk())) == 3 and cut.truncated
    assert len(list(trace.tree(thread="worker-1").walk())) == 2


def test_top_counts_recursion_once(trace):
    rows = {row.name: row for row in trace.top()}
    solve = rows["Model.solve"]
    assert (solve.count, solve.total_ns, solve.self_ns, solve.min_ns, solve.max_ns, solve.mean_ns) == (2, 50, 40, 10, 50, 30)
    assert rows["step"].exceptions == 1 and rows["main"].file == "/src/app.py" and rows["main"].line == 3
    assert [r.name for r in trace.top(2, by="count")] == ["step", "Model.solve"] and trace.top(0) == []
    modules = {row.name: row for row in trace.top(group="module")}
    assert modules["app"].count == 3 and modules["app"].total_ns == 100 and modules["app"].self_ns == 80
    assert {r.name: r.count for r in trace.top(group="thread")} == {"MainThread": 5, "worker-1": 2}
    assert sum(r.self_ns for r in trace.top()) == sum(r.self_ns for r in trace.top(group="file"))
