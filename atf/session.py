"""Recording from inside a program: ``atf.record``, ``atf.start``, ``atf.stop``. The drain is a native thread of this process."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from atf import recording, runtime, tracing  # noqa: F401 - tracing: so that its import is not in the trace
from atf._core.errors import SessionError, UsageError
from atf._core.segment import process_start

_current: Record | None = None


def _globs(value: str | Iterable[str] | None, what: str) -> str:
    parts = [value] if isinstance(value, str) else list(value or ())
    if not all(isinstance(part, str) and part for part in parts):
        raise UsageError(f"{what}: module name globs like 'shop.*', not {value!r}")
    return "\x1f".join(parts)


class Record:
    """A recording of this process, usable as a context manager.

    path: directory that receives ``session_…`` (made when missing); None: rings only, nothing is drained or written.
    level: ``calls``, ``returns`` (default), ``c``, ``args``, or ``"c,args"``. include, exclude: globs on module names;
    excluded wins. policy: ``drop-oldest`` or ``block``. ring_size: bytes of ring memory a thread (``"8M"``).
    python=False records only spans and events of your own.

    Raises UsageError, SessionError (already recording), SegmentError, OutputError. ``.path``: the session directory.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        level: str = "returns",
        include: str | Iterable[str] | None = None,
        exclude: str | Iterable[str] | None = None,
        policy: str = "drop-oldest",
        ring_size: str | int | None = None,
        slots: int | None = None,
        python: bool = True,
        children: bool = True,
    ):
        recording.levels(level)
        if policy not in ("drop-oldest", "block"):
            raise UsageError(f"policy {policy!r}: choose drop-oldest or block")
        self._out = None if path is None else os.fspath(path)
        self.path: str | None = None
        self._config: dict[str, str] = {
            "level": level,
            "include": _globs(include, "include"),
            "exclude": _globs(exclude, "exclude"),
            "policy": policy,
            "python": "1" if python else "0",
            "children": "1" if children else "0",
            "drain": "0" if path is None else "1",
            **{key: str(value) for key, value in recording.ring_options(ring_size, slots).items()},
        }
        self._recording: recording.Recording | None = None
        self._gatherer: Any = None
        self._process: Any = None
        self.totals: dict[str, Any] = {}

    def start(self) -> Record:
        """Begin. One recording at a time in a process."""
        global _current
        if recording.active() is not None or _current is not None:
            raise SessionError("this process is recording already: stop that recording first (one at a time in a process)")
        session = None
        if self._out is not None:
            from atf.gather import Gatherer
            from atf.manifest import new_session_directory

            self.path = new_session_directory(self._out)
            session = runtime.new_session(
                {**self._config, "output": os.path.abspath(self.path), "recorder_pid": os.getpid(), "recorder_start": process_start(os.getpid())}
            )
            self._gatherer = Gatherer(self.path, session, self._config["level"])
        self._recording = active = recording.Recording(session, self._config)
        active.forked = self._forked
        try:
            if self._gatherer is None:
                active.begin()
                assert active.segments is not None
                active.segments.remove()  # nobody else will come: they vanish with this process
            else:
                active.begin_with(self._take_in)
        except BaseException:
            self._recording = None
            if session:
                runtime.remove(session)
            raise
        _current = self
        _register()
        return self

    def _take_in(self, segments: Any, file: str) -> None:
        self._process = self._gatherer.take_in({**runtime.read(file), "file": file}, segments)
        self._gatherer.live[file] = self._process
        self._gatherer.start()

    def stop(self) -> dict[str, Any]:
        """End, complete the files, and return the totals (events, bytes, lost, threads)."""
        global _current
        if self._recording is None:
            raise SessionError("this recording is not running")
        active, self._recording = self._recording, None
        _current = None
        active.end()
        if self._gatherer is not None:
            self._gatherer.drain.join()
            self._gatherer.stop()
            self._gatherer.close()
            self.totals = self._gatherer.totals()
        else:
            active.detach()
        return self.totals

    def __enter__(self) -> Record:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self._recording is not None:
            self.stop()

    def _forked(self) -> None:
        """In a forked child: the parent's files and segments are let go, and a recording of the child's own begins."""
        global _current
        _current = None
        parent = self._recording
        self._recording = None
        if self._gatherer is not None:
            self._gatherer.drain.drop(self._process.source)
            self._process = None
            self._gatherer = None
        if parent is None or self._config["children"] != "1":
            return
        Child(self, parent.session).begin()

    def _before_fork(self) -> None:
        if self._gatherer is not None:
            self._gatherer.drain.join()

    def _after_fork(self) -> None:
        if self._gatherer is not None:
            self._gatherer.drain.start()


class Child:
    """The recording of a forked child of a program that records itself: it drains itself, into the same session."""

    def __init__(self, parent: Record, session: str | None):
        self.record = parent
        self.session = session

    def begin(self) -> None:
        """Start over in the child. Never raises: the program comes first."""
        record = self.record
        try:
            record._config = {**record._config, "recorder_pid": str(os.getpid())}
            if self.session is None or record.path is None:
                fresh = Record(None)
                fresh._config = record._config
                fresh.start()
                return
            from atf.gather import Gatherer

            global _current
            record._gatherer = Gatherer(record.path, None, record._config["level"])
            active = recording.Recording(self.session, record._config)
            active.forked = record._forked
            record._recording = active
            active.begin_with(record._take_in)
            _current = record
        except Exception as error:  # noqa: BLE001 - a recorder's failure is not the program's
            record._recording = record._gatherer = None
            if self.session:
                recording.complain(self.session, error)


_registered = False


def _register() -> None:
    """Once in a process: hooks that cannot be taken back, gated by what is running."""
    global _registered
    if _registered:
        return
    _registered = True
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)
    atexit.register(_at_exit)
    if "multiprocessing.util" in sys.modules:
        _multiprocessing_exit()


def _multiprocessing_exit() -> None:
    """Children of multiprocessing leave by os._exit: only its own finalizers run there."""
    from multiprocessing import util

    util.Finalize(None, _at_exit, exitpriority=-100)


def _before_fork() -> None:
    if _current is not None:
        _current._before_fork()


def _after_fork() -> None:
    if _current is not None:
        _current._after_fork()


def _at_exit() -> None:
    if _current is not None:
        _current.stop()


def start(path: str | os.PathLike[str] | None = None, **options: Any) -> Record:
    """Start recording this process; see :class:`Record` for the arguments. End it with :func:`stop`."""
    return Record(path, **options).start()


def stop() -> dict[str, Any]:
    """End the recording that :func:`start` began. SessionError when there is none."""
    if _current is None:
        raise SessionError("nothing is being recorded")
    return _current.stop()
