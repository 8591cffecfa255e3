"""One page of the marked spans of several threads, in an order over all of them, without putting all into that order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from atf._core.index_marks import Marks, start_at
from atf.query.spantypes import Check, Order, Refs


class Part(NamedTuple):
    """What is marked of one thread. position: of the thread in the trace."""

    position: int
    marks: Marks

    def first_after(self, key: Sequence[int], with_it: bool) -> int:
        """The row where those begin that come after the key (start, thread, row), or (`with_it`) that do not come before it."""
        index = self.marks.index
        start, thread, row = key
        low, high = index.first_row(start), index.first_row(start, True)
        if thread != self.position:
            return high if thread > self.position else low
        return max(low, min(high, row if with_it else row + 1))


def page(
    parts: list[Part], order: Order, ascending: bool, after: Sequence[int] | None, offset: int, limit: int | None, check: Check | None
) -> Refs:
    """The refs of a page, in order: see SpanSet.select."""
    if not all(part.marks.index.in_order for part in parts):
        return _any_order(parts, order, ascending, after, offset, limit)
    if order == "start":
        return _by_start(parts, ascending, after, offset, limit)
    return _by_value(parts, order == "self", ascending, after, offset, limit, check)


def _by_start(parts: list[Part], ascending: bool, after: Sequence[int] | None, offset: int, limit: int | None) -> Refs:
    """Ranks [low, high) of each thread, of which a piece from the front (or the back) is the page."""
    import numpy

    low, high = [0] * len(parts), [len(part.marks) for part in parts]
    if after is not None:
        edge = [part.marks.rank(part.first_after(after, not ascending)) for part in parts]
        low, high = (edge, high) if ascending else (low, edge)
    count = sum(high) - sum(low)
    first = min(offset, count)
    last = count if limit is None else min(count, first + limit)
    if not ascending:
        first, last = count - last, count - first
    begin = _split(parts, low, high, first)
    end = _split(parts, begin, high, last - first)
    thread, row, start = _joined(parts, [part.marks.take(a, b - a) for part, a, b in zip(parts, begin, end)])
    order = numpy.lexsort((row, thread, start))
    order = order if ascending else order[::-1]
    return Refs(thread[order], row[order])


def _split(parts: list[Part], low: list[int], high: list[int], rank: int) -> list[int]:
    """The rank in each thread before which the first `rank` spans of all stand, of those from `low` to `high`."""
    if not rank:
        return low
    if rank >= sum(high) - sum(low):
        return high
    start = start_at([(part.marks, a, b) for part, a, b in zip(parts, low, high)], rank)
    found, left = [], rank
    ties = []
    for part, a, b in zip(parts, low, high):
        index = part.marks.index
        before, with_them = (min(max(part.marks.rank(index.first_row(start, after)), a), b) for after in (False, True))
        found.append(before)
        ties.append(with_them - before)
        left -= before - a
    for i, tied in enumerate(ties):  # equal starts: by thread, then by row
        taken = min(tied, left)
        found[i] += taken
        left -= taken
    return found


def _by_value(
    parts: list[Part], by_self: bool, ascending: bool, after: Sequence[int] | None, offset: int, limit: int | None, check: Check | None
) -> Refs:
    import numpy

    most = sum(len(part.marks) for part in parts)
    room = most if limit is None else min(most, offset + limit)
    found: list[Any] = []
    values = numpy.empty(0, dtype=numpy.uint64)
    for part in parts:
        bound = edge = None
        if after is not None:
            row = part.first_after(after[1:], True) if not ascending else part.first_after(after[1:], False) - 1
            bound = (after[0], row)
        if 0 < room <= len(values):  # nothing worse than the last of the best so far can be on the page
            kept = numpy.partition(values, room - 1)[:room] if ascending else numpy.partition(values, len(values) - room)[-room:]
            values, edge = kept, int(kept.max() if ascending else kept.min())
        mine, rows = part.marks.top(room, by_self=by_self, descending=not ascending, bound=bound, edge=edge, check=check)
        values = numpy.concatenate([values, mine])
        found.append((mine, rows))
    thread, row, start = _joined(parts, [rows for _, rows in found])
    value = numpy.concatenate([mine for mine, _ in found]) if found else start
    order = numpy.lexsort((row, thread, start, value))
    order = (order if ascending else order[::-1])[offset : None if limit is None else offset + limit]
    return Refs(thread[order], row[order])


def _joined(parts: list[Part], rows: list[Any]) -> tuple[Any, Any, Any]:
    """(thread, row, start) of rows of each part, one part after the other."""
    import numpy

    if not parts:
        return numpy.empty(0, dtype=numpy.uint32), numpy.empty(0, dtype=numpy.int64), numpy.empty(0, dtype=numpy.uint64)
    threads = numpy.array([part.position for part in parts], dtype=numpy.uint32)
    starts = [part.marks.index.starts(mine) for part, mine in zip(parts, rows)]
    return (
        numpy.repeat(threads, [len(mine) for mine in rows]),
        numpy.concatenate(rows).astype(numpy.int64),
        numpy.concatenate(starts),
    )


def _any_order(
    parts: list[Part], order: Order, ascending: bool, after: Sequence[int] | None, offset: int, limit: int | None
) -> Refs:
    """Where timestamps go backwards, as in damaged files: everything is put in order."""
    import numpy

    rows = [part.marks.take(0, len(part.marks)) for part in parts]
    thread, row, start = _joined(parts, rows)
    keys: list[Any] = [start, thread, row]
    if order != "start":
        name = "self_ns" if order == "self" else "duration_ns"
        keys.insert(0, numpy.concatenate([part.marks.index.gather(mine)[name] for part, mine in zip(parts, rows)]))
    if after is not None:
        beyond, equal = numpy.zeros(len(row), dtype=bool), numpy.ones(len(row), dtype=bool)
        for column, bound in zip(keys, after, strict=True):
            edge = column.dtype.type(min(bound, numpy.iinfo(column.dtype).max))
            beyond |= equal & (column > edge if ascending else column < edge)
            equal &= column == edge
        keys = [column[beyond] for column in keys]
        thread, row = thread[beyond], row[beyond]
    found = numpy.lexsort(keys[::-1])
    found = (found if ascending else found[::-1])[offset : None if limit is None else offset + limit]
    return Refs(thread[found], row[found])
