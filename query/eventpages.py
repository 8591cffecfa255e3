"""Pages of events in the order of time, or of threads, forwards and backwards: no more is merged than a page.

Order "timestamp": by time; equal times by the thread's position in the trace, then by index_seq. Order "threadId": by tid, and
within a tid by time. Descending is exactly the reverse.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from atf._core.pages import Filter, Order

if TYPE_CHECKING:
    from atf.query.traces import View
    from atf.trace_files import Thread

OrderBy = Literal["timestamp", "threadId"]
Check = Callable[[], Any]
KEY_LENGTH = 7
_CHUNK_EVENTS = 1 << 16
_MOST_CHUNKS = 1 << 10
_CUT_ENTRIES = 1 << 18  # positions in the table of one filtered listing, at most
_LISTINGS = 16  # kept open with a view


def identity(thread: Thread) -> tuple[int, int, int, int]:
    """What names a thread also when others join it while the trace grows; rises with its position."""

    def numbers(name: str, prefix: str) -> tuple[int, int]:
        match = re.fullmatch(rf"{prefix}_(\d+)(?:_(\d+))?", name)
        return (int(match[1]) & 0xFFFFFFFFFFFF, int(match[2] or 1) & 0xFFFFFFFFFFFF) if match else (0, 0)

    return (*numbers(thread.process.place.name, "pid"), *numbers(thread.place.name, "thread"))


class Line:
    """The events of some threads in a window that pass a filter, in order of time. total: how many; rank: place among them, from 0.

    With a filter the window is read once, in chunks, to count what passes in each; afterwards a rank costs a part of a chunk.
    """

    def __init__(self, threads: Sequence[Thread], window: tuple[int, int], chosen: Filter | None, check: Check) -> None:
        self.threads, self.chosen = threads, chosen
        self.order = Order([t.events for t in threads], [t.process.position for t in threads])
        self.identities = [identity(t) for t in threads]
        self.low, self.high = self.order.window(*window)
        self.cuts, self.before, self.chunk = [self.low], [0], 1
        if chosen is None:
            self.total = self.order.between(self.low, self.high)
        else:
            self._count(check)
            self.total = self.before[-1]

    def _count(self, check: Check) -> None:
        import numpy

        events = self.order.between(self.low, self.high)
        chunks = max(1, min(_MOST_CHUNKS, _CUT_ENTRIES // max(1, len(self.threads))))
        self.chunk = max(_CHUNK_EVENTS, -(-events // chunks))
        for _ in range(-(-events // self.chunk)):
            check()
            here = self.cuts[-1]
            # No thread has more of the next `chunk` events than `chunk`.
            reach = numpy.minimum(here.astype(numpy.uint64) + numpy.uint64(self.chunk), self.high).astype(numpy.uint32)
            there = self.order.at_rank(here, reach, self.chunk)
            self.before.append(self.before[-1] + self.order.total(here, there, self.chosen))
            self.cuts.append(there)

    def place(self, rank: int) -> tuple[Any, int]:
        """(cut, how many that pass come after it before the event of this rank)."""
        if self.chosen is None:
            return self.order.at_rank(self.low, self.high, rank), 0
        i = bisect_right(self.before, rank) - 1
        return self.cuts[i], rank - self.before[i]

    def rank(self, cut: Any) -> int:
        """How many that pass come before a cut."""
        import numpy

        events = self.order.between(self.low, cut)
        if self.chosen is None:
            return events
        i = min(events // self.chunk, len(self.cuts) - 1)
        return self.before[i] + self.order.total(numpy.minimum(self.cuts[i], cut), cut, self.chosen)

    def take(self, cut: Any, skip: int, count: int, below: Any, check: Check) -> tuple[list[Any], list[Any]]:
        """At most `count` events from a cut on and below another one, as lists of arrays: threads here, positions."""
        import numpy

        if self.chosen is None:
            threads, positions = self.order.take(cut, below, skip, count)
            return [threads], [positions]
        found: tuple[list[Any], list[Any]] = ([], [])
        i = min(self.order.between(self.low, cut) // self.chunk, len(self.cuts) - 1)
        for i in range(i, len(self.cuts) - 1):
            if not count:
                break
            stop = numpy.maximum(numpy.minimum(self.cuts[i + 1], below), cut)
            if self.before[i + 1] > self.before[i]:
                check()
                threads, positions = self.order.take(cut, stop, skip, count, self.chosen)
                found[0].append(threads)
                found[1].append(positions)
                count, skip = count - len(threads), 0
            cut = stop
        return found

    def cut_of(self, key: Sequence[int], after: bool) -> Any:
        """The cut after, or before, the event of a key (time, identity, index_seq); the event need not be there any more."""
        time_ns, *who, seq = key
        known = tuple(who) in self.identities
        thread = self.identities.index(tuple(who)) if known else sum(one < tuple(who) for one in self.identities)  # type: ignore[arg-type]
        return self.order.at_key(self.low, self.high, time_ns, thread, seq, after, known)


class Page(NamedTuple):
    """threads: the Thread of each event; positions: its index_seq; events: structured array. more: others come after them."""

    threads: list[Thread]
    positions: list[int]
    events: Any
    more: bool


class Listing:
    """The events of a question, in its order: one line for all threads, or one for each tid."""

    def __init__(
        self, threads: Sequence[Thread], window: tuple[int, int], chosen: Filter | None, order_by: OrderBy, check: Check
    ) -> None:
        groups: dict[int, list[Thread]] = {}
        for thread in threads:
            groups.setdefault(thread.tid if order_by == "threadId" else 0, []).append(thread)
        self.tids = sorted(groups)
        self.lines = [Line(groups[tid], window, chosen, check) for tid in self.tids]
        self.first = [0]  # rank of the first event of each line
        for line in self.lines:
            self.first.append(self.first[-1] + line.total)
        self.total = self.first[-1]

    def page(self, limit: int, ascending: bool, offset: int, key: Sequence[int] | None, check: Check) -> Page:
        """At most `limit` events: from `offset` on, or those after the event of a key."""
        at, cut = 0, None  # the line of the key, and the place of the key in it
        edge = min(offset, self.total) if ascending else self.total - min(offset, self.total)
        if key is not None:
            at = bisect_left(self.tids, key[0])
            edge = self.first[min(at, len(self.lines))]
            if at < len(self.tids) and self.tids[at] == key[0]:
                cut = self.lines[at].cut_of(key[1:], ascending)
                edge += self.lines[at].rank(cut)
        start = edge if ascending else max(0, edge - limit)
        found = self._take(start, limit if ascending else edge - start, at, cut, ascending, check)
        count = sum(len(positions) for _, _, positions in found)
        return self._gather(found, ascending, count > 0 and (edge + count < self.total if ascending else edge - count > 0))

    def _take(self, rank: int, count: int, at: int, cut: Any, ascending: bool, check: Check) -> list[tuple[int, Any, Any]]:
        """[(line, threads there, positions)] of `count` events from a rank on; ascending from the cut in line `at`, else below it."""
        found = []
        number = at if ascending and cut is not None else bisect_right(self.first, rank, hi=len(self.lines)) - 1
        while count > 0 and 0 <= number < len(self.lines):
            line = self.lines[number]
            below = line.high if cut is None or ascending or number != at else cut
            if cut is not None and ascending and number == at:
                here, skip = cut, 0
            else:
                here, skip = line.place(max(0, rank - self.first[number]))
            if below is not line.high:
                import numpy

                here = numpy.minimum(here, below)
            for threads, positions in zip(*line.take(here, skip, count, below, check)):
                found.append((number, threads, positions))
                count -= len(positions)
            if below is not line.high:
                break
            number, rank = number + 1, 0
        return found

    def _gather(self, found: list[tuple[int, Any, Any]], ascending: bool, more: bool) -> Page:
        import numpy

        from atf._core.layout import EVENT_DTYPE

        threads: list[Thread] = []
        rows, at = [], []
        for number, numbers, positions in found:
            line = self.lines[number]
            rows.append(line.order.gather(numbers, positions))
            at.append(positions)
            threads += map(line.threads.__getitem__, numbers.tolist())
        events = numpy.concatenate(rows) if rows else numpy.empty(0, dtype=EVENT_DTYPE)
        places = numpy.concatenate(at).tolist() if at else []
        if not ascending:
            threads.reverse()
            places.reverse()
            events = events[::-1]
        return Page(threads, places, events, more)


def key_after(page: Page, count: int, order_by: OrderBy, ascending: bool, before: Sequence[int] | None) -> tuple[int, ...]:
    """The key of the last of the first `count` events of a page. before: the key that the page came after.

    Its time never goes back along a walk, also where a damaged thread's times do: so every walk ends.
    """
    last = page.threads[count - 1]
    group, first = 0, 0
    if order_by == "threadId":
        group, first = last.tid, count - 1
        while first and page.threads[first - 1].tid == group:
            first -= 1
    times = page.events["timestamp_ns"][first:count]
    time_ns = int(times.max() if ascending else times.min())
    if before is not None and before[0] == group:
        time_ns = max(time_ns, before[1]) if ascending else min(time_ns, before[1])
    return (group, time_ns, *identity(last), page.positions[count - 1])


def listing_of(view: View, key: Any, make: Callable[[], Listing]) -> Listing:
    """The listing of a question, made or kept. Two that ask at once may both make it."""
    kept: OrderedDict[Any, Listing] = view.once("events.listings", lambda view: OrderedDict())
    with view.lock:
        found = kept.get(key)
        if found is not None:
            kept.move_to_end(key)
    if found is None:
        found = make()
        with view.lock:
            kept[key] = found
            while len(kept) > _LISTINGS:
                kept.popitem(last=False)
    return found
