"""Durations of calls: sums and percentiles to compare with each other, or with `ms(50)`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from atf import wording
from atf._core.errors import TraceIncomplete, UsageError
from atf.callset import CallSet
from atf.window_rows import only_calls

if TYPE_CHECKING:
    from collections.abc import Callable

_OPEN, _LOST, _UNWOUND, _UNTIMED = 3, 4, 2, 5
_PERCENTILE = re.compile(r"(self_)?p(\d{1,2})")
_FACTOR = "ATF_TIME_FACTOR"


class Nanoseconds(int):
    """An int of nanoseconds whose text is `12.3 ms`."""

    def __repr__(self) -> str:
        return wording.duration(int(self))

    __str__ = __repr__

    def __add__(self, other: Any) -> Any:
        return _made(int(self).__add__, other)

    def __sub__(self, other: Any) -> Any:
        return _made(int(self).__sub__, other)

    def __mul__(self, other: Any) -> Any:
        return Nanoseconds(round(int(self) * other)) if isinstance(other, (int, float)) else NotImplemented

    __radd__, __rmul__ = __add__, __mul__


def _made(operation: Callable[[Any], Any], other: Any) -> Any:
    result = operation(int(other)) if isinstance(other, int) else NotImplemented
    return result if result is NotImplemented else Nanoseconds(result)


def _limit(value: float, scale: int) -> Nanoseconds:
    text = os.environ.get(_FACTOR, "1")
    try:
        factor = float(text)
    except ValueError:
        factor = 0
    if not 0 < factor < 1e6:
        raise UsageError(f"{_FACTOR}={text!r}: give a number like 3, by which limits are multiplied on slow machines")
    return Nanoseconds(round(value * scale * factor))


def ms(value: float) -> Nanoseconds:
    """So many milliseconds, as a limit: multiplied by the environment's ATF_TIME_FACTOR, where that is set."""
    return _limit(value, 10**6)


def us(value: float) -> Nanoseconds:
    """So many microseconds, as `ms`."""
    return _limit(value, 10**3)


class Timed(CallSet):
    """Calls and their times. Times are active times: what a generator or coroutine was suspended does not count, but in `wall`.

    p50, p95, … and self_p50, … (any whole percentage from 1 to 99) are percentiles of the times, and self times, of one call: the smallest that so
    many per cent of the calls do not exceed. AssertionError when there are no calls, since any limit would hold; TraceIncomplete when
    the end of one of them is not known.
    """

    def _columns(self) -> Any:
        """The rows and the columns; after checks."""
        __tracebackhide__ = True
        import numpy

        self._whole()
        rows = self._window.rows
        c = rows.table.columns
        if not len(self._rows):
            raise AssertionError(f"there is nothing to time: {self!r}")
        status = c.status[self._rows]
        without = numpy.isin(status, [_OPEN, _LOST, _UNTIMED])
        for at, row in enumerate(self._rows.tolist()):
            thread = rows.table.threads[int(c.thread[row])]
            own = rows.function(row).id >> 32 == 0
            if not own and only_calls(thread.process.manifest.data.get("level")):
                raise TraceIncomplete(f"how long {self._pattern!r} took was not recorded: the level was 'calls'; record with level='returns'")
            if own and status[at] == _UNWOUND and rows.ended_by_yield(row):
                without[at] = True  # a span around an await: its coroutine was suspended, and the span's end cannot be told from others'
        if without.any():
            number = int(without.sum())
            raise TraceIncomplete(
                f"of {self.title()}, {number} {'has' if number == 1 else 'have'} no known end: still running, around an await, or recorded without returns"
            )
        return c, self._rows

    @property
    def total(self) -> Nanoseconds:
        """The time in which any of them ran: recursion counts once."""
        __tracebackhide__ = True
        rows = self._window.rows
        c, own = self._columns()
        chosen = set(own.tolist())
        # What is below another one of the set is in that one's time.
        inside = rows.nearest_above(own, self._fits)
        return Nanoseconds(sum(int(c.active_ns[row]) for row, above in zip(own.tolist(), inside.tolist()) if above not in chosen))

    @property
    def self(self) -> Nanoseconds:
        """The time in which they ran themselves, without what they called."""
        __tracebackhide__ = True
        c, own = self._columns()
        return Nanoseconds(int(c.self_ns[own].sum()))

    self_total = self

    @property
    def wall(self) -> Nanoseconds:
        """From the begin to the end of each, added up."""
        __tracebackhide__ = True
        c, own = self._columns()
        return Nanoseconds(int((c.end_ns[own] - c.start_ns[own]).sum()))

    @property
    def mean(self) -> Nanoseconds:
        __tracebackhide__ = True
        c, own = self._columns()
        return Nanoseconds(round(int(c.active_ns[own].sum()) / len(own)))

    @property
    def min(self) -> Nanoseconds:
        __tracebackhide__ = True
        return self.percentile(0)

    @property
    def max(self) -> Nanoseconds:
        __tracebackhide__ = True
        return self.percentile(100)

    def percentile(self, percent: float, of: str = "active") -> Nanoseconds:
        """The smallest time that so many per cent of the calls do not exceed; of: active, self or wall."""
        __tracebackhide__ = True
        import math

        if of not in ("active", "self", "wall") or not 0 <= percent <= 100:
            raise UsageError(f"percentile({percent!r}, of={of!r}): give 0 to 100, and active, self or wall")
        c, own = self._columns()
        values = sorted((c.end_ns[own] - c.start_ns[own] if of == "wall" else getattr(c, f"{of}_ns")[own]).tolist())
        return Nanoseconds(values[max(math.ceil(percent * len(values) / 100) - 1, 0)])

    def __getattr__(self, name: str) -> Nanoseconds:
        __tracebackhide__ = True
        match = _PERCENTILE.fullmatch(name)
        if match is None or int(match[2]) == 0:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}; times: total, self, wall, mean, min, max, p50, p95, self_p95, …")
        return self.percentile(int(match[2]), "self" if match[1] else "active")
