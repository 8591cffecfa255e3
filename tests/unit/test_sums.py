"""Sums of a thread's spans in one pass, against slow Python; and the buckets of times."""

import sys
from collections import Counter
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atf._core.errors import UsageError
from atf._core.layout import EVENT_DTYPE
from atf._core.sums import BUCKETS, Groups, histogram, middle_of, sum_spans

sys.path.insert(0, str(Path(__file__).parents[1]))
import oracle
from oracle import CALL, GAP, NONE, RESUME, YIELD

pytestmark = pytest.mark.at_rest

FUNCTIONS = (1 << 32, 2 << 32 | 5, 7, 2**64 - 1)
SUMS = ("count", "total_ns", "self_ns", "min_ns", "max_ns", "exceptions", "active_ns")
EVENTS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(FUNCTIONS), st.sampled_from([1, 1, 1, 1, 2, 2, 2, 3, 4, 7, 8, 9, 77]), st.integers(0, 4)), max_size=80
)
TIME = st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1), st.integers(0, 63).map(lambda e: 2**e), st.integers(1, 64).map(lambda e: 2**e - 1))


def bucket_of(time):
    """The highest bit and the four below it."""
    if time == 0:
        return 0
    digits = f"{time:b}0000"
    return 1 + 16 * (len(digits) - 5) + int(digits[1:5], 2)


def rows_of(steps, start=100):
    now, rows = start, []
    for step, function, kind, depth in steps:
        now += step
        rows.append((now, function, 7, kind, depth, NONE))
    return rows


def array(rows):
    return numpy.array(rows, dtype=EVENT_DTYPE)


def check(rows, group_of, end):
    groups = Groups(FUNCTIONS, [group_of[id] for id in FUNCTIONS])
    sums, codes, spans, counts = sum_spans(array(rows), groups, end)
    found, lies = oracle.spans([rows], end)
    want = oracle.totals(found, lambda _, span: group_of[span.function])
    assert {name: column.dtype for name, column in sums.items()} == dict.fromkeys(sums, numpy.dtype("u8"))
    for group in range(groups.groups):
        mine = [int(sums[name][group]) for name in SUMS]
        assert mine == want.get(group, [0] * 7)
    assert counts == {"spans": len(found), **lies, "events_lost": lies["events_lost"] % 2**64}
    assert (numpy.diff(codes) > 0).all() and codes.dtype == "i8" and spans.dtype == "u8"
    buckets = Counter(group_of[span.function] * BUCKETS + bucket_of(span.active) for _, span in found)
    assert dict(zip(codes.tolist(), spans.tolist(), strict=True)) == buckets


@settings(max_examples=500, deadline=None)
@given(EVENTS, st.sampled_from([(0, 1, 2, 3), (0, 0, 1, 1), (0, 0, 0, 0), (1, 0, 0, 2)]), st.integers(0, 50))
def test_sums_are_the_oracles(steps, group, after):
    rows = rows_of(steps)
    check(rows, dict(zip(FUNCTIONS, group, strict=True)), max((row[0] for row in rows), default=0) + after)


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_times_that_go_backwards_break_nothing(steps):
    check([(200 - at, *rest) for at, *rest in rows_of(steps, 0)], dict(zip(FUNCTIONS, range(4), strict=True)), 0)


def test_memory_of_an_earlier_thread_leaves_nothing_behind():
    """Of one that was summed, and of those that were given up in the middle."""
    group_of = dict(zip(FUNCTIONS, (0, 1, 1, 2), strict=True))
    groups = Groups(FUNCTIONS, list(group_of.values()))
    calls = rows_of([(5, function, CALL, depth + 1) for depth, function in enumerate(FUNCTIONS)])
    for end in ((), ((3, FUNCTIONS[0], YIELD, 1),), ((3, FUNCTIONS[0], RESUME, 1),), ((3, 4711, CALL, 1),), ((3, 1, GAP, 1),)):
        rows = calls + rows_of(end, 130)
        if end and end[0][2] in (YIELD, RESUME):
            assert sum_spans(array(rows), groups, 500) is None
        elif end and end[0][1] == 4711:
            with pytest.raises(KeyError):
                sum_spans(array(rows), groups, 500)
        else:
            check(rows, group_of, 500)
        check(calls, group_of, 200)


def test_a_return_of_an_unknown_function_is_a_return_without_a_call():
    rows = rows_of([(1, 4711, 2, 1)])
    assert sum_spans(array(rows), Groups([], []), 0)[3]["returns_without_call"] == 1


def test_deep_recursion_and_no_events():
    rows = rows_of([(1, 7, CALL, depth) for depth in range(1, 3000)])
    check(rows, dict.fromkeys(FUNCTIONS, 0), 10_000)
    check([], dict.fromkeys(FUNCTIONS, 0), 0)


@given(st.lists(st.tuples(TIME, st.integers(0, 4)), max_size=60), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_histogram_is_plain_pythons(rows, group):
    times, key = [time for time, _ in rows], [k for _, k in rows]
    codes, spans = histogram(*(numpy.array(a, dtype=t) for a, t in ((times, "u8"), (key, "u4"), (group, "u4"))))
    assert codes.dtype == "i8" and spans.dtype == "u8" and (numpy.diff(codes) > 0).all()
    assert dict(zip(codes.tolist(), spans.tolist(), strict=True)) == Counter(group[k] * BUCKETS + bucket_of(time) for time, k in rows)


@given(TIME)
def test_the_middle_is_near(time):
    middle = middle_of(bucket_of(time))
    assert abs(middle - time) <= time / 32 and bucket_of(middle) == bucket_of(time)
    assert time >= 32 or middle == time


def test_buckets_rise_and_fit():
    buckets = [bucket_of(time) for e in range(60) for time in range(2**e, 2 ** (e + 1), max(1, 2**e // 16))]
    assert buckets == sorted(buckets) and bucket_of(2**64 - 1) == 1024 < BUCKETS


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="twice"):
        Groups([3, 3], [0, 1])
    with pytest.raises(UsageError, match="one for each"):
        Groups([3], [])
    with pytest.raises(UsageError, match="do not fit"):
        histogram(numpy.ones(1, "u8"), numpy.ones(1, "u4"), numpy.ones(1, "u4"))
    groups = Groups([3, 9], [4, 0])
    assert (len(groups), groups.groups) == (2, 5)
