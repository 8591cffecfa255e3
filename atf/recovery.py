"""Completes recordings: from the segments that a killed recorder left, and from files alone."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from pathlib import Path
from typing import Any

from atf import metrics, runtime
from atf._core import layout
from atf._core.errors import AtfError, FormatError, OutputError, UsageError
from atf._core.reader import DetailFile, IndexFile
from atf.gather import Gatherer
from atf.recovery_parts import complete_names, rebuild_list


def recover(path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Complete a session or process directory; None: every session whose recorder was killed.

    Returns ``{"processes": [{path, events, from_segments, cut}], "notes": [str], "kept": n}``; kept: processes whose segments
    stay for another try, since their files cannot be written now. A process that still runs is no
    longer recorded afterwards. Damaged files are kept beside the new ones, as ``*.damaged``.
    UsageError when there is no such directory; OutputError when it cannot be written.
    """
    wanted = None if path is None else os.path.realpath(path)
    if wanted is not None and not os.path.isdir(wanted):
        raise UsageError(f"{path}: no such directory")
    found: dict[str, Any] = {"processes": [], "notes": [], "kept": 0}
    done: set[str] = set()
    busy: set[str] = set()
    for session in runtime.sessions():
        if runtime.rings_only(session):
            if wanted is None and not session["recorder_alive"]:
                pids = ", ".join(one.get("pid", "?") for one in session["processes"])
                found["notes"].append(f"{session['path']}: was kept in memory only; atf.slices.salvage({pids or 'PID'}, DIRECTORY) saves its last events")
            continue
        output = os.path.realpath(session["config"].get("output", ""))
        inside = wanted is None or output in (wanted, os.path.dirname(wanted), os.path.dirname(os.path.dirname(wanted)))
        if session["recorder_alive"]:
            busy.add(output)
        elif inside and os.path.isdir(output):
            processes, notes, kept = complete_session(session, output)
            found["processes"] += processes
            found["notes"] += notes
            found["kept"] += kept
            done.add(output)
        elif wanted is None and not os.path.isdir(output):
            found["notes"].append(f"{session['path']}: its output {output} is gone; `atf doctor --clean` removes its segments")
    roots = [Path(wanted)] if wanted else [Path(output) for output in sorted(done)]
    for root in roots:
        if {str(root), str(root.parent), str(root.parent.parent)} & busy:
            found["notes"].append(f"{root}: is being recorded now: nothing was changed")
            continue
        for directory in sorted([*root.glob("pid_*"), *root.glob("part_*/pid_*")]) if not root.name.startswith("pid_") else [root]:
            _from_files(directory, found)
        if any(root.glob("part_*/pid_*")):
            rebuild_list(root)
    return found


def complete_session(session: dict[str, Any], output: str, status: str = "recovered") -> tuple[list[dict[str, Any]], list[str], int]:
    """What the segments of a session without a recorder hold goes to its files: ``(processes, notes, kept)``.

    What cannot be written now stays in its segments for another try: of so many processes as `kept` says.
    """
    gatherer = Gatherer(output, session["path"], session["config"].get("level", "returns"), resume=True)
    noted_in = {values["file"]: values["directory"] for values in session["processes"] if "directory" in values}
    before = {values["file"]: _events_on_disk(values.get("directory")) for values in session["processes"]}
    gatherer.scan()
    notes = [f"process {process.pid} still runs: it is no longer recorded" for process in gatherer.live.values() if not process.gone()]
    gatherer.stop()
    processes = []
    for process in gatherer.done:
        total = process.source.totals["events"]
        try:
            process.write_status(status)
        except OutputError as error:
            gatherer.complain(str(error))
        if process.part:
            reopened = any(one["in_earlier"] for one in process.source.threads())
            noted = noted_in.get(process.file or "", process.manifest.path)
            complete_names(process.manifest.path, noted, process.manifest.values, reopened)
        processes.append({"path": process.manifest.path, "events": before.get(process.file or "", 0) + total, "from_segments": total, "cut": 0})
    gatherer.close()
    return processes, notes + gatherer.errors, gatherer.kept


def _events_on_disk(directory: str | None) -> int:
    total = 0
    for index in Path(directory).glob("thread_*/index.atf") if directory else ():
        try:
            total += len(IndexFile(index).events)
        except AtfError:
            continue
    return total


def _from_files(directory: Path, found: dict[str, Any]) -> None:
    """Give every unfinished or damaged file of a process its proper end."""
    manifest_path = directory / "manifest.json"
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8", errors="surrogateescape"))
        assert isinstance(manifest, dict)
    except (OSError, ValueError, AssertionError):
        manifest = {"format_version": "2.1", "clock_type": 3, "modules": [], "symbols": []}
    # Written just now from segments, which know nothing of threads that were over before.
    written = manifest.get("status") == "recovered" and any(one["path"] == str(directory) for one in found["processes"])
    threads, cut, changed = [], 0, False
    said = {entry.get("id"): entry for entry in manifest.get("threads", []) if isinstance(entry, dict)}
    times = []
    for place in sorted(directory.glob("thread_*"), key=lambda path: int(path.name[7:]) if path.name[7:].isdecimal() else -1):
        if not place.name[7:].isdecimal():
            continue
        number = int(place.name[7:])
        if written and number in said:
            threads.append(said[number])
            continue
        try:
            events, lost_records, rewritten = _complete(place)
        except FormatError as error:
            found["notes"].append(f"{place}: {error}")
            continue
        cut += lost_records
        changed = changed or rewritten or written
        entry = said.get(number, {"id": number})
        gaps = (events["event_kind"] == 8) & (events["call_depth"] < layout.NOT_KEPT)
        entry.update(
            has_detail=(place / "detail.atf").exists(),
            tid=int(events["thread_id"][0]) if len(events) else entry.get("tid", 0),
            events=len(events),
            lost=int(events["function_id"][gaps].sum()),
        )
        if (carried := _told_again(events)) is not None:
            entry["entered"] = carried
        if rewritten or manifest.get("status") != "complete":
            entry["metrics"] = _counted(events, entry["lost"], carried or 0)
        threads.append(entry)
        if len(events):
            times += [int(events["timestamp_ns"].min()), int(events["timestamp_ns"].max())]
    if not changed and manifest.get("status") in ("complete", "recovered"):
        return
    if all("metrics" in entry for entry in threads):
        manifest["metrics"] = metrics.summed({**metrics.summed([]), **entry["metrics"]} for entry in threads)
    if written:
        times += [manifest[key] for key in ("time_start_ns", "time_end_ns") if manifest.get(key)]
    manifest.update(threads=threads, status="recovered", time_start_ns=min(times, default=0), time_end_ns=max(times, default=0))
    _replace(manifest_path, json.dumps(manifest).encode())
    if written:
        return
    found["processes"].append({"path": str(directory), "events": sum(t["events"] for t in threads), "from_segments": 0, "cut": cut})


def _told_again(events: Any) -> int | None:
    """How many calls of earlier parts a file begins with; None: it is of no later part."""
    if not len(events) or (events["event_kind"][0], events["call_depth"][0]) != (8, layout.EARLIER):
        return None
    same = (events["event_kind"][1:] == 1) & (events["timestamp_ns"][1:] == events["timestamp_ns"][0])
    return int(same.argmin()) if not same.all() else len(same)


def _counted(events: Any, lost: int, carried: int) -> dict[str, int]:
    """What is known of a thread from its file alone, as metrics.of_thread names it."""
    gaps = events["event_kind"] == 8
    filtered = int(events["function_id"][gaps & (events["call_depth"] == layout.NOT_KEPT)].sum())
    written, details = len(events) - int(gaps.sum()) - carried, int((events["detail_seq"] != layout.NO_DETAIL).sum())
    produced = written + lost + filtered
    return {"produced": produced, "written": written, "dropped": lost, "filtered": filtered, "details_produced": details, "details": details}


def _complete(place: Path) -> tuple[Any, int, bool]:
    """One thread's files: ``(events, records cut, whether files were rewritten)``."""
    index = IndexFile(place / "index.atf")
    detail: DetailFile | None = None
    detail_report = None
    if (place / "detail.atf").exists():
        try:
            detail = DetailFile(place / "detail.atf")
            detail_report = detail.report
        except FormatError:
            detail = None
    events = index.events
    whole = index.report.status == "finalized" and (not (place / "detail.atf").exists() or (detail_report and detail_report.status == "finalized"))
    if whole:
        return events, 0, False
    events = events.copy()
    kept: list[bytes] = []
    wanted = events["detail_seq"] != layout.NO_DETAIL
    for position in wanted.nonzero()[0].tolist():
        record = detail.of_event(position, int(events["detail_seq"][position])) if detail is not None else None
        if record is None:
            events["detail_seq"][position] = layout.NO_DETAIL
            continue
        events["detail_seq"][position] = len(kept)
        payload = bytes(record.payload)
        head = struct.pack(layout.DETAIL_RECORD, 24 + len(payload), record.type, 0, position, record.thread_id, record.timestamp_ns)
        kept.append(head + payload)
    first, last = (int(events["timestamp_ns"][0]), int(events["timestamp_ns"].max())) if len(events) else (0, 0)
    positions = [struct.unpack_from(layout.DETAIL_RECORD, record)[3] for record in kept]
    body = events.tobytes()
    arch, system = index.arch, index.os
    header = struct.pack(
        layout.INDEX_HEADER, b"ATI2", 1, 1, arch, system, int(bool(kept)), index.thread_id, 3, 0, 32, len(events), 64, 64 + len(body), first, last
    )
    footer = struct.pack(layout.INDEX_FOOTER, b"2ITA", 0, len(events), first, last, len(body))
    _keep_damaged(place / "index.atf", header + body + footer)
    if kept:
        details = b"".join(kept)
        header = struct.pack(
            layout.DETAIL_HEADER, b"ATD2", 1, 1, arch, system, 0, index.thread_id, 0, 64, len(kept), len(details), positions[0], positions[-1]
        )
        footer = struct.pack(layout.DETAIL_FOOTER, b"2DTA", 0, len(kept), len(details), first, last)
        _keep_damaged(place / "detail.atf", header + details + footer)
    elif (place / "detail.atf").exists():
        os.replace(place / "detail.atf", place / "detail.atf.damaged")
    return events, index.report.records_cut, True


def _written(path: Path, content: bytes) -> Path:
    """A new file beside this one, whole and on the disk. Nothing is left of one that could not be written."""
    temporary = path.with_name(path.name + ".new")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def _replace(path: Path, content: bytes) -> None:
    try:
        os.replace(_written(path, content), path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; nothing was changed") from error


def _keep_damaged(path: Path, content: bytes) -> None:
    """Write the new file beside the old one first; the old one stays as ``*.damaged``."""
    damaged = path.with_name(path.name + ".damaged")
    try:
        temporary = _written(path, content)
        os.replace(path, damaged)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be rewritten: {error.strerror}; the original is at {path} or {damaged}") from error
