"""What a killed recorder left of a recording in parts: where it wrote last, which parts are not complete, and the list of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from atf.parts import LIST, SUMS, functions_in, links, name_of, write_list
from atf.trace_files import numbered

OF_ITS_OWN = ("threads", "metrics", "overload", "lost", "time_start_ns", "time_end_ns", "exit")
_PART = re.compile(r"part_(\d+)")


def part_of(directory: str | os.PathLike[str]) -> int:
    """The number of the part that a process's directory is in; 0: of none."""
    found = _PART.fullmatch(Path(directory).parent.name)
    return int(found[1]) if found else 0


def of_process(directory: str | os.PathLike[str]) -> list[Path]:
    """The directories of a process, from that of the newest part to the one that is named."""
    place = Path(directory)
    newer = [part / place.name for number, part in numbered(place.parent.parent, "part_") if number >= part_of(place)]
    return [one for one in reversed(newer) if one.is_dir()]


def read(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / "manifest.json").read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(directory: Path, values: dict[str, Any]) -> None:
    temporary = directory / f"manifest.json.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(values), encoding="utf-8", errors="surrogateescape")
    os.replace(temporary, directory / "manifest.json")


def written_last(noted: str) -> tuple[str, bool]:
    """Where records of a process go on, whose recorder noted this directory and died, and whether some may belong into the part before.

    A part that it had only begun to make is taken away again.
    """
    if not part_of(noted):
        return noted, False
    places = of_process(_before(noted))
    while len(places) > 1 and not numbered(places[0], "thread_") and read(places[0]).get("part", {}).get("continues", True):
        shutil.rmtree(places[0])
        with_others = any(places[0].parent.iterdir())
        if not with_others:
            places[0].parent.rmdir()
        places.pop(0)
    if not places:
        return noted, False
    newest = places[0]
    if not (newest / "manifest.json").exists() and len(places) > 1:
        # The part before has every name until this one has.
        _write(newest, {**read(places[1]), "threads": [], "status": "recording", "part": links(part_of(newest), True, True)})
    return str(newest), len(places) > 1 or bool(read(newest).get("part", {}).get("continues"))


def complete_names(newest: str, noted: str, values: dict[str, Any], reopened: bool) -> None:
    """Every part that a recorder had not completed says what the process was, and names what occurs there. values: the newest part's
    manifest, with all names; reopened: records went into the part before it."""
    for place in [one for one in of_process(_before(noted)) if part_of(one) < part_of(newest)]:
        said = read(place)
        if said.get("status", "recording") == "recording" or (reopened and part_of(place) == part_of(newest) - 1):
            seen, part = functions_in(str(place)), said.get("part", {})
            continues = bool(part.get("continues", part_of(place) > 1))
            about = {key: value for key, value in values.items() if key not in OF_ITS_OWN}
            symbols = [one for one in values["symbols"] if int(one["function_id"], 16) in seen]
            links_of = {**part, **links(part_of(place), False, continues)}
            _write(place, {**about, "threads": [], **said, "symbols": symbols, "modules": values["modules"], "status": "recording", "part": links_of})


def _before(noted: str) -> str:
    """The same in the part before, when it is there."""
    place = Path(noted)
    before = place.parent.parent / name_of(part_of(place) - 1) / place.name
    return str(before if before.is_dir() else place)


def rebuild_list(root: Path) -> None:
    """The list of parts from their manifests. OutputError when it cannot be written."""
    try:
        said = json.loads((root / LIST).read_text())
    except (OSError, ValueError):
        said = {}
    rows = []
    for number, part in numbered(root, "part_"):
        manifests = [read(directory) for _, directory in numbered(part, "pid_")]
        row: dict[str, Any] = {"number": number, "path": part.name, "status": "recovered", "processes": len(manifests)}
        row["time_start_ns"] = min((m["time_start_ns"] for m in manifests if m.get("time_start_ns")), default=None)
        row["time_end_ns"] = max((m["time_end_ns"] for m in manifests if m.get("time_end_ns")), default=None)
        row.update({name: sum(m.get("metrics", {}).get(name, 0) for m in manifests) for name in SUMS})
        if all(m.get("status") == "complete" for m in manifests):
            row["status"] = "complete"
        rows.append(row)
    first = rows[0]["number"] if rows else 1
    removed = {"parts": 0, **dict.fromkeys(SUMS, 0), **said.get("removed", {})}
    removed["parts"] = max(removed["parts"], first - 1)
    write_list(str(root), {**said, "of": rows[-1]["number"] if rows else 0, "complete": True, "removed": removed, "parts": rows})

