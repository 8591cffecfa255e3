"""Values, calls and durations of a recording in the short texts that tables, trees and failure reports show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atf.trace_spans import Span

_VALUE_LENGTH = 40
ITEMS = 6  # of a container that are shown
_UNITS = (("ns", 1), ("µs", 10**3), ("ms", 10**6), ("s", 10**9))
# Names, messages and values come from the recorded program: what would move the cursor or break a line is written as an escape.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {9: "\\t", 10: "\\n", 13: "\\r"}


def clean(text: str) -> str:
    """The text in one line, without control characters and with nothing that cannot be encoded."""
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode("utf-8")


def duration(ns: float | None) -> str:
    """A duration in nanoseconds with three digits: ``1.23 ms``; ``-`` for None."""
    if ns is None:
        return "-"
    sign, size = ("-", -ns) if ns < 0 else ("", ns)
    if size >= 60 * 10**9:
        minutes, rest = divmod(round(size / 10**8), 600)
        return f"{sign}{minutes} min {rest / 10:.1f} s"
    if size < 1000:
        return f"{sign}{size:.0f} ns" if size == int(size) or size >= 999.5 else f"{sign}{size:.3g} ns"
    for unit, scale in _UNITS[1:]:
        value = size / scale
        if value < 999.5 or unit == "s":
            return f"{sign}{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    raise AssertionError("unreachable")


def count(number: int) -> str:
    return f"{number:,}"


def cut(shown: str) -> str:
    return shown if len(shown) <= _VALUE_LENGTH else shown[: _VALUE_LENGTH - 1] + "…"


def value(recorded: Any) -> str:
    """A recorded value in one short line: ``<module.Class>`` for an object, ``…3`` for three items that were not kept."""
    if isinstance(recorded, Mapping):
        if list(recorded) == ["~"]:
            return cut(f"<{recorded['~']}>")
        if list(recorded) == ["…"]:
            return f"…{recorded['…']}"
        return cut("{" + ", ".join(f"{value(key)}: {value(item)}" for key, item in _some(recorded.items())) + "}")
    if isinstance(recorded, (list, tuple)):
        return cut("[" + ", ".join(value(item) for item in _some(recorded)) + "]")
    # A long string is cut before it is quoted: repr would walk all of it.
    return cut(repr(recorded[: 2 * _VALUE_LENGTH] if isinstance(recorded, (str, bytes)) else recorded))


def _some(items: Any) -> list[Any]:
    return [item for _, item in zip(range(ITEMS), items)]


def arguments(recorded: Mapping[str, Any] | None) -> str:
    """``(a=1, b='x')``; nothing where none were recorded."""
    return "" if recorded is None else "(" + ", ".join(f"{name}={value(item)}" for name, item in recorded.items()) + ")"


def exception(recorded: Mapping[str, Any]) -> str:
    """``ValueError: message`` of a recorded exception."""
    kind, message = str(recorded.get("type")).removeprefix("builtins."), recorded.get("message")
    said = f": {message}" if message else ""
    return f"{kind}{said}" if len(said) <= 2 * _VALUE_LENGTH else f"{kind}{said[: 2 * _VALUE_LENGTH]}…"


def first_line(text: str) -> str:
    """The first line, with `…` where there are more."""
    first, cut, _ = text.partition("\n")
    return first + ("…" if cut else "")


def outcome(span: Span) -> str:
    """What a reader must know about how a span ended; empty for one that returned."""
    if span.status == "exception":
        recorded = span.exception
        return f"raised {exception(recorded)}" if recorded is not None else "raised"
    return "" if span.status == "ok" else str(span.status)


def call(span: Span) -> str:
    """``module.name(arguments) → result``, as far as these were recorded."""
    given = span.args if span.args is not None else span.attributes
    result = span.result if span.status in ("ok", "lost") else None  # the event at another's end is not its own, or a value that was yielded
    return span.name + arguments(given) + (f" → {value(result)}" if result is not None else "")
