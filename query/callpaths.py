"""The call paths of a trace, `main → handle → price`, as numbers, and what its spans weigh by path.

A path is a number: 0 is the empty one, and each path's number is larger than its parent's. Functions of one name and place
are one label, also when two processes have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from atf._core.paths import Paths, roll_up
from atf.query import scratch
from atf.query.chunks import Check, chunks
from atf.query.spangroups import Label
from atf.query.spanset import SpanRows, SpanSet

if TYPE_CHECKING:
    from atf.query.traces import View

Weight = Literal["self", "active", "count"]


@dataclass(frozen=True)
class Window:
    """Times from start_ns to end_ns (CLOCK_BOOTTIME); of a span that reaches beyond, only the part inside counts."""

    start_ns: int = 0
    end_ns: int = (1 << 64) - 1


@dataclass(frozen=True)
class Weights:
    """By path, uint64: value, the sum of the spans of exactly this path; count, how many they are. estimated: spans of which
    only a part lies in the window and whose part is estimated, since they were suspended."""

    value: Any
    count: Any
    estimated: int


class CallPaths:
    """labels: [Label] by number. parent, label: uint32 by path. depth: how many labels a path has."""

    def __init__(self, spans: SpanSet, by_thread: bool = False, check: Check | None = None) -> None:
        import numpy

        groups = spans.groups("function")
        self.spans, self.labels = spans, list(groups.labels)
        member = numpy.ascontiguousarray(groups.member, dtype=numpy.uint32)
        numbers = Paths()
        # Paths by thread, each an array uint32 of the paths of its spans.
        self.of_thread = [scratch.array(spans.thread_length(thread), "u4") for thread in range(len(spans.threads))]
        roots = [0] * len(spans.threads)
        if by_thread:
            names = [str(t.name) for t in spans.threads]
            apart = [f"{name} ({t.tid})" if names.count(name) > 1 else name for name, t in zip(names, spans.threads)]
            roots = [self._root(numbers, Label(name, "", "", 0, t.tid)) for name, t in zip(apart, spans.threads)]
        for rows in chunks(spans, check=check):
            thread, first = int(rows.thread[0]), int(rows.row[0])
            parent = numpy.ascontiguousarray(rows.parent, dtype=numpy.int64)
            key = numpy.ascontiguousarray(rows.function, dtype=numpy.uint32)
            numbers.add(parent, key, member, self.of_thread[thread], first, roots[thread])
        self.parent, self.label = (scratch.kept(column) for column in numbers.columns())

    def _root(self, numbers: Paths, label: Label) -> int:
        import numpy

        path = numpy.zeros(1, dtype=numpy.uint32)
        number = numpy.array([len(self.labels)], dtype=numpy.uint32)
        numbers.add(numpy.array([-1]), numpy.zeros(1, dtype=numpy.uint32), number, path)
        self.labels.append(label)
        return int(path[0])

    @staticmethod
    def of(view: View, by_thread: bool = False, check: Check | None = None) -> CallPaths:
        """The paths of a view; made at the first question."""
        made: CallPaths = view.once(("callpaths", by_thread), lambda view: CallPaths(SpanSet.of(view), by_thread, check))
        return made

    def __len__(self) -> int:
        return len(self.parent)

    def path_labels(self, path: int) -> list[int]:
        """The numbers of the labels of a path, the root's first."""
        found = []
        while path:
            found.append(int(self.label[path]))
            path = int(self.parent[path])
        return found[::-1]

    def weigh(
        self, weight: Weight, window: Window | None = None, threads: frozenset[int] | None = None, check: Check | None = None
    ) -> Weights:
        """Sums by path: of self time, of active time, or of spans, of all threads or of these positions.

        With a window, `count` counts what has a part in it, and times are those inside it. What a span that reaches beyond has inside
        is exact where no generator or coroutine is involved.
        """
        import numpy

        value, count = (numpy.zeros(len(self), dtype=numpy.uint64) for _ in range(2))
        estimated = 0
        for thread in range(len(self.of_thread)):
            if threads is not None and thread not in threads:
                continue
            only = frozenset([thread])
            part = None if window is None else _Part(window, self.spans, thread, check)
            for rows in chunks(self.spans, only, check):
                path = self.of_rows(rows)
                if part is None:
                    add, chosen = (rows.self_ns if weight == "self" else rows.active_ns), slice(None)
                else:
                    chosen, add = part.of(rows, weight)
                numpy.add.at(count, path[chosen], numpy.uint64(1))
                if weight != "count":
                    numpy.add.at(value, path[chosen], add)
            estimated += part.estimated if part else 0
        return Weights(count if weight == "count" else value, count, estimated)

    def rolled_up(self, values: Any, largest: bool = False) -> Any:
        """Of each path the sum over itself and all paths below it (largest: the largest of them), uint64."""
        result = values.copy()
        roll_up(self.parent, result, largest)
        return result

    def of_rows(self, rows: SpanRows) -> Any:
        """The path of each row of a chunk: uint32."""
        first = int(rows.row[0]) if len(rows) else 0
        return self.of_thread[int(rows.thread[0]) if len(rows) else 0][first : first + len(rows)]


class _Part:
    """What of a thread's spans lies inside a window."""

    def __init__(self, window: Window, spans: SpanSet, thread: int, check: Check | None) -> None:
        import numpy

        self._start, self._end = numpy.uint64(window.start_ns), numpy.uint64(window.end_ns)
        self.estimated = 0
        # Of each span the active time of those that it called: the part inside the window, and all of it.
        self._called, self._called_whole = (numpy.zeros(spans.thread_length(thread), dtype=numpy.uint64) for _ in range(2))
        for rows in chunks(spans, frozenset([thread]), check):
            inside, clipped = self._clip(rows)
            below = numpy.flatnonzero((inside > 0) & (rows.parent >= 0))
            numpy.add.at(self._called, rows.parent[below], clipped[below])
            below = numpy.flatnonzero(rows.parent >= 0)
            numpy.add.at(self._called_whole, rows.parent[below], rows.active_ns[below])

    def _clip(self, rows: SpanRows) -> tuple[Any, Any]:
        """(0: outside, 1: a part, 2: whole; active time inside): a suspended span's is in proportion."""
        import numpy

        whole = (rows.start_ns >= self._start) & (rows.end_ns <= self._end)
        some = (rows.end_ns >= self._start) & (rows.start_ns <= self._end)
        clipped = numpy.minimum(rows.end_ns, self._end) - numpy.maximum(rows.start_ns, self._start)
        clipped[~some] = 0
        slept = numpy.flatnonzero(some & ~whole & (rows.active_ns != rows.duration_ns))
        if len(slept):
            share = rows.active_ns[slept] / numpy.maximum(rows.duration_ns[slept], numpy.uint64(1))
            clipped[slept] = (clipped[slept] * share).astype(numpy.uint64)
        return some.astype(numpy.uint8) + whole, numpy.where(whole, rows.active_ns, clipped)

    def of(self, rows: SpanRows, weight: Weight) -> tuple[Any, Any]:
        """(positions of the rows that have a part in the window, what each weighs)."""
        import numpy

        inside, clipped = self._clip(rows)
        chosen = numpy.flatnonzero(inside)
        value, active, partly = clipped[chosen], rows.active_ns[chosen], inside[chosen] == 1
        guessed = active != rows.duration_ns[chosen]
        if weight == "self":
            at = int(rows.row[0]) + chosen
            called, called_whole, self_ns = self._called[at], self._called_whole[at], rows.self_ns[chosen]
            # Where generators run, what ran on top of a span is not what it called.
            guessed |= self_ns != active - numpy.minimum(called_whole, active)
            value = numpy.where(partly, value - numpy.minimum(called, value), self_ns)
        if weight != "count":
            self.estimated += int((partly & guessed).sum())
        return chosen, value
