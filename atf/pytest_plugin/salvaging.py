"""The last events of a process that cannot tell them itself: it died, or hangs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from atf._core.errors import AtfError
from atf.pytest_plugin import report as reports

if TYPE_CHECKING:
    from atf.pytest_plugin.session import Session


def rescue(session: Session, pid: int, path: str, note: dict[str, Any]) -> str:
    """Write what a process's rings hold to ``path``, add it to the index, and return what to say about it. Never raises."""
    import atf
    from atf.slices import salvage

    run, settings = session.run, session.settings
    assert run is not None
    try:
        run.open()
        kept = salvage(pid, path, note={"run": run.id, **note})
        with atf.open(path) as trace:
            begin_ns = begin_of(trace, note["nodeid"])
            text = reports.calls(trace, begin_ns, None, settings.tail)
        run.add(
            {**note, "attempt": 1, "path": os.path.relpath(path, run.directory), "events": kept.events, "bytes": kept.bytes, "overwritten": kept.overwritten}
        )
    except (AtfError, OSError) as error:
        return f"(its last calls cannot be told: {error})"
    ending = reports.ending(path, str(session.config.invocation_params.dir), 0)
    return "\n".join(filter(None, (text, ending)))


def begin_of(trace: Any, nodeid: str) -> int | None:
    """When the last attempt of a test began; without a nodeid, of whatever test was last. None: it is not in the trace."""
    found = None
    for event in trace.events(function="pytest setup", kind="call"):
        detail = event.detail or {}
        if not nodeid or detail.get("attributes", {}).get("nodeid") == nodeid:
            found = int(event.timestamp_ns)
    return found
