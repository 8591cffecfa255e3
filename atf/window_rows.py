"""The calls that began in a window of a trace, as rows of its table of spans.

A call belongs to a window when it began there: a call of two windows in a row is counted once. What was in progress when
recording began, or was resumed without having begun, is no call here, but calls may stand below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atf._core.spans import NO_SEQ
from atf.trace_filters import glob
from atf.trace_spans import Span

if TYPE_CHECKING:
    from atf.trace import Trace
    from atf.trace_manifest import Function

_CALL, _YIELD = 1, 5


def only_calls(level: Any) -> bool:
    """Whether a level records calls and not their ends."""
    return level == "calls"


class Rows:
    """rows: those begun in [start_ns, end_ns), by time (ties: by thread, then position). parent: of every row of the table; -1: none."""

    def __init__(self, trace: Trace, start_ns: int, end_ns: int) -> None:
        import numpy

        self.trace, self.table, self.start_ns, self.end_ns = trace, trace.table(), start_ns, end_ns
        c = self.table.columns
        inside = (c.start_ns >= numpy.uint64(start_ns)) & (c.start_ns < numpy.uint64(end_ns))
        self.parent = c.parent
        for thread, first, end in self.threads():
            if not inside[first:end].any() and not only_calls(thread.process.manifest.data.get("level")):
                continue
            begins = thread.events[c.call_seq[first:end]]
            inside[first:end] &= begins["event_kind"] == _CALL
            inside[first : first + thread.entered] = False
            if only_calls(thread.process.manifest.data.get("level")):
                self._nest_by_depth(first, begins["call_depth"].tolist())
        self._inside = inside
        rows = numpy.flatnonzero(inside)
        self.rows = rows[numpy.argsort(c.start_ns[rows], kind="stable")]
        self._fits: dict[tuple[str, bool], Any] = {}

    def threads(self) -> Iterator[tuple[Any, int, int]]:
        """(thread, its first row, the row behind its last)."""
        bounds = [*self.table.columns.thread_rows.tolist(), len(self.table.columns)]
        for position, thread in enumerate(self.table.threads):
            yield thread, bounds[position], bounds[position + 1]

    def _nest_by_depth(self, first: int, depths: list[int]) -> None:
        """Without returns only the recorded depth says who called whom."""
        if self.parent is self.table.columns.parent:
            self.parent = self.parent.copy()
        above: list[tuple[int, int]] = []
        for row, depth in enumerate(depths, first):
            while above and above[-1][1] >= depth:
                above.pop()
            self.parent[row] = above[-1][0] if above else -1
            above.append((row, depth))

    def span(self, row: int) -> Span:
        return Span(self.table, int(row))

    def function(self, row: int) -> Function:
        return self.table.functions[int(self.table.columns.function[row])]

    def fits(self, pattern: str, own: bool = False) -> Any:
        """Which functions of the table a pattern means (bool): those of its name; where there are none, the program's own spans. own: the
        other way round.
        """
        import numpy

        found = self._fits.get((pattern, own))
        if found is None:
            by_name, functions = glob("pattern", pattern), self.table.functions
            of_name = numpy.array([by_name(f.name) or by_name(f.qualified) for f in functions], dtype=bool)
            first = of_name & numpy.array([(f.id >> 32 == 0) == own for f in functions], dtype=bool)
            found = self._fits[pattern, own] = first if first.any() else of_name
        return found

    def of(self, fits: Any) -> Any:
        """The rows of the window whose functions fit, by time."""
        if not len(fits) or not fits.any():
            return self.rows[:0]
        return self.rows[fits[self.table.columns.function[self.rows]]]

    def nearest_above(self, rows: Any, fits: Any) -> Any:
        """Of each row the nearest row above it whose function fits; -1: there is none."""
        import numpy

        above = self.parent[rows].astype(numpy.int64)
        if not len(fits) or not fits.any():
            return numpy.full(len(rows), -1, dtype=numpy.int64)
        function = self.table.columns.function
        while True:
            on = above >= 0
            on[on] = ~fits[function[above[on]]]
            if not on.any():
                return above
            above[on] = self.parent[above[on]]

    def is_below(self, row: int, other: int) -> bool:
        """Whether `other` is among those that called `row`; a caller's row is always the smaller."""
        while row > other:
            row = int(self.parent[row])
        return row == other

    def holds(self, row: int) -> bool:
        """Whether the row is a call that began in the window."""
        return row >= 0 and bool(self._inside[row])

    def position(self, row: int) -> tuple[int, int, int]:
        """By which rows are in order of time."""
        c = self.table.columns
        return int(c.start_ns[row]), int(c.thread[row]), row

    def ended_by_yield(self, row: int) -> bool:
        """Whether the last that is known of a row is a suspension: its own, or that of the coroutine in which a span was open (around an await)."""
        c = self.table.columns
        seq = int(c.end_seq[row])
        return seq != NO_SEQ and int(self.table.threads[int(c.thread[row])].events[seq]["event_kind"]) == _YIELD

    def names(self) -> list[str]:
        """The qualified names of all functions of the trace."""
        return [f.qualified for f in self.table.functions]
