"""Buckets of times, against plain Python."""

from collections import Counter

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atf._core.errors import UsageError
from atf._core.histogram import BUCKETS, histogram, middle_of

pytestmark = pytest.mark.at_rest

TIME = st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1), st.integers(0, 63).map(lambda e: 2**e), st.integers(1, 64).map(lambda e: 2**e - 1))


def bucket_of(time):
    """The highest bit and the four below it."""
    if time == 0:
        return 0
    digits = f"{time:b}0000"
    return 1 + 16 * (len(digits) - 5) + int(digits[1:5], 2)


def counted(times, key, group, groups):
    codes, counts = histogram(*(numpy.array(a, dtype=t) for a, t in ((times, "u8"), (key, "u4"), (group, "u4"))), groups)
    assert codes.dtype == "i8" and counts.dtype == "u8" and (numpy.diff(codes) > 0).all()
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


@given(st.lists(st.tuples(TIME, st.integers(0, 4)), max_size=60), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_counts_are_plain_pythons(rows, group):
    times, key = [time for time, _ in rows], [k for _, k in rows]
    assert counted(times, key, group, 4) == Counter(group[k] * BUCKETS + bucket_of(time) for time, k in rows)


@given(TIME)
def test_the_middle_is_near(time):
    middle = middle_of(bucket_of(time))
    assert abs(middle - time) <= time / 32 and bucket_of(middle) == bucket_of(time)
    assert time >= 32 or middle == time


def test_buckets_rise_and_fit():
    buckets = [bucket_of(time) for e in range(60) for time in range(2**e, 2 ** (e + 1), max(1, 2**e // 16))]
    assert buckets == sorted(buckets) and bucket_of(2**64 - 1) < BUCKETS


def test_what_does_not_fit_is_refused():
    for times, key, group in (([1], [], [0]), ([1], [1], [0]), ([1], [0], [2])):
        with pytest.raises(UsageError):
            counted(times, key, group, 2)
    assert counted([], [], [], 0) == {}
