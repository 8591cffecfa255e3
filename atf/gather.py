"""Takes recorded processes in, drains them into a session directory, and completes what they leave."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from atf import control, metrics, runtime
from atf._core import drain, segment
from atf._core.errors import AtfError, OutputError
from atf.manifest import Manifest, filters_of, new_process_directory
from atf.recorded import Process

if TYPE_CHECKING:
    from atf.budget import Budget
    from atf.flight import Flight
    from atf.parts import Limits, Parts

ROOM_BYTES = 1 << 18  # for the manifest and the ends of files


ProcessType = TypeVar("ProcessType", bound=Process)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _need_room(path: str, size: int) -> None:
    """A recovery that stopped half way would leave gaps where the segments still have the events. OutputError when the disk is too full."""
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    if free < size + ROOM_BYTES:
        raise OutputError(f"{path}: the disk has room for {free >> 10} KiB, and {size + ROOM_BYTES >> 10} are needed: make room, then run `atf recover` again")


class Gatherer:
    """Drains every process that announces itself in a runtime session directory."""

    def __init__(self, output: str, session: str | None, level: str = "returns", resume: bool = False, follow: bool = True, flight: Flight | None = None):
        self.output, self.session, self.level, self.resume = output, session, level, resume
        self.follow = follow  # False: processes that announce themselves there are not ours to drain
        self.drain = drain.Drain()
        self.flight = flight
        self.began = time.monotonic()
        self.commands: dict[str, control.Handler] = {"stat": lambda said: metrics.of_session(self)}  # what another process may ask of this recorder
        if flight:
            flight.open(self.drain)
            self.commands.update(flight.commands(self.output))
        self.budget: Budget | None = None  # set before the first process comes
        self.parts: Parts | None = None
        self.main = 0  # the pid of the program that was asked for
        self.live: dict[str, Process] = {}
        self.done: list[Process] = []
        self.kind_of: Callable[[dict[str, str]], Callable[..., Process] | None] = lambda values: None  # of a process that announced itself
        self.asked: Callable[[], None] = lambda: None  # looks for processes that wait for an answer
        self.errors: list[str] = []
        self.refused: AtfError | None = None  # a manifest that could not be written, the newest
        self.kept = 0  # processes that could not be saved: the runtime directory still leads to their segments
        self._scanned = 0
        self._refreshed = time.monotonic()
        self._refresh_s = 0.1  # names soon after the start, later once a second

    def _filters(self) -> dict[str, Any] | None:
        """What the session's config leaves out; None where it cannot be read."""
        try:
            return filters_of(runtime.read(os.path.join(self.session or "", "config")))
        except (OSError, UnicodeError):
            return None

    def rotate(self, limits: Limits | None) -> None:
        """Record in parts, of at most this size and age; None: in one. Before the first process."""
        if limits is not None:
            from atf.parts import Parts

            self.parts = Parts(self, limits)

    def start(self) -> None:
        """Start the drain's thread."""
        self.drain.start()

    def take_in(
        self, values: dict[str, Any], segments: segment.SegmentSet, directory: str | None = None, kind: Callable[..., ProcessType] | None = None
    ) -> ProcessType:
        """Begin to drain one process into a directory of its own. kind: makes what is kept of it, by default a Process."""
        in_earlier = False
        if directory is not None and self.resume:
            from atf.recovery_parts import written_last

            directory, in_earlier = written_last(directory)
        path = directory or new_process_directory(self.parts.place if self.parts else self.output, int(values["pid"]))
        argv = [part for part in str(values.get("argv", "")).split("\x1f") if part]
        manifest = Manifest(
            path,
            {"pid": int(values["pid"]), "parent_pid": int(values.get("ppid", 0) or 0), "argv": argv, "python": values.get("python"), "level": self.level},
        )
        if values.get("python"):
            manifest.values["filters"] = self._filters()
        if directory is not None:
            manifest.keep_native(directory)
        if self.resume and values.get("plan"):
            manifest.names_of_plan(self.output, str(values["plan"]))
        assert segments.segments is not None
        if self.resume:
            _need_room(path, segments.segments.pending_bytes)
        manifest.values["clock"]["anchors"].append(segments.segments.anchors)
        source = drain.Source(segments.segments, path, resume=self.resume, in_earlier=in_earlier)
        process: ProcessType = (kind or Process)(values, segments, source, manifest)  # type: ignore[assignment]
        if process.file:
            found = {key: value for key, value in values.items() if key != "file"}
            runtime.write(process.file, {**found, "directory": path})  # a recovery finds its files by this
        process.flight = self.flight
        segments.segments.drained_by(os.getpid())
        process.drain = self.drain
        self.drain.add(source)
        if self.budget is not None:
            process.budget = self.budget
            self.budget.joined(process, str(values.get("executable", "")), segment.library_path())
        process.part = source.look()["part"]
        if process.part:
            process.enter_part(path, process.part, in_earlier)
        if self.parts:
            self.parts.joined(process)
        self._guarded(process, "recording")
        return process

    def poll(self) -> None:
        """Look for new processes and for ended ones. Costs a few microseconds a process; call it every few milliseconds."""
        if self.session:
            try:
                changed = os.stat(self.session).st_mtime_ns
            except FileNotFoundError:
                changed = self._scanned
            if changed != self._scanned:
                # A file that is made in the same tick of the directory's clock would be missed: look again next time.
                self._scanned = changed if time.time_ns() - changed > 50_000_000 else 0
                self.scan()
        if self.flight:
            self.flight.poll()
            if self.flight.asks_for_names:
                self._take_names()
            self._ask()
        if self.budget is not None and self.budget.poll(self.live.values(), self.done, self.drain.cpu_ns):
            for process in self.live.values():
                self._guarded(process, "recording")
        if self.parts:
            self.parts.look()
        for key, process in list(self.live.items()):
            if process.gone():
                self.complete(key, dead=True)
                self.asked()
        if time.monotonic() - self._refreshed > self._refresh_s:
            self._refreshed = time.monotonic()
            self._refresh_s = min(2 * self._refresh_s, 1.0)
            for process in self.live.values():
                if process.take_names():
                    self._guarded(process, "recording")

    def _take_names(self) -> None:
        for process in self.live.values():
            process.take_names()

    def _ask(self, last: bool = False) -> None:
        assert self.flight
        for told in self.flight.ask(self._take_names, last):
            self.complain(told)

    def scan(self) -> None:
        """Take in the processes that announced themselves, and what others complained of."""
        assert self.session
        self.asked()
        known = {process.file for process in (*self.live.values(), *self.done)}
        for values in runtime.processes(self.session):
            if values["file"] in known:
                continue
            try:
                ids = tuple(int(part) for part in values["segments"].split(","))
                segments = segment.SegmentSet.attach(ids)  # type: ignore[arg-type]
                try:
                    self.asked()
                    self.live[values["file"]] = self.take_in(
                        values, segments, values.get("directory") if self.resume else None, self.kind_of(values)
                    )
                except (AtfError, OSError):
                    assert segments.segments is not None
                    segments.segments.stop()
                    if not self.resume:  # a recovery keeps what it cannot save now
                        segments.remove()
                    segments.detach()
                    raise
            except (AtfError, OSError, KeyError, ValueError) as error:
                if os.path.exists(values["file"]):  # else it withdrew by itself
                    self.complain(f"process {values.get('pid')} is not recorded: {error}")
                    self._refused(values["file"], error)
        self._hear()

    def _hear(self) -> None:
        assert self.session
        control.answer(self.session, self.commands)
        for name in os.listdir(self.session):
            if name.endswith(".error"):
                path = os.path.join(self.session, name)
                said = runtime.read(path)
                self.complain(f"process {said.get('pid')} is not recorded: {said.get('error')}")
                _unlink(path)

    def _refused(self, file: str, error: Exception) -> None:
        if self.resume and isinstance(error, (OSError, OutputError)):
            self.kept += 1
        else:
            _unlink(file)

    def complain(self, text: str) -> None:
        """Remember what the user must be told, once."""
        if text not in self.errors:
            self.errors.append(text)

    def _guarded(self, process: Process, status: str) -> None:
        try:
            process.write_manifest(status)
        except AtfError as error:
            self.refused = error
            self.complain(str(error))

    def complete(self, key: str, dead: bool, status: str = "complete") -> None:
        """Everything that a process committed goes to its files; its segments are removed."""
        process = self.live.pop(key)
        if self.flight:
            self._last_marks(process, dead)
        self.drain.finish(process.source, dead=dead)
        if self.flight and not self.live:
            self.flight.ended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if self.parts:
            self.parts.look()  # a part may have ended until just now
        self._guarded(process, status)
        if self.parts:
            self.parts.left(process, process.source.threads())
        if self.flight:
            self.flight.left(process.source)
        if process.source.totals["refused"]:
            self.kept += 1
            self.complain(f"{process.manifest.path}: {process.source.totals['disk_error']}; run `atf recover` again when its files can be written")
        else:
            process.capture_ns()
            process.segments.remove()
            if process.file:
                _unlink(process.file)
        process.segments.detach()
        self.done.append(process)
        process.finished()

    def _last_marks(self, process: Process, dead: bool) -> None:
        """Marks that come with a process's end reach back to what it wrote before."""
        assert self.flight and process.segments.segments is not None
        process.take_names()
        if dead and self.flight.wants_crash and self.ended_by_signal(process):
            self.flight.mark("crash")
        self.drain.settle()  # whatever marks in what it left, and in what others wrote meanwhile, is seen before it goes
        process.take_names()
        self._ask(last=True)

    def ended_by_signal(self, process: Process) -> bool:
        """Whether a process that is gone was killed: it never took its leave."""
        assert process.segments.segments is not None
        return process.segments.segments.info["state"] == "recording"

    def stop(self) -> None:
        """Recording is over for every process, running ones too, and none begins any more."""
        self._stop_producers()  # now; what follows takes its time
        if self.session:
            try:
                runtime.write(os.path.join(self.session, "stopped"), {})
                if self.follow:
                    self.scan()
                else:
                    self._hear()
            except OSError as error:
                self.complain(f"{self.session}: {error.strerror}; processes that began last may be missing")
        self._stop_producers()
        if any(process.pid != os.getpid() for process in self.live.values()):
            time.sleep(0.002)  # a record that another process was writing when the word changed is complete by then
        if self.flight and self.live:
            self.drain.settle()  # marks of any process reach into all of them
            self._ask(last=True)
        for key, process in list(self.live.items()):
            self.complete(key, dead=process.gone())

    def _stop_producers(self) -> None:
        for process in self.live.values():
            assert process.segments.segments is not None
            process.segments.segments.stop()

    def close(self) -> None:
        """End the drain's thread and forget the runtime directory."""
        self.drain.join()
        if self.budget is not None:
            self.budget.close()
        if self.parts:
            self.parts.write(last=True)
        if self.session and not self.kept:
            runtime.remove(self.session)

    def totals(self) -> dict[str, Any]:
        """Events, bytes, losses by reason, threads and processes so far."""
        past = self.parts
        totals: dict[str, Any] = {"events": 0, "bytes": 0, "lost": {}, "threads": 0, "processes": len(self.live) + len(self.done), "disk_error": None}
        for process in (*self.live.values(), *self.done):
            counts = process.source.totals
            totals["events"] += counts["events"]
            totals["bytes"] += counts["bytes"]
            totals["disk_error"] = totals["disk_error"] or counts["disk_error"]
            for thread in process.source.threads() if past is None or not process.source.finished else ():
                totals["threads"] += past is None or not thread["earlier"]
                for reason, count in thread["lost"].items():
                    totals["lost"][reason] = totals["lost"].get(reason, 0) + count
        if past is not None:
            for name, count in past.forgotten.items():
                totals[name] += count
            totals["threads"] += past.threads
            totals["parts"] = self.drain.part
            for reason, count in past.past["dropped_by"].items():
                totals["lost"][reason] = totals["lost"].get(reason, 0) + count
        return totals
