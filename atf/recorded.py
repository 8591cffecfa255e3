"""One process that is recorded: its manifest from its first moment to its last, over all parts of the recording."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from atf import metrics, runtime
from atf._core import drain, segment
from atf.manifest import Manifest

if TYPE_CHECKING:
    from atf.budget import Budget
    from atf.flight import Flight

COUNTERS = ("mode_transitions", "fallback_events", "slotless_threads", "global_dropped", "spares_most")


class Process:
    """One recorded process that is being drained."""

    often = False  # one of many: only its last manifest is waited for to be on the disk

    def __init__(self, values: dict[str, Any], segments: segment.SegmentSet, source: drain.Source, manifest: Manifest):
        self.pid = int(values["pid"])
        self.start = int(values.get("start", 0) or 0)
        self.file: str | None = values.get("file")
        self.segments, self.source, self.manifest = segments, source, manifest
        self._names = 0
        self._written = 0.0
        self.flight: Flight | None = None
        self.budget: Budget | None = None
        self._captured_ns = 0
        self.drain: drain.Drain | None = None
        self.part = 0  # into which its manifest belongs; 0: the recording has no parts
        self._left: dict[str, Any] | None = None

    def gone(self) -> bool:
        """The process ended, or replaced itself by another program: nobody but us is attached."""
        return self.segments.attached <= 1 or not segment.alive(self.pid, self.start)

    def capture_ns(self) -> int:
        """Time that the hooks spent on values so far."""
        if self.segments.segments is not None:
            self._captured_ns = self.segments.segments.capture_ns
        return self._captured_ns

    def take_names(self) -> bool:
        """Fetch new names from the log; whether there were any."""
        assert self.segments.segments is not None
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if self.flight else 0
        self._names, names = self.segments.segments.names(self._names)
        self.manifest.add_names(names)
        if self.flight:
            self.flight.named(self.source, names, now_ns)
        return bool(names)

    def write_manifest(self, status: str) -> None:
        """Bring the manifest on disk up to date."""
        assert self.segments.segments is not None
        self.take_names()
        found = self._left or self.source.look()
        if found["part"] != self.part:
            return  # that part is over: its manifest comes with what it left
        threads = [one for one in found["threads"] if not one["in_earlier"]]  # those are in the manifest of the part before
        self.manifest.set_threads(threads)
        if self.drain is not None:
            self.manifest.values["metrics"] = {**metrics.summed(map(metrics.of_thread, threads)), **metrics.of_drain([self.source.totals], self.drain)}
        self.manifest.values["status"] = status
        anchors = self.manifest.values["clock"]["anchors"]
        anchors[1:] = [self.segments.segments.anchors]
        info = self.segments.segments.info
        if info["names_lost"]:
            self.manifest.values["names_lost"] = info["names_lost"]
        self.manifest.values["counters"] = {key: info[key] for key in COUNTERS}
        self.manifest.values.pop("overload", None)
        if found["overload"]["lanes"]:
            self.manifest.values["overload"] = found["overload"]
        if self.budget:
            self.manifest.values["budget"] = self.budget.summary()
            self.manifest.values["levels"] = self.budget.changes
        if self.flight:
            self.manifest.values["windows"] = self.flight.windows()
            self.manifest.values["flight"] = self.flight.summary()
        self.manifest.write(durable=status != "recording" or not self.often)
        self._written = time.monotonic()

    def write_status(self, status: str) -> None:
        """Change one word of the manifest of a completed process."""
        if self.manifest.values["status"] != status:
            self.manifest.values["status"] = status
            self.manifest.write()

    def set_exit(self, status: int | None) -> None:
        """Note how the process ended: its exit status, or minus the signal's number."""
        if status is not None:
            self.manifest.values["exit"] = status
            self.manifest.write()

    def announce(self, path: str) -> None:
        """Note where its files are: a recovery finds them by this."""
        if self.file and os.path.exists(self.file):
            runtime.write(self.file, {**runtime.read(self.file), "directory": path})

    def enter_part(self, path: str, number: int, continues: bool = False) -> None:
        """Its files go on there from now on; continues: the part before has some of it too."""
        from atf.parts import links

        self.manifest.path, self.part = path, number
        self.manifest.values["part"] = links(number, True, continues)

    def end_part(self, left: dict[str, Any], before: str, path: str) -> None:
        """A part is over: its manifest in ``before`` is completed, and the next one's begun, in ``path``. left: as Drain.left tells it.

        The next one is there first, with every name: one of both has them all, whenever the recorder is killed.
        """
        from atf.parts import links

        values = self.manifest.values
        names = {key: values[key] for key in ("modules", "symbols")}
        was_there = values["part"]["continues"]
        self.enter_part(path, left["part"] + 1, continues=True)
        self.write_manifest("recording")
        self.announce(path)
        self.manifest.path, self.part, self._left = before, left["part"], left
        values["part"] = {**links(left["part"], False, was_there), "ended_ns": left["ended_ns"]}
        try:
            self.write_manifest("complete")
            self.keep_what_occurs()
        finally:
            self._left = None
            values.update(names, status="recording")
            self.enter_part(path, left["part"] + 1, continues=True)

    def last_part(self) -> None:
        """The manifest of the last part was written."""
        self.keep_what_occurs()

    def keep_what_occurs(self) -> None:
        """The manifest lists the functions that occur in the files beside it."""
        from atf.parts import functions_in

        seen, symbols = functions_in(self.manifest.path), self.manifest.values["symbols"]
        self.manifest.values["symbols"] = [one for one in symbols if int(one["function_id"], 16) in seen]
        self.manifest.write()

    def finished(self) -> None:
        """Everything of it is in its files, and its segments are gone."""
