"""The events of a trace in order of time, filtered in compiled code and made into objects as they are asked for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from atf._core.layout import GAP_REASONS, KINDS, NO_DETAIL, NOT_KEPT
from atf._core.merge import IdSet, Merge

if TYPE_CHECKING:
    from atf.trace import Trace
    from atf.trace_files import Thread
    from atf.trace_manifest import Function

_GAP = 8


class Event:
    """One event. timestamp_ns: nanoseconds on the CLOCK_BOOTTIME scale. index_seq: its position in its thread."""

    __slots__ = ("_detail_seq", "_function_id", "_kind", "depth", "index_seq", "thread", "timestamp_ns")

    def __init__(self, thread: "Thread", index_seq: int, record: tuple[int, int, int, int, int, int]) -> None:
        self.thread, self.index_seq = thread, index_seq
        self.timestamp_ns, self._function_id, _, self._kind, self.depth, self._detail_seq = record

    @property
    def kind(self) -> str:
        """call, return, exception, instant, yield, resume, signal or gap."""
        return KINDS.get(self._kind) or f"kind {self._kind}"

    @property
    def function(self) -> "Function | None":
        """None for a gap."""
        return None if self._kind == _GAP else self.thread.process.function(self._function_id)

    @property
    def lost(self) -> int:
        """How many events were lost here: a gap's number, else 0. What lay outside of every window, or stands in earlier parts, is not lost."""
        return self._function_id if self._kind == _GAP and self.depth < NOT_KEPT else 0

    @property
    def unkept(self) -> int:
        """How many events a flight recorder let go here, because they lay in no window; else 0."""
        return self._function_id if self._kind == _GAP and self.depth == NOT_KEPT else 0

    @property
    def reason(self) -> str | None:
        """Why a gap is there; None for other events."""
        return GAP_REASONS.get(self.depth, f"reason {self.depth}") if self._kind == _GAP else None

    @property
    def detail(self) -> dict[str, Any] | None:
        """The values recorded with it, decoded now; None when there are none, or when the link to them is broken."""
        return self.thread.detail_of(self.index_seq, self._detail_seq)

    @property
    def has_detail(self) -> bool:
        return self._detail_seq != NO_DETAIL

    def __repr__(self) -> str:
        what = f"{self.lost or self.unkept} events ({self.reason})" if self._kind == _GAP else self.function
        return f"<{self.kind} {what} at {self.timestamp_ns} ns in {self.thread}>"


class ThreadEvents(NamedTuple):
    """Events of one thread: their positions (uint32, shape (N,)) and the events (structured, shape (N,)).

    Without a filter but for time nothing is copied: `events` is a view of the file, and `index_seq` a range.
    """

    thread: "Thread"
    index_seq: Any
    events: Any


class Events:
    """The events that pass a filter. Iterates over Event objects in order of time, with bounded memory.

    `len()` counts without merging. Every iteration starts anew.
    """

    def __init__(
        self,
        trace: "Trace",
        threads: "list[Thread]",
        start_ns: int,
        end_ns: int,
        kinds: int,
        ids: "dict[int, IdSet] | None",
        depths: tuple[int, int],
        limit: int | None,
    ) -> None:
        # The list of all threads as it is now: a refresh makes a new one.
        self._trace, self._all, self._threads, self._window, self._limit = trace, trace.threads, threads, (start_ns, end_ns), limit
        self._filters: dict[str, Any] = {"kinds": kinds, "min_depth": depths[0], "max_depth": depths[1]}
        if ids is not None:
            # A gap's function id is a number of events, not a function.
            self._filters |= {"kinds": kinds & ~(1 << _GAP), "functions": [ids[t.process.position] for t in threads]}
        self._plain = ids is None and kinds == 0xFFFFFFFF and depths == (0, 0xFFFFFFFF)

    def _merge(self) -> Merge:
        self._trace.check_open()
        return Merge([thread.events for thread in self._threads], *self._window, **self._filters)

    def __len__(self) -> int:
        count = self._merge().count()
        return count if self._limit is None else min(count, self._limit)

    def chunks(self, size: int = 65536) -> Iterator[tuple[Any, Any, Any]]:
        """(thread, index_seq, events): uint32, uint32 and structured arrays of up to `size` events, in order of time.

        `thread` is a position in `trace.threads` as it was when these events were asked for.
        """
        import numpy

        positions = numpy.array([thread.position for thread in self._threads], dtype=numpy.uint32)
        merge, left = self._merge(), self._limit
        while left is None or left > 0:
            threads, seqs = merge.take(size if left is None else min(size, left))
            if not len(threads):
                return
            left = None if left is None else left - len(threads)
            yield positions[threads], seqs, merge.gather(threads, seqs)

    def __iter__(self) -> Iterator[Event]:
        threads = self._all
        size = 8192 if self._limit is None else max(1, min(self._limit, 8192))
        for numbers, seqs, rows in self.chunks(size):
            for number, seq, row in zip(numbers.tolist(), seqs.tolist(), rows.tolist(), strict=True):
                yield Event(threads[number], seq, row)

    def arrays(self) -> list[ThreadEvents]:
        """The events thread by thread, as arrays; without a copy where only the time is bounded. A limit is not applied."""
        merge, result = self._merge(), []
        for i, (thread, (first, end)) in enumerate(zip(self._threads, merge.bounds(), strict=True)):
            seqs = range(first, end) if self._plain else merge.select(i)
            result.append(ThreadEvents(thread, seqs, thread.events[first:end] if self._plain else thread.events[seqs]))
        return result

    def __repr__(self) -> str:
        return f"<{len(self)} events>"
