"""The span indexes of a trace: found beside its threads, else made, by as many threads as there are cores, and kept for next time.

An index stands in the thread's directory; where that cannot be written, in a cache directory of the user; else in a temporary
file without a name, or in memory. Nothing of that is ever an error, and what is stale or damaged is made anew.
"""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atf._core.errors import FormatError
from atf._core.filemap import FileMap
from atf._core.index import ThreadIndex
from atf._core.index_build import Builder, source_of

if TYPE_CHECKING:
    from atf.trace import Trace
    from atf.trace_files import Thread

NAME = "spans.atfi"
KEPT_BYTES = 4096  # an index smaller than this is made more quickly than it is found
_TEMPORARY = f".{NAME}."
_LEFT_BEHIND_S = 3600.0  # a temporary file of this age belongs to nobody any more
_UNUSED_S = 30 * 86400.0  # an index in the cache that nobody opened for so long is removed
_LOOK_S = 0.02  # how often a waiting question looks whether its time is over


class _Work:
    """The indexes of one state of a trace, while they are made and after. What is begun is finished, also when nobody waits."""

    def __init__(self, trace: Trace) -> None:
        self.threads = trace.threads
        self._builders: queue.SimpleQueue[Builder] = queue.SimpleQueue()
        ends = [process.time_end_ns for process in trace.processes]
        keep = [process.status != "recording" for process in trace.processes]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        pool = ThreadPoolExecutor(max(1, min(cores, len(self.threads))), "atf-index")
        self._done: dict[int, Future[ThreadIndex]] = {
            t.position: pool.submit(self._one, t, ends[t.process.position], keep[t.process.position])
            for t in sorted(self.threads, key=lambda thread: -len(thread.index))
        }
        for future in self._done.values():
            future.add_done_callback(self._clear)
        pool.shutdown(wait=False)

    def _clear(self, _: Any) -> None:
        """The builders' memory goes with the last index."""
        if all(future.done() for future in self._done.values()):
            with suppress(queue.Empty):
                while True:
                    self._builders.get_nowait()

    def _one(self, thread: Thread, end_ns: int, keep: bool) -> ThreadIndex:
        events, index = thread.events, thread.index
        source = source_of(events, index.size_bytes, index.modified_ns, index.stored_crc32, end_ns)
        for place in _places(thread, False) if keep else ():
            if found := _open(place, events, source):
                return found
        try:
            builder = self._builders.get_nowait()
        except queue.Empty:
            builder = Builder()
        try:
            size = builder.build(events, source)
            thread.index.check()  # what was cut meanwhile may have been read as zeros
            if size < KEPT_BYTES:
                return ThreadIndex(builder.to_bytes(), events, source, new=True)
            for place in _places(thread, True) if keep else ():
                if kept := _save(builder, size, place, Path(thread.index.path), events, source):
                    return kept
            return _hold(builder, size, events, source)
        finally:
            self._builders.put(builder)

    def result(self, check: Callable[[], object] | None) -> list[ThreadIndex]:
        if check is not None:
            while wait(self._done.values(), _LOOK_S, FIRST_EXCEPTION).not_done and not self._failed():
                check()
        return [self._done[t.position].result() for t in self.threads]

    def _failed(self) -> bool:
        return any(future.done() and future.exception() for future in self._done.values())


_rejected: set[tuple[int, int, int]] = set()  # files whose checksums fit, but not what they say
_works: weakref.WeakKeyDictionary[Trace, _Work] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def indexes_of(trace: Trace, check: Callable[[], object] | None = None) -> list[ThreadIndex]:
    """The index of every thread, in the order of `trace.threads`; made, or read, at the first question.

    check: called while this waits. What it raises ends the waiting, not the work: the next question finds it done, or nearly.
    FormatError: a file was cut while it was read.
    """
    trace.check_open()
    with _lock:
        work = _works.get(trace)
        if work is None or work.threads is not trace.threads:
            work = _works[trace] = _Work(trace)
    try:
        return work.result(check)
    except (FormatError, MemoryError):
        with _lock:
            if _works.get(trace) is work:
                del _works[trace]
        raise


def reject(index: ThreadIndex) -> None:
    """Remembers that the file of an index is not to be believed: the next one is made anew."""
    with suppress(OSError, TypeError):
        state = os.stat(index.name)
        _rejected.add((state.st_dev, state.st_ino, state.st_mtime_ns))


def _places(thread: Thread, make: bool) -> Iterator[Path]:
    """Where the index of a thread may stand, the best first. make: also the cache, when it is needed."""
    yield thread.place / NAME
    if home := _cache(make):
        yield home / f"{hashlib.blake2b(os.fsencode(os.path.realpath(thread.place)), digest_size=16).hexdigest()}.atfi"


def _cache(make: bool) -> Path | None:
    """The user's own directory for indexes, or None: there is none that is theirs alone."""
    said = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(said if os.path.isabs(said) else os.path.expanduser("~/.cache")) / "atf" / "index"
    if not home.is_absolute():
        return None
    try:
        if make:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = home.lstat()
    except OSError:
        return None
    return home if stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o077 else None


def _open(place: Path, events: Any, source: bytes) -> ThreadIndex | None:
    """The index at a place; None when there is none that fits."""
    try:
        # Not blocking: a FIFO in the place of a file must not hang us.
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode) or not state.st_size or (state.st_dev, state.st_ino, state.st_mtime_ns) in _rejected:
            return None
        found = ThreadIndex(FileMap(fd, state.st_size, place), events, source, place)
        if place.name != NAME:
            with suppress(OSError):
                os.utime(fd)  # in the cache: still in use
        return found
    except (OSError, FormatError):
        return None
    finally:
        os.close(fd)


def _save(builder: Builder, size: int, place: Path, beside: Path, events: Any, source: bytes) -> ThreadIndex | None:
    """Writes the index and maps it; None when that cannot be done there."""
    temporary = None
    try:
        _sweep(place.parent)
        fd, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=place.parent)
    except OSError:
        return None
    try:
        if place.name == NAME:  # whoever may read the events may read what follows from them
            os.fchmod(fd, stat.S_IMODE(beside.stat().st_mode) & 0o666)
        builder.write(fd)
        made = ThreadIndex(FileMap(fd, size, place), events, source, place, new=True)
        os.rename(temporary, place)
        temporary = None
        return made
    except (OSError, FormatError):
        return None
    finally:
        os.close(fd)
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)


def _hold(builder: Builder, size: int, events: Any, source: bytes) -> ThreadIndex:
    """The index in a file without a name, or where there is no room for one, in memory."""
    try:
        with tempfile.TemporaryFile() as file:
            builder.write(file.fileno())
            return ThreadIndex(FileMap(file.fileno(), size, "a temporary span index"), events, source, new=True)
    except (OSError, FormatError):
        return ThreadIndex(builder.to_bytes(), events, source, new=True)


def _sweep(directory: Path) -> None:
    """Removes what killed processes left behind, and from the cache what nobody uses."""
    now = time.time()
    with os.scandir(directory) as entries:
        for entry in entries:
            old = _LEFT_BEHIND_S if entry.name.startswith(_TEMPORARY) else _UNUSED_S
            if entry.name.startswith(_TEMPORARY) or (entry.name.endswith(".atfi") and entry.name != NAME):
                with suppress(OSError):
                    if now - entry.stat(follow_symlinks=False).st_mtime > old:
                        os.unlink(entry.path)
