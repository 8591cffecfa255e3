"""Recording from inside a program: ``atf.record``, ``atf.start``, ``atf.stop``. The drain is a native thread of this process."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from atf import recording, runtime, tracing  # noqa: F401 - tracing: so that its import is not in the trace
from atf._core.errors import AtfError, SessionError, UsageError
from atf._core.segment import process_start

_current: Record | None = None


def _globs(value: str | Iterable[str] | None, what: str) -> str:
    try:
        parts = [value] if isinstance(value, str) else list(value or ())
    except TypeError:
        parts = [value]  # type: ignore[list-item]
    if not all(isinstance(part, str) and part for part in parts):
        raise UsageError(f"{what}: module name globs like 'shop.*', not {value!r}")
    return "\x1f".join(parts)


class Record:
    """A recording of this process, usable as a context manager.

    path: directory that receives ``session_…`` (made when missing); None: rings only, nothing is drained or written.
    level: ``calls``, ``returns`` (default), ``c``, ``args``, or ``"c,args"``. include, exclude: globs on module names;
    excluded wins. policy: ``drop-oldest`` or ``block``. ring_size: bytes of ring memory a thread (``"8M"``). burst_size: bytes
    that all threads share when the drain does not follow (``"128M"``), touched when they are needed.
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
        burst_size: str | int | None = None,
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
            **{key: str(value) for key, value in recording.ring_options(ring_size, slots, 0 if path is None else burst_size).items()},
        }
        self._recording: recording.Recording | None = None
        self._gatherer: Any = None
        self._root = ""  # the runtime session of the process that began it
        self._process: Any = None
        self.totals: dict[str, Any] = {}

    def start(self) -> Record:
        """Begin. One recording at a time in a process."""
        if recording.active() is not None or _current is not None:
            raise SessionError("this process is recording already: stop that recording first (one at a time in a process)")
        self._root = ""
        if self._out is not None:
            from atf.manifest import new_session_directory

            self.path = new_session_directory(self._out)
        try:
            self._begin()
        except BaseException:
            if self.path is not None:
                import shutil

                shutil.rmtree(self.path, ignore_errors=True)
            raise
        _register()
        return self

    def _begin(self) -> None:
        """Segments and hooks, and with a path a drain of this process's own."""
        global _current
        session = None
        if self.path is not None:
            from atf.gather import Gatherer

            here = {"output": os.path.abspath(self.path), "recorder_pid": os.getpid(), "recorder_start": process_start(os.getpid())}
            session = runtime.new_session({**self._config, **here, "root": self._root})
            self._root = self._root or session
            self._gatherer = Gatherer(self.path, session, self._config["level"], follow=False)
        active = recording.Recording(session, self._config)
        active.forked = self._forked
        try:
            if self._gatherer is None:
                active.begin()
                assert active.segments is not None
                active.segments.remove()  # nobody else will come: they vanish with this process
            else:
                active.begin_with(self._take_in)
        except BaseException:
            if self._gatherer is not None:
                if not self._gatherer.live:
                    active.withdraw()
                self._close()
            raise
        self._recording = active
        _current = self

    def _take_in(self, segments: Any, file: str) -> None:
        self._process = self._gatherer.take_in({**runtime.read(file), "file": file}, segments)
        self._gatherer.live[file] = self._process
        self._gatherer.start()

    def metrics(self) -> dict[str, Any]:
        """What was counted so far, as ``atf stat --json`` shows it of other recordings. SessionError when nothing is drained now."""
        from atf import metrics

        if self._gatherer is None:
            raise SessionError("nothing is drained here: the recording is not running, or keeps rings only")
        return metrics.of_session(self._gatherer)

    def stop(self) -> dict[str, Any]:
        """End, complete the files, and return the totals (events, bytes, lost, threads)."""
        global _current
        if self._recording is None:
            raise SessionError("this recording is not running")
        active, self._recording = self._recording, None
        _current = None
        active.end()
        if self._gatherer is None:
            active.detach()
            return self.totals
        gatherer, session = self._gatherer, active.session
        self._close()
        self.totals = {**gatherer.totals(), "errors": gatherer.errors}
        if session == self._root:
            self._complete_children()
        if gatherer.refused is not None:
            raise gatherer.refused
        return self.totals

    def _close(self) -> None:
        gatherer, self._gatherer = self._gatherer, None
        self._process = None
        gatherer.drain.join()
        gatherer.stop()
        gatherer.close()

    def _complete_children(self) -> None:
        """Forked children that are over without having ended their recording (os._exit, a signal): theirs is completed here."""
        left = [one for one in runtime.sessions() if one["config"].get("root") == self._root and not one["recorder_alive"]]
        if left:
            from atf.recovery import complete_session

            for one in left:
                complete_session(one, self.path or "", "complete")

    def __enter__(self) -> Record:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self._recording is None:
            return
        try:
            self.stop()
        except AtfError:
            if kind is None:  # the block's own exception comes first
                raise

    def _forked(self) -> None:
        """In a forked child: the parent's files and segments are let go, and a recording of the child's own begins,
        drained by the child, in the same session directory. Never raises: the program comes first."""
        global _current
        parent, self._recording, _current = self._recording, None, None
        if self._gatherer is not None:
            self._gatherer.drain.drop(self._process.source)
            self._gatherer = self._process = None
        if parent is None:
            return
        parent.detach()
        if self._config["children"] != "1":
            return
        try:
            self._begin()
        except Exception as error:
            recording.complain(self._root, error)
            return
        if "multiprocessing.util" in sys.modules:  # its children end by os._exit; only its own finalizers run there
            from multiprocessing import util

            util.register_after_fork(self, lambda _: util.Finalize(None, _at_exit, exitpriority=-100))

    def _before_fork(self) -> None:
        if self._gatherer is not None:
            self._gatherer.drain.fork_waits(True)

    def _after_fork(self) -> None:
        if self._gatherer is not None:
            self._gatherer.drain.fork_waits(False)
            self._gatherer.drain.start()


_registered = False


def _register() -> None:
    """Once in a process: hooks that cannot be taken back, gated by what is running."""
    global _registered
    if _registered:
        return
    _registered = True
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)
    atexit.register(_at_exit)


def _before_fork() -> None:
    if _current is not None:
        _current._before_fork()


def _after_fork() -> None:
    if _current is not None:
        _current._after_fork()


def _at_exit() -> None:
    if _current is not None:
        try:
            _current.stop()
        except AtfError as error:
            print(f"atf: {error}", file=sys.stderr)


def start(path: str | os.PathLike[str] | None = None, **options: Any) -> Record:
    """Start recording this process; see :class:`Record` for the arguments. End it with :func:`stop`."""
    return Record(path, **options).start()


def stop() -> dict[str, Any]:
    """End the recording that :func:`start` began. SessionError when there is none."""
    if _current is None:
        raise SessionError("nothing is being recorded")
    return _current.stop()
