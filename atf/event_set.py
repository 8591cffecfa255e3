"""The program's own events and decisions in a window."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from atf import wording
from atf.count import Count
from atf.trace_filters import glob

if TYPE_CHECKING:
    from atf.trace_events import Event
    from atf.windows import Window

_SHOWN = 12
DECISION = "decision:"  # before the type of an event of a TraceCollector, as its name in a recording


def values_of(event: Event) -> dict[str, Any]:
    """What an event says of itself: its attributes, and with them whatever else it was recorded with; of a decision its fields and attributes."""
    said = event.detail or {}
    found = {key: value for key, value in said.items() if key not in ("name", "attributes")}
    given = said.get("attributes")
    if isinstance(given, Mapping):
        found.update(given)
        if is_decision(event) and isinstance(given.get("attributes"), Mapping):
            del found["attributes"]
            found = {**given["attributes"], **found}
    return found


def is_decision(event: Event) -> bool:
    """Whether a TraceCollector wrote it."""
    return event.function is not None and event.function.name.startswith(DECISION)


def _plain(value: Any) -> Any:
    """Tuples are recorded as lists."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


class EventSet(Count):
    """Events by time: a number that is compared as an int, and the objects (atf.trace_events.Event)."""

    def __init__(self, window: Window, pattern: str, wanted: dict[str, Any], missing: str | None, decisions: bool = False) -> None:
        by_plain = glob("event", pattern)

        def by_name(name: str) -> bool:
            return by_plain(name.removeprefix(DECISION) if decisions else name)

        self._pattern, self._wanted = pattern, wanted
        self._all = window.instants()
        self._named = [event for event in self._all if event.function is not None and by_name(event.function.name)]
        self._found = [event for event in self._named if self._fits(event)]
        super().__init__(len(self._found), missing)

    def _fits(self, event: Event) -> bool:
        if not self._wanted:
            return True
        values, texts = values_of(event), is_decision(event)  # attributes of a decision are texts
        return all(
            name in values and (values[name] == _plain(value) or (texts and values[name] == str(value))) for name, value in self._wanted.items()
        )

    def __len__(self) -> int:
        return self._whole()

    def __iter__(self) -> Iterator[Event]:
        self._whole()
        return iter(self._found)

    def title(self) -> str:
        given = wording.arguments(self._wanted) if self._wanted else ""
        return f"{self._seen} event{'s' * (self._seen != 1)} {self._pattern!r}{given}"

    def lines(self) -> list[str]:
        shown, before = self._found, "  "
        lines = []
        if not shown and self._named:
            shown, before = self._named, "  other: "
        if not shown:
            names = sorted({event.function.name for event in self._all if event.function is not None})
            near = difflib.get_close_matches(self._pattern, names, 3) or names[:6]
            return [f"  no event of that name; there are {', '.join(near)}" if near else "  there are no events in the window"]
        for event in shown[:_SHOWN]:
            lines.append(wording.clean(f"{before}{event.function}{wording.arguments(values_of(event))}  in {event.thread}"))
        return [*lines, f"  … and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else lines
