"""Recordings that run now: what their recorders count, for trace.info and /metrics."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atf import control, runtime
from atf.errors import AtfError

_WAIT_S = 0.3  # a recorder answers within 20 ms unless it is stopped


def counted(place: Path) -> dict[str, Any] | None:
    """What the recorder of a session, or of a process's directory of one, counts now; None: nobody answers."""
    for session in _running():
        if os.path.realpath(session["config"].get("output", "")) in (str(place), str(place.parent), str(place.parent.parent)):
            return _asked(session)
    return None


def recordings(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(trace id, its numbers) of each recording below `root` that runs."""
    for session in _running():
        place = Path(os.path.realpath(session["config"].get("output", "")))
        if place.is_relative_to(root) and place != root and (found := _asked(session)) is not None:
            yield place.relative_to(root).as_posix(), found


def _running() -> list[dict[str, Any]]:
    try:
        return [one for one in runtime.sessions() if one["recorder_alive"] and one["config"].get("output")]
    except (AtfError, OSError):
        return []


def _asked(session: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return control.ask(session, "stat", wait_s=_WAIT_S)
    except (AtfError, OSError, ValueError):
        return None


_EVENTS = "atf_recording_events_total", "counter", "Events of a running recording, by what became of them."
_SERIES = (
    ("bytes_total", "counter", "Bytes written.", "bytes", 1),
    ("rings_total", "counter", "Full rings that the drain read.", "swaps", 1),
    ("exhausted_total", "counter", "Rings that producers took back unread.", "exhausted", 1),
    ("rate", "gauge", "Events a second, in the last second.", "rate", 1),
    ("lag_seconds", "gauge", "Age of the oldest record when its ring was read, in the last second.", "lag_ns", 1e-9),
    ("lag_worst_seconds", "gauge", "The worst lag so far.", "lag_most_ns", 1e-9),
    ("drain_cycles_total", "counter", "Passes of the drain.", "cycles", 1),
    ("write_seconds_total", "counter", "Time that the drain spent writing.", "write_ns", 1e-9),
)


def prometheus(root: Path) -> str:
    """The numbers of running recordings in Prometheus' text format."""
    found = sorted(recordings(root))
    if not found:
        return ""
    lines = ["# HELP {0} {2}\n# TYPE {0} {1}".format(*_EVENTS)]
    for trace, numbers in found:
        lines += [f'{_EVENTS[0]}{{trace="{_label(trace)}",what="{what}"}} {numbers[what]}' for what in ("written", "dropped", "filtered")]
    for name, kind, help, key, scale in _SERIES:
        lines.append(f"# HELP atf_recording_{name} {help}\n# TYPE atf_recording_{name} {kind}")
        lines += [f'atf_recording_{name}{{trace="{_label(trace)}"}} {numbers[key] * scale:.10g}' for trace, numbers in found]
    lines.append("# HELP atf_recording_threads Threads seen so far.\n# TYPE atf_recording_threads gauge")
    lines += [f'atf_recording_threads{{trace="{_label(trace)}"}} {len(numbers["threads"])}' for trace, numbers in found]
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
