"""The calls that began in a window of a trace, as rows of its table of spans.

A call belongs to a window when it began there: a call of two windows in a row is counted once. What was in progress when
recording began, or was resumed without having begun, is no call here, but calls may stand below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atf._core.spans import NO_SEQ
from atf.trace_filters import glob
from atf.trace_spans import Span

if TYPE_CHECKING:
    from atf.trace import Trace
    from atf.trace_files import Thread
    from atf.trace_manifest import Function

_CALL, _YIELD = 1, 5
_UNWOUND = 2


def only_calls(level: Any) -> bool:
    """Whether a level records calls and not their ends."""
    return level == "calls"


def _nesting_unknown(data: dict[str, Any]) -> str | None:
    """From Python 3.12 on the depth of level `calls` counts frames that were left out as well: then the call before may have returned."""
    filters = data.get("filters")
    version = re.match(r"3\.(\d+)", str(data.get("python")))
    if version is None or int(version[1]) < 12 or not isinstance(filters, dict) or not (filters.get("include") or filters.get("exclude")):
        return None
    return "with filters, level 'calls' does not tell who called whom on this Python: record with level='returns'"


class Rows:
    """rows: those begun in [start_ns, end_ns), by time (ties: by thread, then position). parent: of every row of the table; -1: none."""

    def __init__(self, trace: Trace, start_ns: int, end_ns: int) -> None:
        import numpy

        self.trace, self.table, self.start_ns, self.end_ns = trace, trace.table(), start_ns, end_ns
        c = self.table.columns
        inside = (c.start_ns >= numpy.uint64(start_ns)) & (c.start_ns < numpy.uint64(end_ns))
        self.parent = c.parent
        self.nesting_unknown: str | None = None  # why nobody knows who called whom
        for thread, first, end in self.threads():
            if not inside[first:end].any() and not only_calls(thread.process.manifest.data.get("level")):
                continue
            begins = thread.events[c.call_seq[first:end]]
            inside[first:end] &= begins["event_kind"] == _CALL
            inside[first : first + thread.entered] = False
            if only_calls(thread.process.manifest.data.get("level")):
                self._nest_by_depth(thread, first, end, begins["call_depth"].tolist())
        self._inside = inside
        rows = numpy.flatnonzero(inside)
        self.rows = rows[numpy.argsort(c.start_ns[rows], kind="stable")]
        self._fits: dict[tuple[str, bool], Any] = {}

    def threads(self) -> Iterator[tuple[Any, int, int]]:
        """(thread, its first row, the row behind its last)."""
        bounds = [*self.table.columns.thread_rows.tolist(), len(self.table.columns)]
        for position, thread in enumerate(self.table.threads):
            yield thread, bounds[position], bounds[position + 1]

    def _nest_by_depth(self, thread: Thread, first: int, end: int, depths: list[int]) -> None:
        """Without returns only the recorded depth says who called whom. The program's own spans have ends, but no depth to rely on: one is
        below the call that makes the first call in it.
        """
        c = self.table.columns
        if self.parent is c.parent:
            self.parent = self.parent.copy()
        if why := _nesting_unknown(thread.process.manifest.data):
            self.nesting_unknown = why
            self.parent[first:end] = -1
            return
        above: list[tuple[int, int]] = []  # (row, depth) of calls that may still run
        spans: list[int] = []  # open ones
        for row, depth in enumerate(depths, first):
            while spans and c.end_ns[spans[-1]] < c.start_ns[row]:
                spans.pop()
            if self.function(row).id >> 32 == 0:
                self.parent[row] = spans[-1] if spans else above[-1][0] if above else -1
                spans.append(row)
                continue
            while above and above[-1][1] >= depth:
                above.pop()
            self.parent[row] = above[-1][0] if above else -1
            if spans and spans[-1] > self.parent[row]:
                outermost = next(span for span in spans if span > self.parent[row])
                self.parent[outermost] = self.parent[row]
                self.parent[row] = spans[-1]
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

    def around_awaits(self, pattern: str) -> str | None:
        """Why it is not known what was called below spans that a pattern means: a coroutine or generator was suspended in one of them, and
        what it did when it went on is not below the span any more. None: it is.
        """
        import numpy

        c, fits = self.table.columns, self.fits(pattern)
        if not fits.any():
            return None
        for row in numpy.flatnonzero(fits[c.function] & (c.status == _UNWOUND)).tolist():
            if self.function(row).id >> 32 == 0 and self.ended_by_yield(row):
                return f"in a span {self.function(row).name!r} a coroutine or generator was suspended, and what it called there later is not told from the rest"
        return None

    def names(self) -> list[str]:
        """The qualified names of all functions of the trace."""
        return [f.qualified for f in self.table.functions]
