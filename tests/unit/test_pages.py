"""Places in the order of time, against lists that were sorted."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atf._core.errors import UsageError
from atf._core.layout import EVENT_DTYPE
from atf._core.pages import Filter, Order

pytestmark = pytest.mark.at_rest

LAST = 2**64 - 1
EVENT = st.tuples(st.integers(0, 3) | st.just(40), st.integers(0, 4), st.sampled_from([1, 2, 3, 8, 40]))
THREADS = st.lists(st.lists(EVENT, max_size=40), max_size=6)
TIME = st.integers(0, 200) | st.sampled_from([0, LAST])


def arrays_of(threads, base=0):
    arrays = []
    for rows in threads:
        one = numpy.zeros(len(rows), dtype=EVENT_DTYPE)
        if rows:
            steps, one["function_id"], one["event_kind"] = zip(*rows, strict=True)
            one["timestamp_ns"] = numpy.cumsum(steps, dtype=numpy.uint64) + numpy.uint64(base)
        arrays.append(one)
    return arrays


def line(arrays):
    """[(time, thread, position)] of all events in their order."""
    return sorted((int(e["timestamp_ns"]), t, p) for t, events in enumerate(arrays) for p, e in enumerate(events))


def below(cut, key):
    return key[2] < cut[key[1]]


def inside(cuts, keys):
    return [key for key in keys if not below(cuts[0], key) and below(cuts[1], key)]


@settings(max_examples=200, deadline=None)
@given(THREADS, TIME, TIME, st.sampled_from([0, 2**63, LAST - 2000]), st.data())
def test_windows_ranks_and_keys_cut_where_the_sorted_list_is_cut(threads, a, b, base, data):
    arrays = arrays_of(threads, base)
    keys, order = line(arrays), Order(arrays)
    start, end = min(a + base, LAST), min(b + base, LAST)
    window = order.window(start, end)
    want = [key for key in keys if start <= key[0] <= end]
    assert inside(window, keys) == want
    assert order.between(*window) == order.total(*window) == len(want)
    rank = data.draw(st.integers(0, len(want) + 1))
    cut = order.at_rank(*window, rank)
    assert inside((window[0], cut), keys) == want[:rank]
    assert inside((cut, window[1]), keys) == want[rank:]
    if want:
        n = data.draw(st.integers(0, len(want) - 1))
        after = order.at_key(*window, *want[n])
        before = order.at_key(*window, *want[n], after=False)
        assert inside((window[0], after), keys) == want[: n + 1]
        assert inside((window[0], before), keys) == want[:n]


@settings(max_examples=100, deadline=None)
@given(THREADS, TIME, st.integers(0, 6))
def test_a_key_of_a_thread_that_is_not_there_stands_between_its_neighbours(threads, time_ns, thread):
    arrays = arrays_of(threads)
    keys, order = line(arrays), Order(arrays)
    thread = min(thread, len(arrays))
    cut = order.at_key(*order.window(), time_ns, thread, 0, known=False)
    assert [key for key in keys if below(cut, key)] == [key for key in keys if (key[0], key[1]) < (time_ns, thread)]


@settings(max_examples=200, deadline=None)
@given(THREADS, st.data())
def test_what_passes_between_two_cuts_is_what_a_loop_finds(threads, data):
    arrays = arrays_of(threads)
    keys = line(arrays)
    spaces = [data.draw(st.integers(0, 1)) for _ in arrays]
    order = Order(arrays, spaces)
    whole = order.window()
    ids = data.draw(st.none() | st.tuples(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5))))
    kinds = data.draw(st.sampled_from([0xFFFFFFFF, 0, 1, 0b10, 0b1100, 1 << 8]))
    chosen = Filter(kinds, ids)

    def passes(key):
        event = arrays[key[1]][key[2]]
        kind = int(event["event_kind"])
        named = ids is None or int(event["function_id"]) in ids[spaces[key[1]]]
        return named and kinds >> (kind if kind < 32 else 0) & 1

    low = order.at_rank(*whole, data.draw(st.integers(0, len(keys))))
    high = order.at_rank(low, whole[1], data.draw(st.integers(0, len(keys))))
    want = [key for key in inside((low, high), keys) if passes(key)]
    assert order.total(low, high, chosen) == len(want)
    room = data.draw(st.integers(0, 60))
    got, at = order.select(low, high, room, chosen)
    assert list(zip(got.tolist(), at.tolist(), strict=True)) == sorted(key[1:] for key in want)[:room]
    skip, room = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 60))
    got, at = order.take(low, high, skip, room, chosen)
    assert list(zip(got.tolist(), at.tolist(), strict=True)) == [key[1:] for key in want[skip : skip + room]]
    assert order.gather(got, at).tolist() == [arrays[t][p].item() for _, t, p in want[skip : skip + room]]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(0, LAST), max_size=20), max_size=5), st.integers(0, 100), st.integers(0, LAST), st.integers(0, 6))
def test_whatever_the_times_a_cut_lies_inside_and_has_its_rank(threads, rank, time_ns, position):
    arrays = []
    for stamps in threads:
        one = numpy.zeros(len(stamps), dtype=EVENT_DTYPE)
        one["timestamp_ns"] = numpy.array(stamps, dtype=numpy.uint64)
        arrays.append(one)
    order = Order(arrays)
    low, high = order.window(0, LAST)
    lengths = [len(a) for a in arrays]
    assert low.tolist() == [0] * len(arrays) and high.tolist() == lengths
    cut = order.at_rank(low, high, rank)
    assert order.between(low, cut) == min(rank, sum(lengths))
    for after in (True, False):
        cut = order.at_key(low, high, time_ns, 0, position, after=after)
        assert all(c <= n for c, n in zip(cut.tolist(), lengths, strict=True))
    assert len(order.take(low, high, 0, 1000)[0]) == sum(lengths)


def test_what_does_not_fit_is_refused():
    arrays = arrays_of([[(1, 1, 1)] * 3, [(2, 1, 1)] * 2])
    order = Order(arrays)
    low, high = order.window()
    for bad_low, bad_high in ((low[:1], high), (high, low), (low, high + numpy.uint32(1))):
        for ask in (order.between, lambda a, b: order.at_rank(a, b, 0), lambda a, b: order.take(a, b, 0, 1), lambda a, b: order.total(a, b)):
            with pytest.raises(UsageError):
                ask(bad_low, bad_high)
    with pytest.raises(UsageError, match="outside"):
        order.gather(numpy.array([0], dtype=numpy.uint32), numpy.array([3], dtype=numpy.uint32))
    with pytest.raises(UsageError, match="spaces"):
        Order(arrays, [0])
    with pytest.raises(UsageError, match="space 1"):
        Order(arrays, [0, 1]).total(low, high, Filter(ids=[[1]]))
