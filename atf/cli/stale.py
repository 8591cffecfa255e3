"""What killed processes left: sessions whose recorder is gone, and the segments of their processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from atf.cli.checks import Check
from atf.errors import AtfError, SegmentError, SessionError


def stale_sessions() -> list[dict[str, Any]]:
    """Sessions that nobody drains any more and none of whose processes still runs."""
    from atf import runtime

    return [session for session in runtime.sessions() if not session["recorder_alive"] and not any(map(_runs, session["processes"]))]


def _runs(process: dict[str, str]) -> bool:
    from atf._core import segment

    pid, start = _number(process.get("pid")), _number(process.get("start"))
    return pid > 0 and segment.alive(pid, start)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _segments(process: dict[str, str]) -> tuple[int, int, int] | None:
    parts = process.get("segments", "").split(",")
    return (int(parts[0]), int(parts[1]), int(parts[2])) if len(parts) == 3 and all(part.isdecimal() for part in parts) else None


def leftovers() -> Iterator[Check]:
    from atf import runtime

    try:
        home, found = runtime.directory(), stale_sessions()
    except (SessionError, OSError) as error:
        yield Check("runtime directory", "fault", str(error), "atf record needs a directory of its own, mode 0700")
        return
    yield Check("runtime directory", "ok", home)
    if not found:
        yield Check("stale sessions", "ok", "none")
    for session in found:
        pids = ", ".join(process.get("pid", "?") for process in session["processes"]) or "none"
        name = os.path.basename(session["path"])
        if runtime.rings_only(session):
            advice = f"atf.slices.salvage({pids}, DIRECTORY) saves their last events; `atf doctor --clean` removes their rings"
            yield Check("stale session", "warning", f"{name}: recorded into memory only, by processes {pids}, which are gone", advice)
            continue
        advice = "`atf recover` saves what their segments still hold; `atf doctor --clean` removes them with what they hold"
        yield Check("stale session", "warning", f"{name}: processes {pids}, recorder gone", advice)


def clean() -> Iterator[str]:
    """Remove stale sessions and their segments; yields a line for each. Whatever was not saved before is lost."""
    from atf import runtime
    from atf._core import segment

    for session in stale_sessions():
        removed = 0
        for process in session["processes"]:
            ids = _segments(process)
            if ids is None:
                continue
            try:
                # Attaching checks that these are segments of ours: ids of removed ones are given out again.
                left = segment.SegmentSet.attach(ids)
            except SegmentError:
                continue
            left.remove()
            left.detach()
            removed += len(ids)
        try:
            runtime.remove(session["path"])
        except (AtfError, OSError) as error:
            yield f"{session['path']}: {error}"
            continue
        yield f"removed {os.path.basename(session['path'])} and {removed} segments"
