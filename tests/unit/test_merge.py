"""Merging by time against its oracle."""

import sys
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atf._core.errors import UsageError
from atf._core.layout import EVENT_DTYPE
from atf._core.merge import IdSet, Merge, distinct_functions, merge

sys.path.insert(0, str(Path(__file__).parents[1]))
import oracle

pytestmark = pytest.mark.at_rest


def array(stamps):
    rows = numpy.zeros(len(stamps), dtype=EVENT_DTYPE)
    rows["timestamp_ns"] = stamps
    rows["event_kind"] = 1
    return rows


def pairs(chunks):
    return [(int(t), int(p)) for threads, positions in chunks for t, p in zip(threads, positions, strict=True)]


# Small steps, so that equal times across and within threads are the rule; runs, so that galloping happens.
STAMPS = st.lists(st.integers(0, 3) | st.just(40), max_size=80).map(lambda steps: numpy.cumsum(steps, dtype=numpy.uint64).tolist())
TIMES = st.integers(0, 300)


@settings(max_examples=400, deadline=None)
@given(st.lists(STAMPS, max_size=9), TIMES, TIMES, st.integers(1, 50))
def test_merging_is_the_oracles(threads, a, b, chunk):
    arrays = [array(stamps) for stamps in threads]
    for window in ((0, 2**64 - 1), (min(a, b), max(a, b)), (max(a, b) + 1, min(a, b))):
        want = oracle.merge(threads, *window)
        assert pairs(merge(arrays, *window, chunk=chunk)) == want
        assert Merge(arrays, *window).count() == len(want)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=30), max_size=6))
def test_whatever_the_times_every_event_comes_once_and_in_its_threads_order(threads):
    got = pairs(merge([array(stamps) for stamps in threads], chunk=7))
    assert sorted(got) == [(t, p) for t, stamps in enumerate(threads) for p in range(len(stamps))]
    for t in range(len(threads)):
        assert [p for thread, p in got if thread == t] == list(range(len(threads[t])))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 9), st.integers(0, 4)), max_size=40), min_size=1, max_size=5
    ),
    st.data(),
)
def test_filters_leave_what_a_loop_would_leave(threads, data):
    arrays = []
    for rows in threads:
        one = numpy.zeros(len(rows), dtype=EVENT_DTYPE)
        if rows:
            steps, one["function_id"], one["event_kind"], one["call_depth"] = zip(*rows, strict=True)
            one["timestamp_ns"] = numpy.cumsum(steps)
        arrays.append(one)
    ids = [data.draw(st.none() | st.sets(st.integers(0, 5))) for _ in arrays]
    kinds = data.draw(st.sets(st.integers(1, 9)))
    low, high = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    mask = sum(1 << k for k in kinds)

    def passes(t, p):
        event = arrays[t][p]
        named = ids[t] is None or int(event["function_id"]) in ids[t]
        return named and int(event["event_kind"]) in kinds and low <= event["call_depth"] <= high

    made = lambda: Merge(arrays, kinds=mask, functions=[None if i is None else IdSet(i) for i in ids], min_depth=low, max_depth=high)  # noqa: E731
    want = [pair for pair in oracle.merge([a["timestamp_ns"].tolist() for a in arrays]) if passes(*pair)]
    assert pairs(made().chunks(6)) == want
    assert made().count() == len(want)
    for t in range(len(arrays)):
        assert made().select(t).tolist() == [p for thread, p in want if thread == t]


def test_gather_gives_the_events_that_were_named():
    arrays = [array([1, 5, 9]), array([2, 3])]
    one = Merge(arrays)
    rows = one.gather(*one.take(10))
    assert rows["timestamp_ns"].tolist() == [1, 2, 3, 5, 9]
    with pytest.raises(UsageError):
        one.gather(numpy.array([2], dtype=numpy.uint32), numpy.array([0], dtype=numpy.uint32))
    with pytest.raises(UsageError):
        one.gather(numpy.array([1], dtype=numpy.uint32), numpy.array([2], dtype=numpy.uint32))


def test_id_sets_hold_any_number():
    ids = [0, 1, 2**64 - 1, *(k << 32 for k in range(5000))]
    one = IdSet(ids)
    assert all(i in one for i in ids) and 3 not in one and 2**63 not in one


def test_distinct_functions_leave_gaps_out():
    rows = array([1, 2, 3, 4])
    rows["function_id"], rows["event_kind"] = [7, 9, 7, 5], [1, 8, 2, 4]
    assert distinct_functions([rows, rows]).tolist() == [7, 5]


def test_arrays_of_another_layout_are_refused():
    with pytest.raises(ValueError):
        Merge([numpy.zeros(3, dtype="<u8")])
    with pytest.raises(UsageError):
        Merge([array([1])], functions=[])
    with pytest.raises(UsageError):
        Merge([array([1])]).take(0)


def by_numpy(arrays):
    stamps = numpy.concatenate([a["timestamp_ns"] for a in arrays])
    order = numpy.argsort(stamps, kind="stable")  # stable: ties by thread, then position
    threads = numpy.repeat(numpy.arange(len(arrays)), [len(a) for a in arrays])
    positions = numpy.concatenate([numpy.arange(len(a)) for a in arrays])
    return threads[order], positions[order]


@pytest.mark.parametrize("chunk", [1000, 65536])
@pytest.mark.parametrize("shape", ["dense", "slices", "equal", "sparse", "uneven", "late", "many threads"])
def test_long_merges_are_a_stable_sort(shape, chunk):
    random = numpy.random.default_rng(5)
    arrays = []
    for thread in range(6000 if shape == "many threads" else 12):
        n = {"many threads": 9, "uneven": 40 if thread else 60_000}.get(shape, 12_000)
        steps = random.integers(0, 40, n).astype("u8")
        if shape == "slices":
            steps[100 * thread :: 1200] += 22_000
        elif shape == "equal":
            steps[:] = 0
            steps[:: 5000 + thread] = 9
        elif shape == "sparse":  # windows of more than 17 s, and some of hours
            steps *= random.choice(numpy.array([1, 10**9, 10**13], dtype="u8"), n)
        elif shape == "many threads":  # more of them in one window than a window has room for
            steps[:] = 1
            steps[4:] += 1000
        elif shape == "late":
            steps[0] = 2**64 - 2**20
        stamps = numpy.cumsum(steps)
        arrays.append(array(stamps))
    chunks = list(merge(arrays, chunk=chunk))
    want = by_numpy(arrays)
    assert numpy.array_equal(numpy.concatenate([t for t, _ in chunks]), want[0])
    assert numpy.array_equal(numpy.concatenate([p for _, p in chunks]), want[1])


def test_what_was_begun_cannot_be_counted():
    one = Merge([array([1, 2, 3])])
    one.take(1)
    for ask in (one.count, one.bounds, lambda: one.select(0)):
        with pytest.raises(UsageError):
            ask()
