"""Spans that stand for a group of spans: the slowest, and one that is as usual. And how the times in a group spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from atf.query.chunks import Check, chunks
from atf.query.spanset import Refs, SpanRows, SpanSet

GroupOf = Callable[[SpanRows], Any]  # the number of the group of each row of a chunk


class Finder:
    """Looks for spans of some groups, a pass over all spans for each question.

    group_of: numbers below `size`. chosen: an int array, the groups in question; answers are in its order. time: which time of a span is
    meant, active or self.
    """

    def __init__(
        self,
        spans: SpanSet,
        group_of: GroupOf,
        size: int,
        chosen: Any,
        time: Literal["active", "self"] = "active",
        threads: frozenset[int] | None = None,
        check: Check | None = None,
    ) -> None:
        import numpy

        self._spans, self._group_of, self._time, self._threads, self._check = spans, group_of, f"{time}_ns", threads, check
        self._count = len(chosen)
        self._place = numpy.full(size, -1, dtype=numpy.int64)
        self._place[chosen] = numpy.arange(self._count)

    def _chosen(self, overlap: tuple[int, int] | None = None) -> Any:
        """For each chunk (its rows, positions of those that are of a chosen group, the place of each one's group in `chosen`)."""
        import numpy

        for rows in chunks(self._spans, self._threads, self._check):
            place = self._place[self._group_of(rows)]
            mine = place >= 0
            if overlap is not None:
                mine &= (rows.end_ns >= numpy.uint64(overlap[0])) & (rows.start_ns <= numpy.uint64(overlap[1]))
            at = numpy.flatnonzero(mine)
            if len(at):
                yield rows, at, place[at]

    def longest(self, overlap: tuple[int, int] | None = None) -> Refs:
        """The span with the longest time of each group, the first of equal ones; row -1: there is none.

        overlap: (first, last), among those that have a part in this time.
        """
        import numpy

        best = numpy.zeros(self._count, dtype=numpy.uint64)
        thread, row = numpy.zeros(self._count, dtype=numpy.uint32), numpy.full(self._count, -1, dtype=numpy.int64)
        for rows, at, place in self._chosen(overlap):
            time = getattr(rows, self._time)[at]
            top = best.copy()
            numpy.maximum.at(top, place, time)
            # From the last to the first, so that of several assignments the first span's stays.
            hit = numpy.flatnonzero(time == top[place])[::-1]
            new = hit[(time[hit] > best[place[hit]]) | (row[place[hit]] < 0)]
            thread[place[new]], row[place[new]] = rows.thread[at[new]], rows.row[at[new]]
            best = top
        return Refs(thread, row)

    def with_time(self, time_ns: Any) -> Refs:
        """The first span of each group that took exactly so long (uint64, one a group); row -1: there is none."""
        import numpy

        thread, row = numpy.zeros(self._count, dtype=numpy.uint32), numpy.full(self._count, -1, dtype=numpy.int64)
        for rows, at, place in self._chosen():
            hit = numpy.flatnonzero((getattr(rows, self._time)[at] == time_ns[place]) & (row[place] < 0))[::-1]
            thread[place[hit]], row[place[hit]] = rows.thread[at[hit]], rows.row[at[hit]]
        return Refs(thread, row)

    def spread(self, percents: Sequence[int]) -> tuple[Any, Any]:
        """(times by nearest rank, uint64 of shape (groups, percents); their standard deviation, float of shape (groups,)), 0 for a
        group without a span."""
        import numpy

        found: list[tuple[Any, Any]] = [(place, getattr(rows, self._time)[at]) for rows, at, place in self._chosen()]
        ranks, deviation = numpy.zeros((self._count, len(percents)), dtype=numpy.uint64), numpy.zeros(self._count)
        if not found:
            return ranks, deviation
        group, time = (numpy.concatenate(one) for one in zip(*found))
        count = numpy.bincount(group, minlength=self._count)
        mean = numpy.bincount(group, time, minlength=self._count) / numpy.maximum(count, 1)
        squares = numpy.bincount(group, (time - mean[group]) ** 2, minlength=self._count)
        deviation = numpy.sqrt(squares / numpy.maximum(count - 1, 1))
        last = numpy.cumsum(count)
        first = last - count
        time = sorted_by_group(group, time)
        some = count > 0
        for column, percent in enumerate(percents):
            rank = (percent * count + 99) // 100 - 1
            ranks[some, column] = time[(first + rank)[some]]
        return ranks, deviation


def sorted_by_group(group: Any, values: Any) -> Any:
    """The values (uint64), those of the first group first, rising in each."""
    import numpy

    bits = 64 - int(group.max()).bit_length()
    if int(values.max()) >> bits:
        return values[numpy.lexsort((values, group))]
    # Both in one number: that sorts ten times as fast.
    keys = numpy.sort(group.astype(numpy.uint64) << numpy.uint64(bits) | values) if bits < 64 else numpy.sort(values)
    return keys & numpy.uint64((1 << bits) - 1)


def ids_of(spans: SpanSet, refs: Refs) -> list[str | None]:
    """The ids of spans; None where a row is -1."""
    import numpy

    ids: list[str | None] = [None] * len(refs.row)
    has = numpy.flatnonzero(refs.row >= 0)
    for at, span_id in zip(has.tolist(), spans.span_ids(spans.gather(Refs(refs.thread[has], refs.row[has])))):
        ids[at] = span_id
    return ids
