"""Numbers, names and messages as sentences carry them: short, and on one line."""

from __future__ import annotations

import json

from atf.query.spangroups import Label

MOST_NAME, MOST_MESSAGE = 80, 120
_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))


def duration(ns: float) -> str:
    """Three digits and a unit: 1.84 s, 12.3 ms, 450 ns."""
    for size, unit in _UNITS:
        if ns >= size * 0.9995:
            amount = ns / size
            return f"{amount:,.0f} {unit}" if amount >= 99.95 else f"{amount:.1f} {unit}" if amount >= 9.995 else f"{amount:.2f} {unit}"
    return f"{ns:.0f} ns"


def share(part: float, whole: float) -> str:
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %"


def number(n: int, one: str, many: str = "") -> str:
    """1 call, 2,000 calls."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def named(label: Label) -> str:
    """`module.name` on one line; a long one is cut."""
    return cut(" ".join((f"{label.module}.{label.name}" if label.module else label.name).split()) or "(no name)", MOST_NAME)


def quoted(message: object) -> str:
    """What a program said, as a JSON string: it can break no line and pass for no sentence of ours."""
    return json.dumps(cut(message if isinstance(message, str) else json.dumps(message, default=str), MOST_MESSAGE), ensure_ascii=False)
