"""The last events of a process that cannot tell them itself: it died, or hangs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from atf import wording
from atf._core.errors import AtfError
from atf.pytest_plugin import report as reports

if TYPE_CHECKING:
    from atf.pytest_plugin.layout import Run
    from atf.pytest_plugin.options import Settings


def rescue(run: Run, settings: Settings, start: str, pid: int, path: str, note: dict[str, Any]) -> str:
    """Write what a process's rings hold to ``path``, add it to the index, and return what to say about it. Never raises.

    start: the directory from which paths are shown.
    """
    import atf
    from atf.slices import salvage

    while os.path.exists(path):  # what the process told itself, before it ended
        path += ".crash"
    try:
        run.open()
        kept = salvage(pid, path, note={"run": run.id, **note})
        with atf.open(path) as trace:
            begin_ns = begin_of(trace, note["nodeid"])
            text = reports.calls(trace, begin_ns, None, settings.tail)
            if trace.times is not None and note["outcome"] == "interrupted":
                text += f"\nno event for {wording.duration(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - trace.times[1])}"
        measured = {"events": kept.events, "bytes": kept.bytes, "overwritten": kept.overwritten}
        run.add({**note, "attempt": 1, "time": time.time(), "path": os.path.relpath(path, run.directory), **measured})
    except (AtfError, OSError) as error:
        return f"(its last calls cannot be told: {error})"
    ending = reports.ending(path, start, 0)
    return "\n".join(filter(None, (text, ending)))


def begin_of(trace: Any, nodeid: str) -> int | None:
    """When the last attempt of a test began; without a nodeid, of whatever test was last. None: it is not in the trace."""
    found = None
    for event in trace.events(function="pytest setup", kind="call"):
        detail = event.detail or {}
        if not nodeid or detail.get("attributes", {}).get("nodeid") == nodeid:
            found = int(event.timestamp_ns)
    return found


def rescue_child(run: Run, settings: Settings, start: str, nodeid: str, error: str) -> str:
    """Of a forked child that died in a test; empty when it had no rings."""
    from atf import runtime
    from atf._core.segment import alive

    for session in runtime.sessions():
        for process in session["processes"]:
            if process.get("ppid") == str(os.getpid()) and not alive(int(process["pid"]), int(process.get("start", 0) or 0)):
                note = {"nodeid": nodeid, "outcome": "crashed", "error": error, "worker": run.worker}
                return rescue(run, settings, start, int(process["pid"]), run.place(nodeid, 1), note)
    return ""
