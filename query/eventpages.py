"""Pages of events in the order of time, or of threads, forwards and backwards: no more is merged than a page.

Order "timestamp": by time; equal times by the thread's position in the trace, then by index_seq. Order "threadId": by tid, and
within a tid by time. Descending is exactly the reverse.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from atf._core.pages import Filter
from atf.query.eventlines import Check, identity, line_of

if TYPE_CHECKING:
    from atf.query.traces import View
    from atf.trace_files import Thread

OrderBy = Literal["timestamp", "threadId"]
KEY_LENGTH = 7
_FEW_EVENTS = 1 << 16  # of a filtered listing that keeps them
_LISTINGS = 16  # kept with a view


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
        self.lines = [line_of(groups[tid], window, chosen, check, _FEW_EVENTS // len(groups)) for tid in self.tids]
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
            for threads, positions in line.take(here, skip, count, below, check):
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
