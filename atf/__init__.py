"""A flight recorder for programs and their tests.

    with atf.record("traces") as rec:          with atf.open(rec.path) as trace:
        with atf.span("checkout", cart=7):         trace.top()
            atf.event("priced", total=12)          trace.spans(function="checkout")

Everything is imported when it is first used: ``import atf`` costs next to nothing.

PYTEST_DONT_REWRITE: a recorded pytest has imported this before it looks for plugins, and would warn that it comes too late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from atf._core.errors import AtfError, FormatError, OutputError, SegmentError, SessionError, TraceIncomplete, UsageError
    from atf.collector import Duration, Severity, Timestamp, TraceCollector, TraceEvent, TraceEventBuilder
    from atf.durations import ms, us
    from atf.query.difference import compare
    from atf.session import Record, start, stop
    from atf.session import Record as record
    from atf.trace import Trace
    from atf.trace import open_trace as open
    from atf.tracing import event, mark, span, traced
    from atf.windows import Window

_HOMES = {
    "record": ("atf.session", "Record"),
    "Record": ("atf.session", "Record"),
    "start": ("atf.session", "start"),
    "stop": ("atf.session", "stop"),
    "span": ("atf.tracing", "span"),
    "event": ("atf.tracing", "event"),
    "mark": ("atf.tracing", "mark"),
    "traced": ("atf.tracing", "traced"),
    "open": ("atf.trace", "open_trace"),
    "Trace": ("atf.trace", "Trace"),
    "Window": ("atf.windows", "Window"),
    "compare": ("atf.query.difference", "compare"),
    "ms": ("atf.durations", "ms"),
    "us": ("atf.durations", "us"),
    **{
        name: ("atf.collector", name)
        for name in ("Duration", "Severity", "Timestamp", "TraceCollector", "TraceEvent", "TraceEventBuilder")
    },
    **{
        name: ("atf._core.errors", name)
        for name in ("AtfError", "FormatError", "OutputError", "SegmentError", "SessionError", "TraceIncomplete", "UsageError")
    },
}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'atf' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home[0]), home[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
