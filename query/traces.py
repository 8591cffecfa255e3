"""The traces below a root, by id: found, opened, kept open, and let go of again.

A trace id is a path below the root, of names that a directory there has; nothing else reaches the file system.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atf.errors import AtfError
from atf.query.errors import TRACE_DAMAGED, TRACE_NOT_FOUND, RpcError, shown

if TYPE_CHECKING:
    from atf.trace import Trace

_NAME = re.compile(r"\w[\w.+@=, -]{0,254}")
_MOST_NAMES = 3
_COUNTED_EVENTS = 1 << 20  # are read in a few milliseconds


class View:
    """An open trace as one question sees it: what was committed when it was taken. Views of growing traces are replaced."""

    def __init__(self, id: str, path: Path, trace: Trace, signature: Any) -> None:
        self.id, self.path, self.trace, self.signature = id, path, trace, signature
        self.lock = threading.Lock()  # held for moments only: never while anything is read
        self.derived: dict[Any, Any] = {}  # by the modules of methods: index, counts, names
        self._making: dict[Any, threading.RLock] = {}  # by key: held while its value is made

    def once(self, key: Any, make: Any) -> Any:
        """The value of `make(view)`, made at the first question. Questions for other keys do not wait for it."""
        if key in self.derived:
            return self.derived[key]
        with self.lock:
            making = self._making.setdefault(key, threading.RLock())
        with making:
            if key not in self.derived:
                self.derived[key] = make(self)
            return self.derived[key]

    @property
    def info(self) -> dict[str, Any]:
        """`Trace.info`, read once; lost is None where it would take long to count."""
        return dict(self.once("info", lambda view: view.trace.info_within(_COUNTED_EVENTS)))

    @property
    def start_ns(self) -> int:
        return int(self.info["time_start_ns"] or 0)

    @property
    def growing(self) -> bool:
        return bool(self.info["status"] == "recording")

    @property
    def problems(self) -> list[str]:
        """What of the trace could not be read: a few sentences; trace.info has all."""
        found: list[str] = self.info["recovered"]["problems"]
        more = [f"and {len(found) - 3} more: trace.info has them"] if len(found) > 3 else []
        return [problem[:300] for problem in found[:3]] + more

    def check(self) -> None:
        """Raises FormatError when a file of the trace has been cut since it was opened: what was derived meanwhile is void."""
        for thread in self.trace.threads:
            thread.check()
        if (spans := self.derived.get("spanset")) is not None:
            spans.check()


class Traces:
    """The traces below `root`. cache_size: how many stay open; cache_ttl: seconds after its last use that one stays open, 0: off."""

    def __init__(self, root: str | os.PathLike[str], cache_size: int = 100, cache_ttl: float = 300.0) -> None:
        self.root = Path(root).resolve()
        self._size, self._ttl = cache_size, cache_ttl
        self._open: OrderedDict[str, tuple[float, View]] = OrderedDict()
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def taking(self) -> Iterator[list[View]]:
        """The views that this thread takes inside the with."""
        above, self._local.taken = getattr(self._local, "taken", None), []
        try:
            yield self._local.taken
        finally:
            self._local.taken = above

    def place(self, trace_id: Any) -> Path:
        """The directory of an id. RpcError -32000 for one that is not there, leaves the root, or is no name at all."""
        names = trace_id.split("/") if isinstance(trace_id, str) else []
        if not 0 < len(names) <= _MOST_NAMES or not all(_NAME.fullmatch(name) for name in names):
            raise RpcError(TRACE_NOT_FOUND, {"traceId": shown(trace_id), "hint": "traces.list names those that are here"})
        try:
            place = self.root.joinpath(*names).resolve(strict=True)
            inside = place.is_relative_to(self.root) and is_trace(place)
        except (OSError, RuntimeError, ValueError):
            inside = False
        if not inside:
            raise RpcError(TRACE_NOT_FOUND, {"traceId": trace_id, "hint": "traces.list names those that are here"})
        return place

    def ids(self) -> list[str]:
        """The ids of all traces directly below the root, by name; of a recording in parts, those of its parts."""
        try:
            entries = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        except OSError:
            return []
        from atf.trace_files import parts_in

        found = []
        for name in entries:
            if _NAME.fullmatch(name):
                parts = parts_in(self.root / name) if name.startswith("session_") else []
                found += [f"{name}/{part.name}" for part in parts] or [name] * is_trace(self.root / name)
        return found

    def view(self, trace_id: Any) -> View:
        """The trace of an id, open and up to date. RpcError when there is none, or when it cannot be read at all."""
        view = self._view(trace_id)
        taken = getattr(self._local, "taken", None)
        if taken is not None and view not in taken:
            taken.append(view)
        return view

    def _view(self, trace_id: Any) -> View:
        from atf.trace import open_trace

        place = self.place(trace_id)
        signature = signature_of(place)
        now = time.monotonic()
        with self._lock:
            self._drop(now)
            found = self._open.get(trace_id)
            if found and found[1].signature == signature and found[1].path == place:
                self._open[trace_id] = (now, found[1])
                self._open.move_to_end(trace_id)
                return found[1]
        try:
            view = View(trace_id, place, open_trace(place), signature)
        except (AtfError, OSError) as why:
            self.place(trace_id)  # another error when it has gone meanwhile
            raise RpcError(TRACE_DAMAGED, {"traceId": trace_id, "reason": str(why)}) from None
        with self._lock:
            if self._size and self._ttl:
                self._open[trace_id] = (now, view)
                self._open.move_to_end(trace_id)
                self._drop(now)
        return view

    def _drop(self, now: float) -> None:
        while self._open and (len(self._open) > self._size or next(iter(self._open.values()))[0] + self._ttl < now):
            self._open.popitem(last=False)

    def drop(self, view: View) -> None:
        """Lets go of a view, so that the next question opens the trace anew."""
        with self._lock:
            if self._open.get(view.id, (0, None))[1] is view:
                del self._open[view.id]

    @property
    def open_count(self) -> int:
        return len(self._open)

    def close(self) -> None:
        with self._lock:
            self._open.clear()


def is_trace(place: Path) -> bool:
    """Whether a directory is a session, or a process of one."""
    try:
        with os.scandir(place) as entries:
            return any(
                entry.name == "manifest.json" or (entry.name.startswith(("part_", "pid_", "thread_")) and entry.is_dir()) for entry in entries
            )
    except OSError:
        return False


def signature_of(place: Path) -> tuple[Any, ...]:
    """What changes when a file of a trace does: the names, sizes and times of its manifests, indexes and details."""
    found: list[Any] = []

    def look(directory: str, depth: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(("part_", "pid_", "thread_")) and depth < 3 and entry.is_dir():
                    look(entry.path, depth + 1)
                elif entry.name in ("manifest.json", "index.atf", "detail.atf"):
                    stat = entry.stat()
                    found.append((entry.path, stat.st_ino, stat.st_size, stat.st_mtime_ns))

    try:
        look(str(place), 0)
    except OSError:
        return (time.monotonic(),)
    return tuple(sorted(found))
