"""A long recording in whole parts: their directories, their manifests, the list of them, and how many are kept.

``<session>/part_0001/pid_<n>/…``: each part is a recording by itself. The drain begins the next one (see _core/parts.h); what a part
left is written into its manifests here, and then forgotten, so that memory does not grow with the recording.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import atf.calm  # noqa: F401 - before numpy comes with anything else
from atf import metrics
from atf._core.errors import AtfError, OutputError, UsageError
from atf._core.merge import distinct_functions
from atf._core.reader import IndexFile
from atf.recording import parse_size

if TYPE_CHECKING:
    from atf.gather import Gatherer, Process

LIST = "parts.json"
LEAST_BYTES, LEAST_AGE_NS = 1 << 16, 1_000_000_000
SUMS = ("produced", "written", "dropped", "filtered", "bytes")


class Limits(NamedTuple):
    """Of one part: bytes of records, age; 0: no limit. most: parts that stay on the disk; 0: all."""

    max_bytes: int
    max_age_ns: int
    most: int

    @classmethod
    def of(cls, config: Mapping[str, str]) -> Limits | None:
        """What a recorder's configuration asks for; None: one part. UsageError for what cannot be."""
        size, age, most = config.get("max_size", ""), int(config.get("max_age_ns", "0")), int(config.get("max_parts", "0"))
        if not size and "max_age_ns" not in config:
            if most:
                raise UsageError("--max-parts is for recordings in parts: say with --max-size or --max-age when one ends")
            return None
        found = cls(parse_size(size) if size else 0, age, most)
        if size and found.max_bytes < LEAST_BYTES:
            raise UsageError(f"--max-size {size}: a part has at least {LEAST_BYTES >> 10}K")
        if "max_age_ns" in config and age < LEAST_AGE_NS:
            raise UsageError(f"--max-age: a part lasts at least {LEAST_AGE_NS / 1e9:.0f} s")
        if config.get("max_parts") and most < 2:
            raise UsageError(f"--max-parts {most}: at least 2, the one that is written and one before it")
        return found


def name_of(number: int) -> str:
    return f"part_{number:04d}"


def links(number: int, last: bool, continues: bool = False) -> dict[str, Any]:
    """What a manifest says of its place among the parts; previous and next are directories beside its own, continues: the process was
    recorded in the previous one too."""
    return {"number": number, "continues": continues, "previous": name_of(number - 1) if number > 1 else None, "next": None if last else name_of(number + 1)}


def functions_in(path: str) -> set[int]:
    """Function ids in the index files of a process."""
    events = []
    for place in os.scandir(path):
        if place.name.startswith("thread_"):
            try:
                events.append(IndexFile(os.path.join(place.path, "index.atf")).events)
            except AtfError:
                continue
    return set(distinct_functions(events).tolist())


def write_list(root: str, values: Mapping[str, Any]) -> None:
    """Replace the list of parts at once. OutputError when the disk refuses."""
    target = os.path.join(root, LIST)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(json.dumps(values, separators=(",", ":")))
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error


class Parts:
    """The parts of a recording that runs. past: what was counted in parts and processes that are over, in the shape of metrics.summed."""

    def __init__(self, gatherer: Gatherer, limits: Limits):
        self.gatherer, self.root, self.limits = gatherer, gatherer.output, limits
        gatherer.drain.parts(self.root, limits.max_bytes, limits.max_age_ns)
        self.past = metrics.summed([])
        self.threads = 0  # of what is past
        self.forgotten: dict[str, int] = {"processes": 0, "events": 0, "bytes": 0}  # processes that ended in earlier parts
        self.rows: list[dict[str, Any]] = [self._row(1)]  # of parts that are on the disk
        self.removed = {"parts": 0, **dict.fromkeys(SUMS, 0)}
        self._names: dict[int, Process] = {}

    @staticmethod
    def _row(number: int) -> dict[str, Any]:
        times = {"time_start_ns": None, "time_end_ns": None}
        return {"number": number, "path": name_of(number), "status": "recording", "processes": 0, **times, **dict.fromkeys(SUMS, 0)}

    @property
    def place(self) -> str:
        """Where a process that comes now has its directory."""
        return os.path.join(self.root, name_of(self.gatherer.drain.part))

    def directory(self, process: Process, number: int) -> str:
        return os.path.join(self.root, name_of(number), os.path.basename(process.manifest.path))

    def joined(self, process: Process) -> None:
        """A process is drained from now on, into the part that was written when it came."""
        before = process.manifest.path
        process.enter_part(before, int(os.path.basename(os.path.dirname(before))[5:]))
        self._names[process.source.key] = process
        current = process.source.look()["part"]
        self.look()  # turns since it came
        if process.part < current:  # the turn came between its directory and its coming
            process.enter_part(self.directory(process, current), current)
            process.announce(process.manifest.path)
            with contextlib.suppress(OSError):
                os.rmdir(before)

    def left(self, process: Process, rows: list[dict[str, Any]]) -> None:
        """A process is over, and its last manifest is written."""
        self._names.pop(process.source.key, None)
        process.last_part()
        self._book(process, rows)

    def look(self) -> None:
        """Complete the manifests of parts that are over."""
        over = self.gatherer.drain.left()
        for left in over:
            process = self._names.get(left["source"])
            if process is None:
                continue
            try:
                process.end_part(left, self.directory(process, left["part"]), self.directory(process, left["part"] + 1))
            except (AtfError, OSError) as error:
                self.gatherer.complain(str(error))
            self._book(process, left["threads"], left["part"])
        if over:
            self._turned(over[-1]["part"] + 1)

    def _book(self, process: Process, rows: list[dict[str, Any]], number: int = 0) -> None:
        """Into the sums of a part, and of what is past."""
        number = number or process.part
        here = metrics.summed(map(metrics.of_thread, rows))
        self.past = metrics.summed([self.past, here])
        self.threads += sum(1 for row in rows if row["produced"] and not row["earlier"])
        while self.rows[-1]["number"] < number:
            self.rows.append(self._row(self.rows[-1]["number"] + 1))
        part = next((one for one in self.rows if one["number"] == number), None)
        if part is None:
            return  # it was removed meanwhile
        part["processes"] += 1
        for name in SUMS:
            part[name] += here[name]
        times = [(row["time_start_ns"], row["time_end_ns"]) for row in rows if row["events"]]
        if times:
            starts, ends = zip(*times, strict=True)
            part["time_start_ns"] = min(part["time_start_ns"] or starts[0], *starts)
            part["time_end_ns"] = max(part["time_end_ns"] or 0, *ends)

    def _turned(self, number: int) -> None:
        while self.rows[-1]["number"] < number:
            self.rows.append(self._row(self.rows[-1]["number"] + 1))
        for part in self.rows[:-1]:
            part["status"] = "complete"
        self._forget(number)
        gone = self.rows[: -self.limits.most] if self.limits.most else []
        self.rows = self.rows[len(gone) :]
        for part in gone:
            self.removed["parts"] += 1
            for name in SUMS:
                self.removed[name] += part[name]
        self.write()
        for part in gone:
            shutil.rmtree(os.path.join(self.root, part["path"]), ignore_errors=True)

    def _forget(self, number: int) -> None:
        """Processes that ended in earlier parts; the recorded program itself is still asked for."""
        gatherer, stay = self.gatherer, []
        for process in gatherer.done:
            if process.part >= number or process.pid == gatherer.main:
                stay.append(process)
                continue
            counts = process.source.totals
            self.forgotten["processes"] += 1
            self.forgotten["events"] += counts["events"]
            self.forgotten["bytes"] += counts["bytes"]
        gatherer.done = stay

    def write(self, last: bool = False) -> None:
        """The list of parts. last: none comes any more."""
        if last:
            self.rows[-1]["status"] = "complete"
        values = {"max_bytes": self.limits.max_bytes, "max_age_ns": self.limits.max_age_ns, "max_parts": self.limits.most}
        try:
            write_list(self.root, {**values, "of": self.rows[-1]["number"], "complete": last, "removed": self.removed, "parts": self.rows})
        except OutputError as error:
            self.gatherer.complain(str(error))
