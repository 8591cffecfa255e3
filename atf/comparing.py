"""The last green trace of a test, against which a red one is compared: looked up in the index that a test run leaves.

An index.jsonl has a line for each test: {"nodeid": …, "outcome": "passed", "path": …, "time": …}, the path of the kept trace relative to
the index, the time in seconds since the epoch or as text that sorts. Lines that are damaged, or whose trace is gone, are passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atf._core.errors import UsageError

INDEX = "index.jsonl"
GREEN = "passed"
_LEVELS = 3  # directories between an index and a trace that it names, at most


def _entries(index_dir: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(directory of the index, line) of the index of a directory, else of those one or two levels below it: of runs and workers."""
    for pattern in (INDEX, f"*/{INDEX}", f"*/*/{INDEX}"):
        files = sorted(index_dir.glob(pattern))
        for file in files:
            try:
                lines = file.read_bytes().splitlines()
            except OSError:
                continue
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:  # cut off, or not ours
                    continue
                if isinstance(entry, dict):
                    yield file.parent, entry
        if files:
            return


def _when(entry: dict[str, Any]) -> tuple[bool, float, str]:
    time = entry.get("time")
    known = isinstance(time, (int, float)) and not isinstance(time, bool)
    return known, float(time) if known else 0.0, time if isinstance(time, str) else ""  # type: ignore[arg-type]


def last_green(index_dir: str | os.PathLike[str], nodeid: str, *, other_than: str | os.PathLike[str] | None = None) -> str | None:
    """The path of the newest trace of a test that passed and is still there; None: there is none. other_than: a trace that does not count."""
    here, newest = Path(index_dir), None
    aside = None if other_than is None else os.path.realpath(other_than)
    for directory, entry in _entries(here):
        path = entry.get("path")
        if entry.get("nodeid") != nodeid or entry.get("outcome") != GREEN or not isinstance(path, str) or not path:
            continue
        found = next((place for place in (directory / path, here / path) if place.is_dir()), None)
        if found is not None and os.path.realpath(found) != aside and (newest is None or _when(entry) >= newest[0]):
            newest = (_when(entry), str(found))
    return newest[1] if newest else None


def nodeid_of(trace_dir: str | os.PathLike[str]) -> str | None:
    """Which test a trace is of, as its meta.json, or the note in a manifest, says; None: it is of none."""
    place = Path(trace_dir)
    for file in (place / "meta.json", place.parent / "meta.json", *sorted(place.glob("**/manifest.json"))):
        try:
            said = json.loads(file.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(said, dict):
            for one in (said, said.get("test")):
                if isinstance(one, dict) and isinstance(one.get("nodeid"), str):
                    return str(one["nodeid"])
    return None


def green_for(trace_dir: str | os.PathLike[str]) -> str:
    """The last green trace of the test that a trace is of. UsageError: it is of no test, or there is no green one."""
    nodeid = nodeid_of(trace_dir)
    if nodeid is None:
        raise UsageError(f"{os.fspath(trace_dir)}: is not the trace of a test; name the recording to compare it with")
    place = Path(trace_dir).resolve()
    for above in list(place.parents)[:_LEVELS]:
        if (above / INDEX).exists():  # of its run, or of all; other runs lie beside it
            for directory in (above, above.parent):
                found = last_green(directory, nodeid, other_than=trace_dir)
                if found is not None:
                    return found
            break
    raise UsageError(f"{os.fspath(trace_dir)}: no {INDEX} above it has a kept trace of {nodeid} that passed (--atf=on keeps those of green tests)")
