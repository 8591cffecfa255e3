"""Assertions on what was recorded between two moments: counts, order, nesting, what was never called.

    with atf.open("traces") as trace:
        w = trace.window()
        assert w.calls("shop.tax.rate") == 3
        assert w.calls("shop.db.*", under="shop.views.*").max_per("shop.views.item") <= 1
        w.order("auth.check", "db.begin", "db.commit")
        w.never("requests.*", "socket.*")

Names are patterns (globs) of a function's name or `module.name`. A question that the trace cannot answer, because records were lost or
filters left functions out, raises TraceIncomplete; a claim that does not hold raises AssertionError and shows the calls in question.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from atf import call_lines, completeness
from atf._core.errors import TraceIncomplete, UsageError
from atf.baselines import same_shape
from atf.callset import Call, CallSet
from atf.durations import Timed
from atf.event_set import EventSet
from atf.left_out import left_out
from atf.order import Order, fail_never
from atf.raised import Raised, raised
from atf.trace_filters import LAST_NS, number
from atf.window_rows import Rows

if TYPE_CHECKING:
    from atf.trace import Trace
    from atf.trace_events import Event

_OWN_NOTES = 0xFFFFFF00  # from here on, ids of events by which the recorder notes something for itself
_AROUND = 12  # calls that are shown where none are in question


class Window:
    """What began in [start_ns, end_ns) of a trace (CLOCK_BOOTTIME nanoseconds); None: from its begin, to its end.

    Reads when it is first asked, and again after `trace.refresh()` has found more. baselines: the directory that relative paths of
    baselines are below; None: the current one.
    """

    baselines: str | os.PathLike[str] | None = None

    def __init__(self, trace: Trace, start_ns: int | None = None, end_ns: int | None = None) -> None:
        self.trace = trace
        self.start_ns, self.end_ns = number("start_ns", start_ns, 0), number("end_ns", end_ns, LAST_NS)
        if self.start_ns > self.end_ns:
            raise UsageError(f"the window ends before it begins: start_ns={self.start_ns}, end_ns={self.end_ns}")
        self._rows: Rows | None = None
        self._lost: str | None = None

    @property
    def rows(self) -> Rows:
        """The window's calls as rows of the trace's table of spans."""
        if self._rows is None or self._rows.table is not self.trace.table():
            self._rows = Rows(self.trace, self.start_ns, self.end_ns)
            self._lost = completeness.lost_in(self.trace, self.start_ns, self.end_ns)
        return self._rows

    @property
    def lost(self) -> str | None:
        """Why records of this window may be missing, as a sentence; None: it is complete."""
        return self._lost if self.rows else None

    def missing(self, *patterns: str, nested: bool = False) -> str | None:
        """Why calls of these patterns may be missing: records were lost, or the recording left them out; None: none are. nested: and why who
        called whom may not be known.
        """
        rows = self.rows
        if self._lost is not None:
            return self._lost
        if nested and rows.nesting_unknown is not None:
            return rows.nesting_unknown
        for pattern in patterns:
            found = bool(rows.fits(pattern).any())
            for process in self.trace.processes:
                if (why := left_out(process, pattern, found)) is not None:
                    near = [] if found else self._near(pattern)
                    nearest = f"; of what was recorded, nearest: {', '.join(near)}" if near else ""
                    return f"{pattern!r}: {why}{nearest}"
        return None

    def nearest(self, pattern: str) -> str:
        """A sentence about a name that no function of the trace has: which names are like it."""
        near = self._near(pattern)
        if near:
            return f"no function of the trace is named {pattern!r}; nearest: {', '.join(near)}"
        number = len(self.rows.table.functions)
        return f"no function of the trace is named {pattern!r}, or like it ({number} function{'s were' if number != 1 else ' was'} recorded)"

    def _near(self, pattern: str) -> list[str]:
        """At most three names of functions that are like a pattern, as a whole or in their last part."""
        names = self.rows.names()
        near = difflib.get_close_matches(pattern, names, 3, 0.75)
        if not near:
            ends = {name.rpartition(".")[2]: name for name in names}
            near = [ends[end] for end in difflib.get_close_matches(pattern.rpartition(".")[2], list(ends), 3, 0.75)]
        return near

    def around(self) -> list[str]:
        """Lines of the window's last calls, for where no call is in question."""
        last = self.rows.rows[-_AROUND:].tolist()
        return [f"  the last of the {len(self.rows.rows)} calls:", *call_lines.tree(self.rows, last)] if last else ["  no calls were recorded"]

    def instants(self) -> list[Event]:
        """The program's own events in the window, by time."""
        found = self.trace.events(kind="instant", start_ns=self.start_ns, end_ns=self.end_ns)
        return [event for event in found if event.timestamp_ns < self.end_ns and (event.function is None or event.function.id < _OWN_NOTES)]

    def calls(self, pattern: str, under: str | None = None) -> CallSet:
        """Calls of functions that fit a pattern, by time; under: only those below a call that fits it, at any distance."""
        rows = self.rows
        found = rows.of(rows.fits(pattern))
        if under is not None:
            found = found[rows.nearest_above(found, rows.fits(under)) >= 0]
        return CallSet(self, found, pattern, under, self._missing_under(under, pattern))

    def span(self, pattern: str, under: str | None = None) -> Timed:
        """The program's own spans of a name and their times; where there are none of the name, the calls of functions of that name."""
        rows = self.rows
        fits = rows.fits(pattern, own=True)
        found = rows.of(fits)
        if under is not None:
            found = found[rows.nearest_above(found, rows.fits(under)) >= 0]
        own = any(fits[i] and f.id >> 32 == 0 for i, f in enumerate(rows.table.functions))
        return Timed(self, found, pattern, under, self._missing_under(under, *([] if own else [pattern])), fits)

    def _missing_under(self, under: str | None, *patterns: str) -> str | None:
        """As `missing`, and whether what is below calls of `under` is known."""
        if under is None:
            return self.missing(*patterns)
        missing = self.missing(*patterns, under, nested=True)
        return missing if missing is not None else self.rows.around_awaits(under)

    def raised(self, wanted: type[BaseException] | str | None = None) -> Raised:
        """Exceptions of a class or its subclasses, or of a pattern of the name, or all; `.swallowed` and `.escaped` are parts of them.

        Seen is what left a recorded function: not what was caught where it was raised.
        """
        return raised(self, wanted)

    def event(self, name: str, /, **attributes: Any) -> EventSet:
        """The program's own events of a name (a pattern) that have these attributes, and others."""
        return EventSet(self, name, attributes, self._details_missing(attributes))

    def decision(self, event_type: str, /, **attributes: Any) -> EventSet:
        """Decisions of a type (a pattern): a TraceCollector's events, with their fields (component, severity, request_id, …) and attributes, and
        events of the program's own of that name.
        """
        return EventSet(self, event_type, attributes, self._details_missing(attributes), decisions=True)

    def _details_missing(self, attributes: dict[str, Any]) -> str | None:
        return completeness.details_lost(self.trace) if self.lost is None and attributes else self.lost

    def call(self, pattern: str, under: str | None = None) -> Call:
        """The one call that fits. AssertionError when there is none, or more than one."""
        __tracebackhide__ = True
        found = self.calls(pattern, under)
        if found == 1:
            return found.seen[0]
        raise AssertionError(f"one call was expected; {found!r}")

    def order(self, *patterns: str) -> Order:
        """Asserts that calls of these began in this order, others between them or not; see Order.strict and Order.immediately."""
        __tracebackhide__ = True
        return Order(self, patterns)

    def never(self, *patterns: str) -> None:
        """Asserts that nothing of these was called."""
        __tracebackhide__ = True
        if not patterns:
            raise UsageError("never(): name at least one function")
        rows = self.rows
        fits = rows.fits(patterns[0]).copy()
        for pattern in patterns[1:]:
            fits |= rows.fits(pattern)
        found = rows.of(fits)
        if len(found):
            fail_never(self, patterns, found)
        missing = self.missing(*patterns)
        if missing is not None:
            raise TraceIncomplete(f"nothing shows that {', '.join(map(repr, patterns))} was never called; {missing}")

    def same_shape_as(self, path: str | os.PathLike[str], ignore: Iterable[str] = (), update: bool | None = None) -> None:
        """Asserts that the calls of the window are those of a baseline: the same functions below the same callers in the same order.

        path: a text file that this writes, or the directory of a recording; relative to `baselines`. ignore: patterns of functions left
        out with all that they call. update: write the file instead; None: when the environment says ATF_UPDATE=1. UsageError: there
        is no such file. FormatError: it is no baseline, or one of another version.
        """
        __tracebackhide__ = True
        same_shape(self, path, ignore, update)

    def __repr__(self) -> str:
        return f"<window of {self.trace.path}: {len(self.rows.rows)} calls>"
