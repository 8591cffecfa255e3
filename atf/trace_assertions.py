"""The assertions of a window, asked of a whole trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atf.callset import Call, CallSet
    from atf.durations import Timed
    from atf.event_set import EventSet
    from atf.order import Order
    from atf.raised import Raised
    from atf.windows import Window


class Assertions:
    """What `trace.window()` answers can be asked of the trace; see atf.windows.Window for each."""

    def window(self, start_ns: int | None = None, end_ns: int | None = None) -> Window:
        """What began in [start_ns, end_ns), CLOCK_BOOTTIME nanoseconds, to be asserted on; None: from the begin, to the end."""
        from atf.windows import Window

        return Window(self, start_ns, end_ns)  # type: ignore[arg-type]  # only a Trace inherits from this

    def calls(self, pattern: str, under: str | None = None) -> CallSet:
        __tracebackhide__ = True
        return self.window().calls(pattern, under)

    def call(self, pattern: str, under: str | None = None) -> Call:
        __tracebackhide__ = True
        return self.window().call(pattern, under)

    def span(self, pattern: str, under: str | None = None) -> Timed:
        __tracebackhide__ = True
        return self.window().span(pattern, under)

    def order(self, *patterns: str) -> Order:
        __tracebackhide__ = True
        return self.window().order(*patterns)

    def never(self, *patterns: str) -> None:
        __tracebackhide__ = True
        self.window().never(*patterns)

    def raised(self, wanted: type[BaseException] | str | None = None) -> Raised:
        __tracebackhide__ = True
        return self.window().raised(wanted)

    def event(self, name: str, /, **attributes: Any) -> EventSet:
        __tracebackhide__ = True
        return self.window().event(name, **attributes)

    def decision(self, event_type: str, /, **attributes: Any) -> EventSet:
        __tracebackhide__ = True
        return self.window().decision(event_type, **attributes)

    def same_shape_as(self, path: Any, ignore: Any = (), update: bool | None = None) -> None:
        __tracebackhide__ = True
        self.window().same_shape_as(path, ignore, update)
