"""The first call in which two traces differ: threads side by side, and on each the calls in the order in which they were made.

Until then both made the same calls: of functions of one name, each by the same caller. So a call's position among the calls of its
thread names it in both traces, and its caller is the same when the caller's position is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atf.query.alignment import align, pair_threads
from atf.query.chunks import CHUNK
from atf.query.spanset import Refs, SpanRows

if TYPE_CHECKING:
    from atf.query.comparison import Side
    from atf.trace_files import Thread

_FIRST = 1 << 12  # rows that are looked at first: most that differ do so soon
BEFORE, BEYOND = 3, 60  # calls of one caller that are aligned, before and behind the divergence
_ROOTS = CHUNK


@dataclass
class Sibling:
    """Calls of one function that follow one another. side: both, before or after: who has them."""

    side: str
    group: int
    count: int


@dataclass
class Divergence:
    """threads: (before, after), None: there is none. caller: the row, in both traces, of the call below which they differ; -1: none.

    rows: of the next call below it in each, None: there is no more. siblings: the calls of the caller around it, aligned. position: how
    many calls the caller had made until then. after_ns: how long after the begin of its trace.
    """

    threads: tuple[int | None, int | None]
    caller: int
    rows: tuple[int | None, int | None]
    siblings: list[Sibling]
    position: int
    after_ns: int


def first_divergence(before: Side, after: Side) -> Divergence | None:
    """The earliest, as time since the begin of the traces goes, of those of all pairs of threads; None: all calls are the same."""
    found = []
    for pair in pair_threads(before.spans.threads, after.spans.threads):
        rows = _differing(before, after, pair)
        if rows is not None:
            found.append((_begin(before, after, pair, rows), pair, rows))
    if not found:
        return None
    after_ns, pair, rows = min(found, key=lambda one: (one[0], one[1][0] is None, one[1]))
    return _described(before, after, pair, rows, after_ns)


Pair = tuple[int | None, int | None]


def _differing(before: Side, after: Side, pair: Pair) -> tuple[int | None, int | None] | None:
    """The row at which two threads differ, in each of them: None where it has ended. None: they are the same."""
    import numpy

    lengths = [0 if at is None else side.spans.thread_length(at) for side, at in zip((before, after), pair)]
    shorter, first, size = min(lengths), 0, _FIRST
    while first < shorter:
        for side in (before, after):
            side.check()
        end = min(first + size, shorter)
        one, other = (side.spans.rows(at, first, end) for side, at in zip((before, after), pair) if at is not None)
        differ = numpy.flatnonzero((one.parent != other.parent) | (_named(before, one) != _named(after, other)))
        if len(differ):
            return first + int(differ[0]), first + int(differ[0])
        first, size = end, CHUNK
    if lengths[0] == lengths[1]:
        return None
    return (shorter, None) if lengths[0] > shorter else (None, shorter)


def _named(side: Side, rows: SpanRows) -> Any:
    """The number that both traces share of the function of each row."""
    return side.function_number[side.spans.groups("function").member[rows.function]]


def _begin(before: Side, after: Side, pair: Pair, rows: tuple[int | None, int | None]) -> int:
    """The earlier one of the two calls, since the begin of its trace."""
    times = []
    for side, at, row in zip((before, after), pair, rows):
        if at is not None and row is not None:
            times.append(max(0, int(side.spans.rows(at, row, row + 1).start_ns[0]) - side.view.start_ns))
    return min(times)


def _described(before: Side, after: Side, pair: Pair, rows: tuple[int | None, int | None], after_ns: int) -> Divergence:
    sides = list(zip((before, after), pair, rows))
    parents = [None if row is None or at is None else int(side.spans.rows(at, row, row + 1).parent[0]) for side, at, row in sides]
    # The caller that has one call more: a caller that began later is the deeper one, and the other trace has gone on above it.
    caller = max(parent for parent in parents if parent is not None)
    own = (rows[0] if parents[0] == caller else None, rows[1] if parents[1] == caller else None)
    at_row = next(row for row in rows if row is not None)
    around = [_calls_of(side, at, caller, at_row) for side, at, _ in sides]
    position = max(number for number, _, _ in around)
    siblings = _aligned([groups for _, groups, _ in around], (around[0][2], around[1][2]))
    return Divergence(pair, caller, own, siblings, position, after_ns)


def _calls_of(side: Side, thread: int | None, caller: int, at: int) -> tuple[int, list[int], bool]:
    """(how many calls the caller made before row `at`, the shared numbers of the functions of its calls around there, whether more follow)."""
    import numpy

    if thread is None:
        return 0, [], False
    if caller >= 0:
        children = side.spans.children((thread, caller)).row
    else:
        begin = max(0, at - _ROOTS)
        near = side.spans.rows(thread, begin, at + _ROOTS)
        children = near.row[near.parent < 0]
    before = int(numpy.searchsorted(children, at))
    some = children[max(0, before - BEFORE) : before + BEYOND]
    rows = side.spans.gather(Refs(numpy.full(len(some), thread, dtype=numpy.uint32), some))
    return before, _named(side, rows).tolist(), len(children) > before + BEYOND


def _aligned(groups: Sequence[list[int]], cut: tuple[bool, bool]) -> list[Sibling]:
    before, after = groups
    found: list[Sibling] = []
    for one, other in align(before, after, cut):
        side = "after" if one is None else "before" if other is None else "both"
        group = before[one] if one is not None else after[other or 0]
        if found and (found[-1].side, found[-1].group) == (side, group):
            found[-1].count += 1
        else:
            found.append(Sibling(side, group, 1))
    return found


def path_of(side: Side, thread: int, row: int) -> Iterator[int]:
    """The shared numbers of the functions from the root down to a row."""
    if row >= 0:
        yield from _named(side, side.spans.gather(side.spans.path((thread, row)))).tolist()


def thread_of(side: Side, at: int | None) -> Thread | None:
    return None if at is None else side.spans.threads[at]
