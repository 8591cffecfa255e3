"""The events of some threads in order of time, as lines that are cut at a rank or at an event: what pages are made from."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from atf._core.pages import Filter, Order

if TYPE_CHECKING:
    from atf.trace_files import Thread

Check = Callable[[], Any]
CHUNK_EVENTS = 1 << 16
_MOST_CHUNKS = 1 << 10
_CUT_ENTRIES = 1 << 18  # positions in the table of chunks of one line, at most


def identity(thread: Thread) -> tuple[int, int, int, int]:
    """What names a thread also when others join it while the trace grows; rises with its position."""

    def numbers(name: str, prefix: str) -> tuple[int, int]:
        match = re.fullmatch(rf"{prefix}_(\d+)(?:_(\d+))?", name)
        return (int(match[1]) & 0xFFFFFFFFFFFF, int(match[2] or 1) & 0xFFFFFFFFFFFF) if match else (0, 0)

    return (*numbers(thread.process.place.name, "pid"), *numbers(thread.place.name, "thread"))


class Line:
    """The events of some threads inside a window that pass a filter. total: how many; rank: an event's place among them, from 0.

    A cut is a place in the line, from `low` to `high`. A key is (time, identity of the thread, index_seq) of an event.
    With a filter the window is read once, in chunks, to count what passes in each; afterwards a rank costs a part of a chunk.
    """

    def __init__(self, threads: Sequence[Thread], window: tuple[int, int], chosen: Filter | None) -> None:
        self.threads, self.chosen = threads, chosen
        self.order = Order([t.events for t in threads], [t.process.position for t in threads])
        self.identities = [identity(t) for t in threads]
        self.low, self.high = self.order.window(*window)
        self.total = self.order.between(self.low, self.high) if chosen is None else 0
        self.cuts, self.before, self.chunk = [self.low], [0], 1

    def count(self, check: Check, room: int) -> list[tuple[Any, Any]] | None:
        """Makes the table of a filtered line. What passes, [(threads, positions)], if it is no more than `room` in all."""
        import numpy

        few: list[tuple[Any, Any]] | None = []
        events = self.order.between(self.low, self.high)
        chunks = max(1, min(_MOST_CHUNKS, _CUT_ENTRIES // max(1, len(self.threads))))
        self.chunk = max(CHUNK_EVENTS, -(-events // chunks))
        for _ in range(-(-events // self.chunk)):
            check()
            here = self.cuts[-1]
            # No thread has more of the next `chunk` events than `chunk`.
            reach = numpy.minimum(here.astype(numpy.uint64) + numpy.uint64(self.chunk), self.high).astype(numpy.uint32)
            there = self.order.at_rank(here, reach, self.chunk)
            passing = self.order.total(here, there, self.chosen)
            self.cuts.append(there)
            self.before.append(self.before[-1] + passing)
            if few is not None and passing:
                few = None if self.before[-1] > room else [*few, self.order.select(here, there, passing, self.chosen)]
        self.total = self.before[-1]
        return few

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

    def take(self, cut: Any, skip: int, count: int, below: Any, check: Check) -> list[tuple[Any, Any]]:
        """At most `count` events from a cut on and below another one, without the first `skip`: [(threads, positions)], in order.

        threads: positions in `self.threads`.
        """
        import numpy

        cut = numpy.minimum(cut, below)
        if self.chosen is None:
            return [self.order.take(cut, below, skip, count)]
        found = []
        first = self.order.between(self.low, cut) // self.chunk
        for i in range(first, len(self.cuts) - 1):
            if not count:
                break
            stop = numpy.maximum(numpy.minimum(self.cuts[i + 1], below), cut)
            if self.before[i + 1] > self.before[i]:
                check()
                found.append(self.order.take(cut, stop, skip, count, self.chosen))
                count, skip = count - len(found[-1][0]), 0
            cut = stop
        return found

    def thread_of(self, who: tuple[int, ...]) -> tuple[int, bool]:
        """(position of a thread here, True), or (that of the first one after it, False)."""
        if who in self.identities:
            return self.identities.index(who), True
        return sum(one < who for one in self.identities), False

    def cut_of(self, key: Sequence[int], after: bool) -> Any:
        """The cut after, or before, the event of a key; the event need not be there any more."""
        time_ns, *who, seq = key
        thread, known = self.thread_of(tuple(who))
        return self.order.at_key(self.low, self.high, time_ns, thread, seq, after, known)


class ShortLine(Line):
    """A filtered line with few events, which are kept: in a page nothing is read that does not pass. A cut is a rank."""

    def __init__(self, line: Line, few: list[tuple[Any, Any]]) -> None:
        import numpy

        self.threads, self.order, self.identities = line.threads, line.order, line.identities
        threads = numpy.concatenate([threads for threads, _ in few]) if few else numpy.empty(0, dtype=numpy.uint32)
        positions = numpy.concatenate([positions for _, positions in few]) if few else threads
        times = self.order.gather(threads, positions)["timestamp_ns"]
        places = threads.astype(numpy.uint64) << numpy.uint64(32) | positions
        order = numpy.lexsort((places, times))
        self._times, self._places = times[order], places[order]
        self.low, self.high, self.total = 0, len(places), len(places)

    def place(self, rank: int) -> tuple[Any, int]:
        return rank, 0

    def rank(self, cut: Any) -> int:
        return int(cut)

    def take(self, cut: Any, skip: int, count: int, below: Any, check: Check) -> list[tuple[Any, Any]]:
        import numpy

        places = self._places[cut + skip : min(cut + skip + count, below)]
        return [((places >> numpy.uint64(32)).astype(numpy.uint32), places.astype(numpy.uint32))]

    def cut_of(self, key: Sequence[int], after: bool) -> Any:
        import numpy

        time_ns, *who, seq = key
        thread, known = self.thread_of(tuple(who))
        first, last = (int(numpy.searchsorted(self._times, numpy.uint64(time_ns), side)) for side in ("left", "right"))
        place = numpy.uint64(thread << 32 | (min(seq, 0xFFFFFFFF) if known else 0))
        return first + int(numpy.searchsorted(self._places[first:last], place, "right" if after and known else "left"))


def line_of(threads: Sequence[Thread], window: tuple[int, int], chosen: Filter | None, check: Check, room: int) -> Line:
    """The line of a question; one of at most `room` events that pass keeps them."""
    line = Line(threads, window, chosen)
    few = None if chosen is None else line.count(check, room)
    return line if few is None else ShortLine(line, few)
