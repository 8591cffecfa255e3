"""Span matching against its oracle, and the text goldens of tests/golden."""

import sys
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atf._core import spans
from atf._core.errors import UsageError
from atf._core.layout import EVENT_DTYPE

sys.path.insert(0, str(Path(__file__).parents[1]))
import oracle

pytestmark = pytest.mark.at_rest

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.txt"))
KINDS = {"call": 1, "return": 2, "exception": 3, "instant": 4, "yield": 5, "resume": 6, "signal": 7, "gap": 8}


def array(rows):
    return numpy.array(rows, dtype=EVENT_DTYPE)


def rows_of(columns):
    return [
        (
            int(columns.thread[i]),
            int(columns.function_id[i]),
            int(columns.start_ns[i]),
            int(columns.end_ns[i]),
            int(columns.active_ns[i]),
            int(columns.self_ns[i]),
            int(columns.depth[i]),
            int(columns.call_seq[i]),
            int(columns.end_seq[i]),
            int(columns.parent[i]),
            int(columns.child_count[i]),
            spans.STATUS[columns.status[i]],
        )
        for i in range(len(columns))
    ]


def oracle_rows(found):
    place = {id(span): i for i, (_, span) in enumerate(found)}
    return [
        (
            thread,
            s.function,
            s.start,
            s.end,
            s.active,
            max(0, s.active - s.above),
            s.depth,
            s.call_seq,
            s.end_seq,
            place[id(s.parent)] if s.parent else -1,
            s.children,
            s.status,
        )
        for thread, s in found
    ]


# Few functions and shallow depths, so that names collide as often as they can; now and then a record that lies.
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.integers(1, 3),
        st.just(7),
        st.sampled_from([1, 1, 1, 2, 2, 2, 3, 4, 5, 5, 6, 6, 8, 9, 77]),
        st.integers(0, 4),
        st.just(oracle.NONE),
    ),
    max_size=60,
)


def stamped(steps):
    now, rows = 100, []
    for step, *rest in steps:
        now += step
        rows.append((now, *rest))
    return rows


@settings(max_examples=600, deadline=None)
@given(st.lists(EVENTS, max_size=3))
def test_matching_is_the_oracles(threads):
    threads = [stamped(steps) for steps in threads]
    columns = spans.match([array(rows) for rows in threads])
    found, counts = oracle.spans(threads)
    assert rows_of(columns) == oracle_rows(found)
    assert columns.counts == counts
    assert columns.thread_rows[-1] == len(columns)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_timestamps_that_go_backwards_break_nothing(steps):
    rows = [(100 + step, *rest) for step, *rest in steps]
    columns = spans.match([array(rows)])
    assert rows_of(columns) == oracle_rows(oracle.spans([rows])[0])
    assert (columns.end_ns >= columns.start_ns).all()


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=3))
def test_totals_are_the_oracles(threads):
    threads = [stamped(steps) for steps in threads]
    columns = spans.match([array(rows) for rows in threads])
    found, _ = oracle.spans(threads)
    for group_of in ({1: 0, 2: 1, 3: 2}, {1: 0, 2: 0, 3: 1}, {1: 0, 2: 0, 3: 0}):
        groups = numpy.array([group_of[int(i)] for i in columns.function_ids], dtype=numpy.uint32)
        sums = spans.totals(columns, columns.function, groups, 3)
        want = oracle.totals(found, lambda _, span, of=group_of: of[span.function])
        got = {
            g: [int(sums[name][g]) for name in ("count", "total_ns", "self_ns", "min_ns", "max_ns", "exceptions", "active_ns")]
            for g in range(3)
            if sums["count"][g]
        }
        assert got == want


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_children_lists_hold_every_child_once(steps):
    columns = spans.match([array(stamped(steps))])
    first, rows = spans.children_of(columns)
    for i in range(len(columns)):
        assert list(rows[first[i] : first[i + 1]]) == list(numpy.flatnonzero(columns.parent == i))


def test_self_times_add_up_to_the_time_that_anything_ran():
    rows = stamped(
        [
            (3, f % 3 + 1, 7, kind, d, oracle.NONE)
            for f, (kind, d) in enumerate([(1, 1), (1, 2), (2, 2), (1, 2), (1, 3), (3, 3), (2, 2), (2, 1)])
        ]
    )
    columns = spans.match([array(rows)])
    roots = columns.parent == -1
    assert columns.self_ns.sum() == columns.active_ns[roots].sum()


def test_function_ids_of_two_processes_stay_apart():
    one = array([(1, 5, 1, 1, 1, oracle.NONE), (2, 5, 1, 2, 1, oracle.NONE)])
    columns = spans.match([one, one, one], spaces=[0, 0, 1])
    assert columns.function.tolist() == [0, 0, 1]
    assert columns.function_ids.tolist() == [5, 5] and columns.function_space.tolist() == [0, 1]


def test_processes_out_of_order_are_refused():
    with pytest.raises(UsageError):
        spans.match([array([]), array([])], spaces=[1, 0])


def test_many_returns_without_a_call_under_a_deep_stack_take_no_time_to_speak_of():
    n = 200_000
    rows = numpy.zeros(2 * n, dtype=EVENT_DTYPE)
    rows["timestamp_ns"] = numpy.arange(2 * n)
    rows["event_kind"][:n], rows["event_kind"][n:] = 1, 2
    rows["function_id"][:n], rows["function_id"][n:] = 1, 2
    columns = spans.match([rows])  # a search down the stack for each would take 4e10 steps
    assert len(columns) == n and columns.counts["returns_without_call"] == n and columns.depth[-1] == n


def read_golden(path):
    """(events, expected lines). An event line: time, kind, function or count, depth."""
    given_lines, want = path.read_text().split("---\n")
    names, rows = {}, []
    for line in given_lines.splitlines():
        words = line.split("#")[0].split()
        if words:
            time, kind, name, depth = words
            function = int(name) if kind == "gap" else names.setdefault(name, len(names) + 1)
            rows.append((int(time), function, 7, KINDS[kind], int(depth), oracle.NONE))
    return rows, {number: name for name, number in names.items()}, want.splitlines()


def draw(columns, names):
    lines = []
    for i in range(len(columns)):
        times = f"{columns.start_ns[i]}..{columns.end_ns[i]} active {columns.active_ns[i]} self {columns.self_ns[i]}"
        lines.append(f"{'  ' * (int(columns.depth[i]) - 1)}{names[int(columns.function_id[i])]} {times} {spans.STATUS[columns.status[i]]}")
    lines += [f"{name}: {n}" for name, n in columns.counts.items() if n]
    return lines


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden(path):
    rows, names, want = read_golden(path)
    assert draw(spans.match([array(rows)]), names) == want


def test_there_are_goldens():
    assert len(GOLDEN) >= 8
