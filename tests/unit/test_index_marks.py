"""Filters, orders, sums and ranks over span indexes, against plain Python over the oracle's spans."""

import bisect
import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from span_index import LAST, STEPS, index_of, oracle, plain, stamped

from atf._core.errors import UsageError
from atf._core.index_marks import SUMS, Marks, ranks

pytestmark = pytest.mark.at_rest

# A number, or what is at, just before or just behind a value that occurs: (which one, step).
TIMES = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**32, 2**34, LAST]) | st.tuples(st.integers(0, 300), st.sampled_from([-1, 0, 0, 1]))
DEPTHS = st.sampled_from([0, 1, 2, 3, 8190, 8191, 8192, 2**32 - 1])
MEMBERS = {
    **dict.fromkeys(("start_from_ns", "start_until_ns", "end_from_ns", "end_until_ns", "min_ns", "max_ns"), TIMES),
    **dict.fromkeys(("min_depth", "max_depth"), DEPTHS),
    "statuses": st.integers(0, 31),
    "functions": st.lists(st.integers(1, 5), max_size=4, unique=True),
}
# Few at a time: of what passes many, nothing is left to compare.
FILTERS = st.lists(st.sampled_from(sorted(MEMBERS)), max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: MEMBERS[name] for name in names})
)


def concrete(f, spans):
    """The filter with numbers in it: of starts and ends, or of durations."""
    times = [t for span in spans for t in (span["start_ns"], span["end_ns"])] or [0]
    durations = [span["duration_ns"] for span in spans] or [0]
    found = {}
    for name, value in f.items():
        if isinstance(value, tuple):
            of = durations if name in ("min_ns", "max_ns") else times
            value = max(0, of[value[0] % len(of)] + value[1])
        found[name] = value
    return found


def passes(span, f):
    return (
        f.get("start_from_ns", 0) <= span["start_ns"] <= f.get("start_until_ns", LAST)
        and f.get("end_from_ns", 0) <= span["end_ns"] <= f.get("end_until_ns", LAST)
        and f.get("min_ns", 0) <= span["duration_ns"] <= f.get("max_ns", LAST)
        and f.get("min_depth", 0) <= span["depth"] <= f.get("max_depth", LAST)
        and f.get("statuses", 31) >> span["status"] & 1
        and ("functions" not in f or span["function_id"] in f["functions"])
    )


def marks_of(index, f):
    """Functions are given by id here, by number to Marks; ids that do not occur are left out."""
    f = dict(f)
    if "functions" in f:
        ids = index.functions["function_id"].tolist()
        f["functions"] = [ids.index(id) for id in f["functions"] if id in ids]
    return Marks(index, **f)


def longer(steps):
    """The same again, so that there are whole words of marks and long runs of one function."""
    return steps * (150 // len(steps)) if len(steps) % 3 else steps


def check_marks(rows, f, end_ns=None):
    index = index_of(rows, end_ns)
    spans, _ = plain(rows, end_ns)
    f = concrete(f, spans)
    want = [i for i, span in enumerate(spans) if passes(span, f)]
    marks = marks_of(index, f)
    assert len(marks) == len(want)
    assert marks.take(0, index.rows + 5).tolist() == want
    return index, marks, spans, want


@settings(max_examples=250, deadline=None)
@given(STEPS, FILTERS)
def test_filters_are_the_oracles(steps, f):
    check_marks(stamped(longer(steps)), f)


@settings(max_examples=100, deadline=None)
@given(STEPS, FILTERS, st.integers(0, 2**33))
def test_filters_with_backward_times_or_an_early_end(steps, f, end_ns):
    rows = [(100 + step, *rest) for step, *rest in longer(steps)]
    check_marks(rows, f)
    check_marks(stamped(steps), f, end_ns)


@settings(max_examples=150, deadline=None)
@given(STEPS, FILTERS, st.integers(0, 40), st.integers(0, 40))
def test_places_among_the_marked(steps, f, rank, room):
    index, marks, _, want = check_marks(stamped(longer(steps)), f)
    assert marks.take(rank, room).tolist() == want[rank : rank + room]
    for row in range(0, index.rows + 2, 3):
        assert marks.rank(row) == sum(one < row for one in want)
        assert (row in marks) == (row in want)


@settings(max_examples=120, deadline=None)
@given(STEPS, FILTERS, st.booleans(), st.booleans(), st.integers(0, 12), st.integers(-1, 70), st.sampled_from([None, 0, 1, 3, LAST, "own"]))
def test_top_is_the_oracles(steps, f, by_self, descending, room, row, value):
    index, marks, spans, want = check_marks(stamped(longer(steps)), f)
    name = "self_ns" if by_self else "duration_ns"
    row = min(row, index.rows)
    bound = None if value is None else (spans[row][name] if value == "own" and 0 <= row < len(spans) else 0 if value == "own" else value, row)
    order = sorted(((spans[i][name], i) for i in want), reverse=descending)
    if bound:
        order = [one for one in order if (one < bound if descending else one > bound)]
    values, rows = marks.top(room, by_self=by_self, descending=descending, bound=bound)
    assert list(zip(values.tolist(), rows.tolist())) == order[:room]


def test_every_bound_and_edge():
    rows = []
    for i, wait in enumerate((0, 1, 1, 2, 0, 1, 5)):
        rows += [(10 * i, i % 3, 7, 1, 1, oracle.NONE), (10 * i + wait, i % 3, 7, 2, 1, oracle.NONE)]
    index = index_of(rows)
    marks = Marks(index)
    spans = [(span["duration_ns"], i) for i, span in enumerate(plain(rows)[0])]
    for descending in (False, True):
        order = sorted(spans, reverse=descending)
        for value in (0, 1, 2, 3, 5, 6, LAST):
            for row in range(-1, 8):
                after = [one for one in order if (one < (value, row) if descending else one > (value, row))]
                values, found = marks.top(20, descending=descending, bound=(value, row))
                assert list(zip(values.tolist(), found.tolist())) == after
            good = [one for one in order if (one[0] >= value if descending else one[0] <= value)]
            values, found = marks.top(20, descending=descending, edge=value)
            got = list(zip(values.tolist(), found.tolist()))
            assert got[: len(good)] == good and got == order[: len(got)]


@settings(max_examples=120, deadline=None)
@given(STEPS, FILTERS, st.sampled_from([{1: 0, 2: 1, 3: 2, 4: 3}, {1: 0, 2: 0, 3: 1, 4: 1}, dict.fromkeys(range(1, 5), 2)]))
def test_sums_are_the_oracles(steps, f, groups):
    rows = stamped(steps)
    index, marks, _, want = check_marks(rows, f)
    found, _ = oracle.spans([rows])
    chosen = {id(found[i][1]) for i in want}
    # What does not pass is put into a group of its own for each span: it is no recursion of anything.
    sums = oracle.totals(found, lambda _, s: groups[s.function] if id(s) in chosen else ("out", id(s)))
    group = numpy.array([groups[int(id)] for id in index.functions["function_id"]], dtype=numpy.uint32)
    got = marks.sums(group, 4)
    names = ("count", "total_ns", "self_ns", "min_ns", "max_ns", "exceptions", "active_ns")
    assert {g: [int(got[name][g]) for name in names] for g in range(4) if got["count"][g]} == {
        g: sums[g] for g in range(4) if g in sums
    }


def test_sums_add_up_over_threads():
    one, two = ([(1, 1, 7, 1, 1, oracle.NONE), (1 + wait, 1, 7, 2, 1, oracle.NONE)] for wait in (5, 3))
    group, sums = numpy.zeros(1, dtype=numpy.uint32), None
    for rows in (one, two):
        sums = Marks(index_of(rows)).sums(group, 1, sums)
    assert [int(sums[name][0]) for name in SUMS] == [2, 8, 8, 8, 3, 5, 0]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=3), st.sets(st.integers(1, 4)), st.lists(st.integers(1, 100), min_size=1, max_size=4))
def test_ranks_are_the_oracles(threads, ids, percents):
    parts, durations = [], []
    for steps in threads:
        rows = stamped(longer(steps))
        index = index_of(rows)
        parts += [(index, number) for number, id in enumerate(index.functions["function_id"].tolist()) if id in ids]
        durations += [span["duration_ns"] for span in plain(rows)[0] if span["function_id"] in ids]
    durations.sort()
    want = [durations[math.ceil(p * len(durations) / 100) - 1] if durations else 0 for p in percents]
    assert ranks(parts, percents) == want


def test_thousands_of_rows_in_whole_words():
    generator = numpy.random.default_rng(5)
    rows, now = [], 0
    for i in range(5000):
        now += 10
        wait = int(generator.choice([1, 5, 2**32 - 2, 2**32 - 1, 2**32, 2**32 + 1]))
        rows += [(now, i % 7, 7, 1, 1, oracle.NONE), (now + wait, i % 7, 7, 2 + i % 2, 1, oracle.NONE)]
        now += wait
    for f in ({}, {"min_ns": 2**32 - 1}, {"max_ns": 2**32 - 1}, {"min_ns": 5, "max_ns": 2**32}, {"statuses": 2}, {"start_from_ns": now // 2}):
        _, marks, spans, want = check_marks(rows, f)
        for row in range(0, 5001, 13):
            assert marks.rank(row) == bisect.bisect_left(want, row)
        for rank in range(0, len(want), 97):
            assert marks.take(rank, 70).tolist() == want[rank : rank + 70]
        for by_self in (False, True):
            for descending in (False, True):
                order = sorted(((spans[i]["self_ns" if by_self else "duration_ns"], i) for i in want), reverse=descending)[:70]
                values, found = marks.top(70, by_self=by_self, descending=descending)
                assert list(zip(values.tolist(), found.tolist())) == order


def test_check_is_called_and_may_end_it():
    index = index_of([(i, i % 3, 7, 1 + i % 2, 1, oracle.NONE) for i in range(300)])

    def check():
        raise TimeoutError

    for ask in (
        lambda: Marks(index, check=check),
        lambda: Marks(index, [0], check=check),
        lambda: Marks(index).top(5, check=check),
        lambda: Marks(index).sums(numpy.zeros(len(index.functions), dtype=numpy.uint32), 1, check=check),
    ):
        with pytest.raises(TimeoutError):
            ask()


def test_what_cannot_be_used_is_refused():
    index = index_of([(i, 1, 7, 1 + i % 2, 1, oracle.NONE) for i in range(10)])
    for number in (1, -1, 2**40):
        with pytest.raises(UsageError, match="no number"):
            Marks(index, [number])
        with pytest.raises(UsageError, match="no number"):
            ranks([(index, number)], [50])
    for group, groups in (([0, 0], 1), ([1], 1), ([], 1)):
        with pytest.raises(UsageError, match="group"):
            Marks(index).sums(numpy.array(group, dtype=numpy.uint32), groups)
