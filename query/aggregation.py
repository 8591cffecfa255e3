"""One question to all threads of many recordings: a map over their files, and partials that merge.

A thread's file is the natural part: no span crosses threads, so each file is matched by itself, in nogil loops, wherever an
executor puts the work.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from atf._core.errors import AtfError, FormatError, UsageError
from atf._core.merge import distinct_functions
from atf._core.spans import match, totals
from atf._core.sums import Groups, histogram, sum_spans
from atf.query.partials import Row, Table, merged

if TYPE_CHECKING:
    from atf._core.spans import SpanColumns
    from atf.trace_manifest import Function, Manifest

What = Literal["functions", "modules", "threads"]
_AT_ONCE = 16  # partials that are merged together


class FileError(NamedTuple):
    """A file that gave no result, and why."""

    path: str
    error: str


@dataclass(frozen=True)
class Aggregate:
    """value: the merged partials, a `Table` for "functions", "modules" and "threads". files: how many gave a part.

    errors: the files that gave none, in the order of their paths. They are not in `value`.
    """

    value: Any
    files: int
    errors: tuple[FileError, ...] = field(default=())

    @property
    def rows(self) -> list[Row]:
        """The rows of a Table, by self time."""
        if not isinstance(self.value, Table):
            raise UsageError("rows are of functions, modules and threads; a map of your own has its result in `value`")
        return list(self.value)


class ThreadFile:
    """What a map is given: one thread of one process. Nothing of it is read before it is asked for."""

    def __init__(self, path: str, number: int, end_ns: int) -> None:
        self.path, self.number = path, number
        self.end_ns = end_ns  # of its process: when spans end that are open

    @property
    def process_dir(self) -> str:
        return os.path.dirname(os.path.dirname(self.path))

    @cached_property
    def manifest_key(self) -> tuple[str, int, int]:
        try:
            said = os.stat(os.path.join(self.process_dir, "manifest.json"))
        except OSError:
            return self.process_dir, 0, 0
        return self.process_dir, said.st_mtime_ns, said.st_size

    @cached_property
    def manifest(self) -> Manifest:
        return _manifest(*self.manifest_key)

    @cached_property
    def _index(self) -> Any:
        from atf._core.reader import IndexFile

        return IndexFile(self.path)

    @property
    def pid(self) -> int:
        return self.manifest.pid

    @property
    def tid(self) -> int:
        return int(self._index.thread_id)

    @property
    def name(self) -> str:
        said = self.manifest.threads.get(self.number, {}).get("name")
        return said if isinstance(said, str) and said else f"thread {self.number}"

    @property
    def events(self) -> Any:
        """All its events: a structured array of shape (N,), read-only, mapped from the file."""
        return self._index.events

    @cached_property
    def spans(self) -> SpanColumns:
        """Its spans as columns; `spans.function` is a position in `functions`."""
        return match([self.events], self.end_ns)

    @cached_property
    def functions(self) -> list[Function]:
        return [self.manifest.function(id) for id in self.spans.function_ids.tolist()]


@lru_cache(maxsize=16)
def _manifest(process_dir: str, mtime_ns: int, size_bytes: int) -> Manifest:
    """Threads of one process share it; a manifest that changed has another key."""
    from atf.trace_manifest import read_manifest

    place = Path(process_dir)
    digits = place.name.removeprefix("pid_").split("_")[0]
    return read_manifest(place, int(digits) if digits.isdecimal() else 0)


def _key_of(what: What, f: Function) -> tuple[Any, ...]:
    return () if what == "threads" else (f.module,) if what == "modules" else (f.module, f.name, f.file, f.line)


def _grouped(what: What, functions: Iterable[Function]) -> tuple[list[tuple[Any, ...]], list[int]]:
    """(the distinct keys, rising; the position in them of each function's)."""
    keys = [_key_of(what, f) for f in functions]
    distinct = sorted(set(keys))
    number = {key: n for n, key in enumerate(distinct)}
    return distinct, [number[key] for key in keys]


@lru_cache(maxsize=16)
def _named(what: What, process_dir: str, mtime_ns: int, size_bytes: int) -> tuple[list[tuple[Any, ...]], Groups]:
    """The groups of all functions that a manifest names: the threads of a process share them."""
    functions = _manifest(process_dir, mtime_ns, size_bytes).functions
    keys, groups = _grouped(what, functions.values())
    return keys, Groups(list(functions), groups)


def table_of(what: What, thread: ThreadFile) -> Table:
    """The built-in maps. A thread is summed in one pass; only where functions suspend and resume spans are matched first."""
    keys, groups = _named(what, *thread.manifest_key)
    try:
        summed = sum_spans(thread.events, groups, thread.end_ns)
    except KeyError:  # functions that the manifest does not name
        ids = distinct_functions([thread.events]).tolist()
        keys, numbers = _grouped(what, map(thread.manifest.function, ids))
        summed = sum_spans(thread.events, Groups(ids, numbers), thread.end_ns)
    if summed is None:
        keys, summed = _matched(what, thread)
    if what == "threads":
        keys = [(thread.process_dir, thread.number, thread.tid, thread.name)] * len(keys)
    sums, codes, spans, counts = summed
    return Table(keys, sums, codes, spans, {"files": 1, "events": len(thread.events), **counts})


def _matched(what: What, thread: ThreadFile) -> tuple[list[tuple[Any, ...]], Any]:
    """The same as `sum_spans` gives, from the spans."""
    import numpy

    columns = thread.spans
    keys, numbers = _grouped(what, thread.functions)
    members = numpy.array(numbers, dtype=numpy.uint32)
    sums = totals(columns, columns.function, members, len(keys))
    return keys, (sums, *histogram(columns.active_ns, columns.function, members), {"spans": len(columns), **columns.counts})


def _run(make: Callable[[ThreadFile], Any], thread: tuple[str, int, int]) -> tuple[bool, Any]:
    """(True, the part) or (False, why there is none): in whatever process or machine the executor has."""
    file = ThreadFile(*thread)
    try:
        part = make(file)
        _ = file.events  # FormatError when the file was cut while it was read: the part would be of zeros
        return True, part
    except Exception as why:  # one file must not end the work on all others
        return False, str(why) if isinstance(why, AtfError) else f"{type(why).__name__}: {why}"


def _processes(path: Path) -> Iterator[tuple[Path, int | None]]:
    """(process directory, one thread of it or None: all) that a path names: a file, a thread, a process, a session, or several."""
    from atf.trace_files import find_session, numbered

    if path.name == "index.atf" and path.is_file():
        path = path.parent
    if path.name.startswith("thread_") and path.is_dir():
        found = [number for number, place in numbered(path.parent, "thread_") if place == path]
        yield path.parent, found[0] if found else None
        return
    sessions = [path] if not path.is_dir() else [p for p in sorted(path.iterdir()) if p.name.startswith("session_") and p.is_dir()]
    for session in sessions or [path]:
        for place in find_session(session)[1]:
            yield place, None


def _plan(paths: Any) -> tuple[list[tuple[str, int, int]], list[FileError]]:
    """([(file, thread number, when its process ended)] by path, errors of files that cannot be opened). Reads headers only."""
    from atf._core.reader import IndexFile
    from atf.trace_files import numbered

    wanted: dict[Path, set[int] | None] = {}
    errors = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        try:
            for place, number in _processes(Path(path).resolve()):
                before = wanted.setdefault(place, set())
                if number is None or before is None:
                    wanted[place] = None
                else:
                    before.add(number)
        except (AtfError, OSError) as why:
            errors.append(FileError(os.fspath(path), str(why)))
    plan = []
    for place, numbers in sorted(wanted.items()):
        end_ns, files = 0, []
        for number, thread in numbered(place, "thread_"):
            mine = numbers is None or number in numbers
            try:
                events = IndexFile(thread / "index.atf").events
                end_ns = max(end_ns, int(events[-1]["timestamp_ns"]) if len(events) else 0)
                if mine:
                    files.append((str(thread / "index.atf"), number))
            except (FormatError, OSError) as why:
                if mine:
                    errors.append(FileError(str(thread / "index.atf"), str(why)))
        plan += [(*file, end_ns) for file in files]
    return plan, errors


def _results(make: Callable[[ThreadFile], Any], plan: list[tuple[str, int, int]], executor: Executor | None) -> Iterator[tuple[bool, Any]]:
    """What each file of the plan gave, in the order of the plan."""
    if executor is None:
        for thread in plan:
            yield _run(make, thread)
        return
    waiting: deque[Future[Any]] = deque()
    try:
        for thread in plan:
            waiting.append(executor.submit(_run, make, thread))
        while waiting:
            future = waiting.popleft()
            try:
                yield future.result()
            except Exception as why:  # a worker died, or the map or its result cannot be pickled
                yield False, f"{type(why).__name__}: {why}"
    finally:
        for future in waiting:
            future.cancel()


def aggregate(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    what: What | Callable[[ThreadFile], Any] = "functions",
    executor: Executor | None = None,
    *,
    merge: Callable[[Any, Any], Any] | None = None,
) -> Aggregate:
    """One answer about all threads of all recordings below `paths`.

    paths: sessions, processes, threads, files, or directories of sessions (all of them); what is named twice counts once.
    what: "functions", "modules" or "threads": sums of spans, merged over processes by names; or a function of one ThreadFile,
    with `merge(a, b)`, which is called in the order of the paths. executor: any concurrent.futures.Executor; None: here, one
    file after the other. For another process the map and its result must be picklable.

    Every executor gives the same result to the bit. A file that fails stands in `errors` and the others are answered; AtfError
    when none is left. UsageError for a `what` that is neither.
    """
    if callable(what):
        make: Callable[[ThreadFile], Any] = what
        if merge is None:
            raise UsageError("merge: a map of your own needs merge=f(a, b)")
    elif what in ("functions", "modules", "threads"):
        make = partial(table_of, what)
        if merge is not None:
            raise UsageError("merge: is for a map of your own")
    else:
        raise UsageError(f"what={what!r}: choose functions, modules or threads, or give a function of one thread's file")
    plan, errors = _plan(paths)
    files, value, some = 0, None, []
    for (path, *_), (done, part) in zip(plan, _results(make, plan, executor)):
        if not done:
            errors.append(FileError(path, part))
            continue
        files += 1
        if merge is not None:
            value = part if files == 1 else merge(value, part)
            continue
        some.append(part)
        if len(some) == _AT_ONCE:
            some = [merged(some)]
    if not files and errors:
        raise FormatError(f"no file gave a result ({len(errors)} errors); the first, {errors[0].path}: {errors[0].error}")
    if merge is None:
        value = merged(some)
    return Aggregate(value, files, tuple(sorted(errors)))
