"""Calls that must come one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atf import call_lines
from atf._core.errors import TraceIncomplete, UsageError

if TYPE_CHECKING:
    from atf.windows import Window

_SHOWN = 24


class Order:
    """Calls of `patterns` that began in this order; others may be between. Made by `Window.order`, which has checked it.

    strict() and immediately() ask for more. Each raises AssertionError, or returns this again.
    """

    def __init__(self, window: Window, patterns: tuple[str, ...]) -> None:
        __tracebackhide__ = True
        if not patterns:
            raise UsageError("order(): name at least one function")
        self._window, self._patterns = window, patterns
        rows = window.rows
        self._fits = [rows.fits(pattern) for pattern in patterns]
        any_fits = self._fits[0].copy()
        for fits in self._fits[1:]:
            any_fits |= fits
        self._calls: list[int] = rows.of(any_fits).tolist()
        found = 0
        for row in self._calls:
            if found < len(patterns) and self._is(row, found):
                found += 1
        if found < len(patterns):
            before = f" behind {patterns[found - 1]!r}" if found else ""
            self._fail(f"there is no call of {patterns[found]!r}{before}, in the order of {self._said}", *patterns)

    @property
    def _said(self) -> str:
        return ", ".join(map(repr, self._patterns))

    def _is(self, row: int, number: int) -> bool:
        return bool(self._fits[number][self._window.rows.table.columns.function[row]])

    def _fail(self, what: str, *names: str) -> None:
        __tracebackhide__ = True
        missing = self._window.missing(*names)
        if missing is not None:
            raise TraceIncomplete(f"{what}; but records are missing: {missing}")
        unknown = [f"  {self._window.nearest(n)}" for n, fits in zip(self._patterns, self._fits) if not fits.any()]
        shown = call_lines.tree(self._window.rows, self._calls, marked=set(self._calls), most=_SHOWN)
        raise AssertionError("\n".join([what, *unknown, *(shown or self._window.around())]))

    def _whole(self, nested: bool = False) -> None:
        __tracebackhide__ = True
        missing = self._window.missing(*self._patterns, nested=nested)
        if missing is not None:
            raise TraceIncomplete(f"other calls may have been between {self._said}: {missing}")

    def strict(self) -> Order:
        """There are no other calls of these functions in the window: each came once for each time that it is named."""
        __tracebackhide__ = True
        for at, row in enumerate(self._calls):
            if at >= len(self._patterns) or not self._is(row, at):
                name = self._window.rows.function(row).qualified
                wanted = f"where {self._patterns[at]!r} should be" if at < len(self._patterns) else "behind the last"
                # One call too many stays one, whatever else was lost.
                raise AssertionError("\n".join([f"strictly {self._said}: there is a call of {name!r} {wanted}", *self._shown()]))
        self._whole()
        return self

    def immediately(self) -> Order:
        """In one thread each call followed the one before directly: it was the first that that one made, or the first after it, and no other
        recorded call began between them but, after it, its own.
        """
        __tracebackhide__ = True
        self._whole(nested=True)
        rows, limit = self._window.rows, len(self._window.rows.table.columns)
        thread = rows.table.columns.thread
        reached = {row for row in self._calls if self._is(row, 0)}
        for number in range(1, len(self._patterns)):
            following: set[int] = set()
            for row in reached:
                after = row + 1
                while after < limit and thread[after] == thread[row] and rows.is_below(after, row):
                    after += 1
                following |= {at for at in (row + 1, after) if at < limit and thread[at] == thread[row]}
            reached = {row for row in following if self._is(row, number) and rows.holds(row)}
            if not reached:
                self._fail(f"no call of {self._patterns[number]!r} came immediately after {self._patterns[number - 1]!r}", *self._patterns)
        return self

    def _shown(self) -> list[str]:
        return call_lines.tree(self._window.rows, self._calls, marked=set(self._calls), most=_SHOWN)

    def __repr__(self) -> str:
        return "\n".join([f"<order {self._said}>", *self._shown()])

    def __bool__(self) -> bool:
        return True


def fail_never(window: Window, patterns: tuple[str, ...], found: Any) -> None:
    """Raises AssertionError: calls of `patterns` that should not be there."""
    __tracebackhide__ = True
    names = ", ".join(map(repr, patterns))
    number = len(found)
    what = f"never {names}: there {'is' if number == 1 else 'are'} {number} call{'s' * (number != 1)}"
    raise AssertionError("\n".join([what, *call_lines.tree(window.rows, found.tolist(), marked=set(found.tolist()), most=_SHOWN)]))
