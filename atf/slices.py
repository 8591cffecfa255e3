"""Slices of a recording that stays in memory: a process records into its rings only, and what lies between two moments is copied
out of them into a trace directory of its own. See docs/slices.md."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import Any, NamedTuple

from atf import recording, runtime
from atf._core import segment, slicer
from atf._core.errors import OutputError, SessionError, UsageError
from atf.slice_manifest import Names, manifest_of
from atf.slice_manifest import process as process_values

MOST_NS = (1 << 64) - 1
RINGS = 4  # of each kind a thread: one is written, one may be held by a reader, and the oldest of the others is overwritten


class Kept(NamedTuple):
    """A slice that was written. path: its directory. events: records in its files. bytes: of all files.

    overwritten: records of the stretch that were gone already, at least so many; 0: none was. lost: {"exhausted": records that are missing,
    those too; "details": arguments and messages}, without zeros.
    """

    path: str
    events: int
    bytes: int
    overwritten: int
    lost: dict[str, int]


def _config(asked: dict[str, Any]) -> dict[str, str]:
    from atf.session import _globs

    known = {"level", "include", "exclude", "ring_size", "slots", "python"}
    if unknown := sorted(set(asked) - known):
        raise UsageError(f"{', '.join(unknown)}: not among the options of slices ({', '.join(sorted(known))})")
    level = asked.get("level") or "returns"
    recording.levels(level)
    sizes = recording.ring_options(asked.get("ring_size"), asked.get("slots"), 0)
    if "detail_bytes" in sizes:
        sizes["detail_bytes"] = max(sizes["detail_bytes"] * 2 // RINGS // 4096, 4) * 4096
    return {
        "level": level,
        "include": _globs(asked.get("include"), "include"),
        "exclude": _globs(asked.get("exclude"), "exclude"),
        "python": "0" if asked.get("python") is False else "1",
        "policy": "drop-oldest",
        "drain": "0",
        "touched": "0",
        "rings": "1",
        **{key: str(value) for key, value in {"index_rings": RINGS, "detail_rings": RINGS, "detail_bytes": 512 << 10, **sizes}.items()},
    }


class Slices:
    """Records this process into its rings; nothing is drained or written until something is kept.

    session: a directory of the runtime directory in which it is announced, so that others can salvage it; None: one of its own.
    config: ``level``, ``include``, ``exclude``, ``ring_size`` (memory of each thread, ``"8M"``), ``slots`` (threads that have rings at the same
    time, 64), ``python`` (False: spans and events of your own only), as for :func:`atf.record`. UsageError for others.
    """

    def __init__(self, session: str | os.PathLike[str] | None = None, config: dict[str, Any] | None = None):
        self._asked_session = None if session is None else os.fspath(session)
        self._config = _config(config or {})
        self.session: str | None = None  # of the runtime directory, while it records
        self._recording: recording.Recording | None = None
        self._cutter: slicer.Cutter | None = None
        self._names = Names()
        self._process: dict[str, Any] = {}

    def begin(self) -> None:
        """Set the hooks. SessionError when this process is recorded already. In a forked child, which is not recorded: again."""
        if self._recording is not None:
            raise SessionError("this recording runs already")
        pid = os.getpid()
        self.session = self._asked_session
        if self.session is None:
            self.session = runtime.new_session({**self._config, "recorder_pid": pid, "recorder_start": segment.process_start(pid)})
        active = recording.Recording(self.session, self._config)
        active.forked = self._forked
        try:
            active.begin()
        except BaseException:
            self._leave()
            raise
        assert active.segments is not None and active.segments.segments is not None
        self._cutter = slicer.Cutter(active.segments.segments)
        self._names = Names()
        argv = list(getattr(sys, "orig_argv", None) or sys.argv or [])
        self._process = process_values(pid, os.getppid(), argv, sys.version.split()[0], self._config)
        self._recording = active
        atexit.register(self.end)

    def end(self) -> None:
        """Take the hooks out and remove the rings with what they hold. Nothing when it does not run."""
        active, self._recording, self._cutter = self._recording, None, None
        if active is None:
            return
        atexit.unregister(self.end)
        active.end()
        active.withdraw()
        self._leave()

    def _leave(self) -> None:
        session, self.session = self.session, None
        if session is not None and self._asked_session is None:
            runtime.remove(session)

    def _forked(self) -> None:
        """In a forked child: the rings are the parent's, who goes on with them."""
        active, self._recording, self._cutter, self.session = self._recording, None, None, None
        atexit.unregister(self.end)
        if active is not None:
            active.detach()

    def now_ns(self) -> int:
        """Now, on the clock of events (CLOCK_BOOTTIME). What was written before a call is not later, what is written after it not earlier."""
        if self._cutter is None:
            raise SessionError("nothing is being recorded: begin() first")
        return self._cutter.now_ns()

    def keep(self, into: str | os.PathLike[str], start_ns: int, end_ns: int, *, note: dict[str, Any] | None = None) -> Kept:
        """Write what all threads wrote in [start_ns, end_ns] as the trace directory ``into``, which is made. The rings stay as they are.

        note: stands in the manifest as ``test``. SessionError when nothing is recorded; OutputError when ``into`` cannot be written.
        """
        active, cutter = self._recording, self._cutter
        if active is None or cutter is None:
            raise SessionError("nothing is being recorded: begin() first")
        if not 0 <= start_ns <= end_ns <= MOST_NS:
            raise UsageError(f"a stretch from {start_ns} to {end_ns}: it ends before it begins, or is no time at all")
        assert active.segments is not None and active.segments.segments is not None
        cut = cutter.cut(start_ns, end_ns)
        segments = active.segments.segments
        self._names.take(segments)
        said = {"start_ns": start_ns, "end_ns": end_ns}
        return _write(cut, os.fspath(into), self._process, self._names, segments.anchors, "complete", said, note)


def _write(
    cut: slicer.Cut,
    into: str,
    process: dict[str, Any],
    names: Names,
    anchors: tuple[int, int],
    status: str,
    said: dict[str, Any],
    note: dict[str, Any] | None,
) -> Kept:
    threads = cut.threads
    made = manifest_of(threads, cut.functions, process, names, anchors, status, said, note)
    try:
        size = cut.write(into, made.text)
    except OutputError:
        parent = os.path.dirname(os.path.abspath(into))
        if os.path.isdir(parent):
            raise
        try:
            os.makedirs(parent, mode=0o700, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{parent} cannot be made: {error.strerror}") from error
        size = cut.write(into, made.text)
    return Kept(into, made.events, size, made.overwritten, made.lost)


def salvage(pid: int, into: str | os.PathLike[str], last_ns: int | None = None, *, note: dict[str, Any] | None = None) -> Kept:
    """Write the last events of another process that records into its rings (Slices), as the trace directory ``into``.

    The process may be dead: then its rings are removed afterwards. Or alive, hanging perhaps: it needs not help, and goes on undisturbed.
    last_ns: of each thread that lives its last so many ns, of ended ones what lies in the last so many of all; None: whatever its
    rings hold. SessionError when that process is not known; SegmentError when its rings are gone; OutputError.
    """
    if last_ns is not None and last_ns <= 0:
        raise UsageError(f"the last {last_ns} ns: more than 0")
    found = _find(pid)
    dead = not segment.alive(pid, int(found.get("start", 0) or 0))
    ids = tuple(int(part) for part in found["segments"].split(","))
    attached = segment.SegmentSet.attach((ids[0], ids[1], ids[2]))
    try:
        segments = attached.segments
        assert segments is not None
        cutter = slicer.Cutter(segments, own=False, dead=dead)
        cut = cutter.cut(0, MOST_NS, last_ns or 0)
        names = Names()
        names.take(segments)
        argv = [part for part in found.get("argv", "").split("\x1f") if part]
        config = found["session"]
        process = process_values(pid, int(found.get("ppid", 0) or 0), argv, found.get("python"), config)
        said = {"salvaged": "dead" if dead else "alive", "last_ns": last_ns}
        kept = _write(cut, os.fspath(into), process, names, segments.anchors, "recovered", said, note)
        del cutter, segments
        if dead:
            attached.remove()
    finally:
        attached.detach()
    if dead:
        _forget(found)
    return kept


def _find(pid: int) -> dict[str, Any]:
    """What a process that records into rings announced of itself; the newest, if a pid was used again."""
    known = []
    for one in runtime.sessions():
        for values in one["processes"] if runtime.rings_only(one) else ():
            if values.get("pid") == str(pid) and values.get("segments", "").count(",") == 2:
                known.append({**values, "session": one["config"], "place": one["path"]})
    if not known:
        raise SessionError(f"process {pid} has no rings to salvage: it does not record into rings only, or was salvaged already")
    return max(known, key=lambda values: int(values.get("start", 0) or 0))


def _forget(found: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.unlink(found["file"])
    if found["session"].get("recorder_pid") == found["pid"] and not runtime.processes(found["place"]):
        runtime.remove(found["place"])
