"""The span index against the oracle: every row, callers and callees, the table of functions."""

import itertools

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from span_index import STEPS, array, gathered, index_of, made, oracle, plain, stamped

from atf._core.errors import FormatError, UsageError
from atf._core.index import ThreadIndex
from atf._core.index_build import Builder

pytestmark = pytest.mark.at_rest


def check_all(rows, end_ns=None):
    index = index_of(rows, end_ns)
    want, counts = plain(rows, end_ns)
    assert index.rows == len(index) == len(want)
    assert gathered(index) == want
    assert index.counts == counts
    check_walks(index, want)
    check_table(index, rows, end_ns)
    return index


def check_walks(index, want):
    for row, span in enumerate(want):
        assert index.children(row).tolist() == [i for i, one in enumerate(want) if one["parent"] == row]
        path, at = [], row
        while at >= 0:
            path.append(at)
            at = want[at]["parent"]
        assert index.path(row).tolist() == path[::-1]
        assert index.row_of(span["call_seq"]) == row
    assert {index.row_of(seq) for seq in range(70)} - {-1} == set(range(len(want)))
    for time in {t for span in want for t in (span["start_ns"], span["end_ns"], span["end_ns"] + 1)} | {0, 2**64 - 1}:
        fits = [i for i, span in enumerate(want) if span["start_ns"] <= time <= span["end_ns"]]
        assert index.at(time) == (fits[-1] if fits else -1)
        if index.in_order:
            starts = [span["start_ns"] for span in want]
            assert index.first_row(time) == sum(s < time for s in starts)
            assert index.first_row(time, True) == sum(s <= time for s in starts)


def check_table(index, rows, end_ns):
    found, _ = oracle.spans([rows], max((r[0] for r in rows), default=0) if end_ns is None else end_ns)
    sums = oracle.totals(found, lambda _, span: span.function)
    names = ("count", "total_ns", "self_ns", "min_ns", "max_ns", "exceptions", "active_ns")
    got = {int(f["function_id"]): [int(f[name]) for name in names] for f in index.functions}
    assert got == sums and list(got) == sorted(got)
    for f in index.functions:
        mine = [span for _, span in found if span.function == f["function_id"]]
        assert f["suspended"] == sum(span.active != span.end - span.start for span in mine)


@settings(max_examples=250, deadline=None)
@given(STEPS)
def test_every_row_is_the_oracles(steps):
    index = check_all(stamped(steps))
    assert index.in_order


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(-5, 2**34))
def test_the_trace_may_end_at_another_time(steps, later):
    rows = stamped(steps)
    check_all(rows, max(0, max((r[0] for r in rows), default=0) + later))


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_timestamps_that_go_backwards_break_nothing(steps):
    rows = [(100 + step, *rest) for step, *rest in steps]
    index = check_all(rows)
    assert index.in_order == all(before[0] <= row[0] for before, row in itertools.pairwise(rows))


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, min_size=2, max_size=4))
def test_a_builder_forgets_the_thread_before(many):
    builder = Builder()
    for steps in many:
        rows = stamped(steps)
        again, _, _ = made(rows, builder=builder)
        assert again == made(rows)[0]


def test_a_thread_without_events_has_an_index():
    index = index_of([])
    assert index.rows == 0 and len(index.functions) == 0 and index.at(5) == -1 and index.row_of(0) == -1
    assert len(index.gather(numpy.empty(0, dtype=numpy.uint32))["start_ns"]) == 0


def test_depths_and_counts_beyond_their_columns():
    deep = 9000
    rows = [(i, i % 3 + 1, 7, 1, 0, oracle.NONE) for i in range(deep)]
    rows += [(deep + i, 5, 7, 1 + i % 2, 0, oracle.NONE) for i in range(1400)]  # 700 children of the deepest
    rows += [(deep + 1400 + i, (deep - 1 - i) % 3 + 1, 7, 2, 0, oracle.NONE) for i in range(deep - 2)]
    index = index_of(rows)
    c = index.gather(numpy.arange(index.rows, dtype=numpy.uint32))
    assert c["depth"].tolist() == [*range(1, deep + 1), *[deep + 1] * 700]
    counts = index.child_counts(numpy.array([deep - 1, 0, deep, deep - 1], dtype=numpy.uint32))
    assert counts.tolist() == [700, 1, 0, 700]
    assert index.children(deep - 1).tolist() == list(range(deep, deep + 700))
    assert len(index.path(deep + 5)) == deep + 1
    assert index.nested
    assert set(c["status"][:2].tolist()) == {3}  # the two that no return closes


def test_children_are_found_across_a_gap_and_a_suspension():
    rows = [(1, 1, 7, 1, 1, oracle.NONE)]
    for i in range(300):  # a loop that runs a generator, which calls something every time
        rows += [(10 * i + 2, 2, 7, 6 if i else 1, 2, oracle.NONE), (10 * i + 3, 3, 7, 1, 3, oracle.NONE)]
        rows += [(10 * i + 4, 3, 7, 2, 3, oracle.NONE), (10 * i + 5, 2, 7, 5, 2, oracle.NONE)]
    rows += [(9000, 4, 7, 8, 1, oracle.NONE), (9001, 3, 7, 1, 3, oracle.NONE)]
    want, _ = plain(rows)
    index = index_of(rows)
    assert gathered(index) == want and want[1]["children"] == 300
    assert not index.nested
    for row in (0, 1, 2):
        assert index.children(row).tolist() == [i for i, one in enumerate(want) if one["parent"] == row]


def test_a_row_that_is_not_there_is_refused():
    index = index_of([(1, 1, 7, 1, 1, oracle.NONE)])
    far = numpy.array([0, 1], dtype=numpy.uint32)
    for ask in (index.path, index.children):
        for row in (1, -1, 2**40):
            with pytest.raises(UsageError, match="no row"):
                ask(row)
    for ask in (index.gather, index.child_counts, index.starts):
        with pytest.raises(UsageError, match="no row"):
            ask(far)


def test_an_index_of_something_else_is_refused():
    rows = [(i, 1, 7, 1 + i % 2, 1, oracle.NONE) for i in range(100)]
    data, events, source = made(rows)
    other = events.copy()
    other["timestamp_ns"][50] += 1
    for events_now, source_now in [(events[:-1], source), (events, made(other)[2]), (events, made(rows, 5000)[2]), (events, b"")]:
        with pytest.raises(FormatError):
            ThreadIndex(data, events_now, source_now)
    assert ThreadIndex(data, events, source).rows == 50


def test_it_takes_less_than_16_bytes_an_event():
    rows = []
    for i in range(20_000):
        rows += [(10 * i, i % 50, 7, 1, 1, oracle.NONE), (10 * i + 3, i % 50, 7, 2, 1, oracle.NONE)]
    data, events, _ = made(array(rows))
    assert len(data) <= 16 * len(events)
