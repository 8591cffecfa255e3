"""Finds the files of a recording, and opens them: processes and their threads."""

import os
import re
from pathlib import Path
from typing import Any

from atf._core.errors import FormatError, UsageError
from atf._core.layout import GAP_REASONS, NO_DETAIL, NOT_KEPT
from atf._core.merge import Merge
from atf._core.reader import DetailFile, IndexFile
from atf.trace_detail import decode
from atf.trace_manifest import Function, read_manifest
from atf.trace_native import Natives

_GAP = 8
_SESSION = re.compile(r"session_(\d{8}_\d{6})(?:_(\d+))?$")


class Thread:
    """One thread of a process. number: n of thread_<n>; tid: the operating system's id; position: in trace.threads.

    lost: how many of its events were lost, as its manifest says. entered: calls that were in progress when recording began.
    """

    def __init__(self, process: "Process", number: int, position: int, place: Path) -> None:
        self.process, self.number, self.position, self.place = process, number, position, place
        said = process.manifest.threads.get(number, {})
        self.index = IndexFile(place / "index.atf")
        self.tid = self.index.thread_id
        self.name = said["name"] if isinstance(said.get("name"), str) and said["name"] else f"thread {number}"
        self.lost, self.entered = (said[k] if isinstance(said.get(k), int) and said[k] >= 0 else 0 for k in ("lost", "entered"))
        self._details: DetailFile | None = None

    @property
    def events(self) -> Any:
        """All its events: a structured array (timestamp_ns, function_id, thread_id, event_kind, call_depth, detail_seq)
        of shape (N,), read-only, mapped from the file without a copy."""
        return self.index.events

    @property
    def details(self) -> DetailFile | None:
        """Its detail file; None when there is none that can be read."""
        if self._details is None:
            try:
                self._details = DetailFile(self.place / "detail.atf")
            except FormatError:
                return None
        return self._details

    def check(self) -> None:
        """Raises FormatError when a file of the thread has been cut since it was opened."""
        self.index.check()
        if self._details is not None:
            self._details.check()

    def decode(self, record: Any) -> dict[str, Any]:
        """A record of its detail file as Python values."""
        return decode(record, self.index.arch, self.process.natives)

    def detail_of(self, index_seq: int, detail_seq: int, *types: int) -> dict[str, Any] | None:
        """The decoded detail of an event, when the link holds both ways (and it is of one of `types`); else None."""
        if detail_seq == NO_DETAIL:
            return None
        details = self.details
        record = details.of_event(index_seq, detail_seq) if details else None
        return self.decode(record) if record and (not types or record.type in types) else None

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<thread {self.number} {self.name!r} of process {self.process.pid}: {len(self.index)} events>"


class Process:
    """One process of a session: a pid_<n> directory. problems: what could not be read, as sentences."""

    def __init__(self, place: Path, position: int, first_thread: int) -> None:
        self.place, self.position = place, position
        digits = re.match(r"pid_(\d+)", place.name)
        self.manifest = read_manifest(place, int(digits[1]) if digits else 0)
        self.pid = self.manifest.pid
        self.problems = list(self.manifest.problems)
        self.threads: list[Thread] = []
        for number, directory in numbered(place, "thread_"):
            try:
                self.threads.append(Thread(self, number, first_thread + len(self.threads), directory))
            except FormatError as why:
                self.problems.append(str(why))
        said = set(self.manifest.threads) - {number for number, _ in numbered(place, "thread_")}
        if said:
            self.problems.append(f"manifest: names threads that are not there: {', '.join(map(str, sorted(said)))}")
        self.problems += [missing for thread in self.threads if (missing := self._missing(thread))]
        self._functions: dict[int, Function] = {}
        self._natives: Natives | None = None

    @property
    def natives(self) -> Natives:
        """What is known of its native functions."""
        if self._natives is None:
            self._natives = Natives(self.manifest.data)
        return self._natives

    def _missing(self, thread: Thread) -> str | None:
        """What a thread's file lacks of what a complete recording wrote into it, as a sentence."""
        wrote = self.manifest.threads.get(thread.number, {}).get("events")
        if self.manifest.data.get("status") != "complete" or not isinstance(wrote, int) or wrote <= len(thread.index):
            return None
        return f"thread_{thread.number}: has {len(thread.index)} of the {wrote} events that were recorded: its file was cut"

    def function(self, function_id: int) -> Function:
        """The function of an id of this process; one without a name is shown as `module:0x…`."""
        found = self._functions.get(function_id)
        if found is None:
            found = self._functions[function_id] = self.manifest.function(function_id)
        return found

    @property
    def time_end_ns(self) -> int:
        return max((int(t.events[-1]["timestamp_ns"]) for t in self.threads if len(t.index)), default=0)

    @property
    def lost_said(self) -> dict[str, int] | None:
        """{reason: events lost} of the manifest; None: it does not say."""
        said = self.manifest.data.get("lost")
        if not isinstance(said, dict):
            return None
        return {str(reason): count for reason, count in said.items() if isinstance(count, int) and count > 0}

    @property
    def lost(self) -> dict[str, int]:
        """{reason: events lost}, as the manifest says; where it does not say, as the GAPs in the files do: every event is read."""
        said = self.lost_said
        if said is not None:
            return said
        found: dict[str, int] = {}
        merge = Merge([t.events for t in self.threads], kinds=1 << _GAP)
        for threads, positions in merge.chunks():
            gaps = merge.gather(threads, positions)
            for reason, count in zip(gaps["call_depth"].tolist(), gaps["function_id"].tolist(), strict=True):
                if reason >= NOT_KEPT:
                    continue
                name = GAP_REASONS.get(reason, f"reason {reason}")
                found[name] = found.get(name, 0) + count
        return found

    @property
    def status(self) -> str:
        """complete, recovered, recording, interrupted (the manifest says recording, but the process is gone), or unknown."""
        data = self.manifest.data
        status = data.get("status")
        if status == "recording":
            here = data.get("host") in (None, os.uname().nodename)
            return "interrupted" if here and Path("/proc").is_dir() and not Path(f"/proc/{self.pid}").exists() else "recording"
        return status if status in ("complete", "recovered") else "unknown"

    @property
    def info(self) -> dict[str, Any]:
        data = self.manifest.data
        return {"pid": self.pid, "status": self.status, **{key: data.get(key) for key in ("parent_pid", "argv", "exit", "python")}}


def numbered(place: Path, prefix: str) -> list[tuple[int, Path]]:
    """[(n, directory)] of the directories <prefix><n>, by n."""
    found = [(re.fullmatch(rf"{prefix}(\d+)(?:_\d+)?", entry.name), entry) for entry in place.iterdir() if entry.is_dir()]
    return sorted((int(match[1]), entry) for match, entry in found if match)


def parts_in(place: Path) -> list[Path]:
    """The parts of a recording, in order: directories part_<n> that have processes."""
    return [part for _, part in numbered(place, "part_") if numbered(part, "pid_")]


def _newest_part(session: Path, parts: list[Path]) -> tuple[Path, list[Path], str]:
    note = f"{len(parts)} parts in {session}; this is the newest" if len(parts) > 1 else f"the only part in {session}"
    return parts[-1], [directory for _, directory in numbered(parts[-1], "pid_")], note


def find_session(path: str | os.PathLike[str]) -> tuple[Path, list[Path], str | None]:
    """(session or process directory, process directories, note) for a path that names a recording, or holds some."""
    place = Path(path)
    if not place.is_dir():
        what = "is a file; give the directory of the session" if place.exists() else "is not there"
        raise UsageError(f"{place}: {what}")
    try:
        if numbered(place, "thread_") or (place.name.startswith("pid_") and (place / "manifest.json").exists()):
            return place, [place], None
        processes = numbered(place, "pid_")
        if not processes and (parts := parts_in(place)):
            return _newest_part(place, parts)
        if processes or _SESSION.match(place.name):
            return place, [directory for _, directory in processes], None
        sessions = sorted(
            (match[1], int(match[2] or 1), entry) for entry in place.iterdir() if entry.is_dir() and (match := _SESSION.match(entry.name))
        )
    except OSError as why:
        raise UsageError(f"{place}: cannot be read: {why.strerror}") from None
    if not sessions:
        raise FormatError(f"{place}: holds no recording (no session_*, pid_* or thread_* directory)")
    newest = sessions[-1][2]
    if parts := parts_in(newest):
        return _newest_part(newest, parts)
    note = f"{len(sessions)} sessions in {place}; this is the newest" if len(sessions) > 1 else None
    return newest, [directory for _, directory in numbered(newest, "pid_")], note
