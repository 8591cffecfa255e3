"""What a failure report says: the last calls, what was compared, and where the whole trace lies."""

from __future__ import annotations

import os
from typing import Any

import atf
from atf._core.errors import AtfError
from atf.comparing import last_green
from atf.pytest_plugin.options import Settings

SECTION = "atf trace"
_CHANGES = 8  # of each kind that are shown


def shown(path: str, start: str) -> str:
    """A path as it is best typed from a directory."""
    if path.startswith(start + os.sep):
        return path[len(start) + 1 :]
    relative = os.path.relpath(path, start)
    return path if relative.startswith("..") else relative


def calls(trace: Any, start_ns: int | None, end_ns: int | None, tail: int) -> str:
    """The last calls of a stretch; never raises, since a test's own failure comes first."""
    if not tail:
        return ""
    try:
        from atf.failure import report
        from atf.windows import Window

        return report(Window(trace, start_ns, end_ns), tail=tail)
    except Exception as error:
        return f"(the calls cannot be shown: {type(error).__name__}: {error})"


def difference(settings: Settings, base: str, nodeid: str, path: str) -> str:
    """What differs from the baseline, or from the last green trace of the same test; empty when there is none."""
    if settings.diff == "off":
        return ""
    try:
        baseline = last_green(base, nodeid, other_than=path) if settings.diff == "last-green" else settings.diff
        if baseline is None:
            return ""
        found = atf.compare(baseline, path, confidence="likely")
        told = "\n".join(line for line in found.lines(_CHANGES) if not line.startswith("  pytest teardown "))
    except AtfError as error:
        told = f"no comparison: {error}"
    except Exception as error:
        told = f"no comparison: {type(error).__name__}: {error}"
    return f"compared with {shown(baseline or base, os.getcwd())}, whose teardown is not here yet:\n{told}"


def ending(path: str, start: str, overwritten: int) -> str:
    lines = []
    if overwritten:
        lines.append(f"the first {overwritten:,} events of this test were overwritten: a larger --atf-ring keeps them")
    where = shown(path, start)
    lines.append(f"trace: {where}    open: atf tree {where}")
    return "\n".join(lines)
