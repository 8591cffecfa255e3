"""The calls that a question about a window found: a number, a sequence, and a text that shows who made them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atf import call_lines
from atf._core.errors import TraceIncomplete, UsageError
from atf.count import Count
from atf.trace_spans import Span

if TYPE_CHECKING:
    from atf.windows import Window

_SHOWN = 12


class Call(Span):
    """A span whose values were asked for: what was not recorded raises TraceIncomplete instead of being None."""

    __slots__ = ()

    @property
    def args(self) -> dict[str, Any]:
        """The arguments by name."""
        __tracebackhide__ = True
        found = super().args
        if found is None:
            level = str(self.thread.process.manifest.data.get("level"))
            why = (
                f"the level was {level!r}: record with level='args'"
                if "args" not in level.split(",") and "repr" not in level.split(",")
                else "their record was lost"
            )
            raise TraceIncomplete(f"the arguments of {self.name} were not recorded; {why}")
        return found


class CallSet(Count):
    """Calls in order of time. Compares as an int; iterates over Call objects. seen: what was found, also where records are missing."""

    def __init__(self, window: Window, rows: Any, pattern: str, under: str | None, missing: str | None, fits: Any = None) -> None:
        super().__init__(len(rows), missing)
        self._window, self._rows, self._pattern, self._under = window, rows, pattern, under
        self._fits = window.rows.fits(pattern) if fits is None else fits
        self.at_least = under is None  # a lost call may have been the one that was between

    @property
    def seen(self) -> list[Call]:
        table = self._window.rows.table
        return [Call(table, row) for row in self._rows.tolist()]

    def __len__(self) -> int:
        __tracebackhide__ = True
        return self._whole()

    def __iter__(self) -> Iterator[Call]:
        __tracebackhide__ = True
        self._whole()
        return iter(self.seen)

    def __getitem__(self, i: Any) -> Any:
        __tracebackhide__ = True
        self._whole()
        if isinstance(i, slice):
            return self.seen[i]
        return Call(self._window.rows.table, int(self._rows[i]))

    def max_per(self, parent: str) -> MostPer:
        """The most of these calls that one call of `parent` (a pattern) made, itself or through others: 1 where each made one, 0 where none did.

        UsageError when there are such calls, and the trace has no function of the parent's name.
        """
        __tracebackhide__ = True
        return MostPer(self, parent)

    def title(self) -> str:
        below = f" under {self._under!r}" if self._under is not None else ""
        return f"{self._seen} call{'s' * (self._seen != 1)} of {self._pattern!r}{below}"

    def lines(self) -> list[str]:
        rows = self._window.rows
        if not self._seen:
            names = [self._pattern] if self._under is None else [self._pattern, self._under]
            return [f"  {self._window.nearest(name)}" for name in names if not rows.fits(name).any()] or self._window.around()
        return call_lines.tree(rows, self._rows.tolist(), marked=set(self._rows.tolist()), most=_SHOWN)


class MostPer(Count):
    """The most calls of a set that one call of a parent made. parent: that call; None: there was none."""

    at_least = False

    def __init__(self, calls: CallSet, parent: str) -> None:
        __tracebackhide__ = True
        import numpy

        window, rows = calls._window, calls._window.rows
        fits = rows.fits(parent)
        self._calls, self._name, self.parent = calls, parent, None
        missing = calls.missing or window.missing(parent, nested=True) or rows.around_awaits(parent)
        if len(calls._rows) and missing is None and not fits.any():
            raise UsageError(f"max_per({parent!r}): there is no such function in the trace; {window.nearest(parent)}")
        above = rows.nearest_above(calls._rows, fits)
        parents, numbers = numpy.unique(above[above >= 0], return_counts=True)
        self._rows = calls._rows[:0]
        if len(parents):
            most = int(parents[numpy.argmax(numbers)])
            self.parent, self._rows = rows.span(most), calls._rows[above == most]
        super().__init__(len(self._rows), missing)

    def title(self) -> str:
        return f"{self._seen} call{'s' * (self._seen != 1)} of {self._calls._pattern!r} in one call of {self._name!r}"

    def lines(self) -> list[str]:
        return call_lines.tree(self._calls._window.rows, self._rows.tolist(), marked=set(self._rows.tolist()), most=_SHOWN)
