"""An opened recording: what was called, when, by whom, and with what outcome.

    with open_trace("atf-traces") as trace:
        for span in trace.spans(function="*solve*", order_by="duration", limit=10):
            print(span.name, span.duration_ns, span.status)

Reading never changes a file, needs nothing of the live half, and works while the recording goes on.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from atf._core.errors import FormatError, UsageError
from atf._core.layout import KINDS
from atf._core.merge import IdSet, distinct_functions
from atf._core.spans import STATUS
from atf.trace_assertions import Assertions
from atf.trace_events import Events
from atf.trace_files import Process, Thread, find_session
from atf.trace_filters import DEEPEST, LAST_NS, glob, most, number, refuse
from atf.trace_manifest import Function
from atf.trace_spans import Spans, SpanTable, smallest_first
from atf.trace_tree import TopRow, Tree, top

_EVENT_FILTERS = ("function", "module", "kind", "thread", "start_ns", "end_ns", "depth", "limit")
_SPAN_FILTERS = (
    *("function", "module", "thread", "min_duration_ns", "max_duration_ns", "status"),
    *("start_ns", "end_ns", "min_depth", "max_depth", "order_by", "limit"),
)


class Functions(Mapping[Any, Function]):
    """The named functions of a trace. Keys are (pid, function id); in a trace of one process the id alone does too."""

    def __init__(self, processes: list[Process]) -> None:
        self._named = {(p.pid, id): p.function(id) for p in processes for id in p.manifest.functions}
        self._only = processes[0].pid if len(processes) == 1 else None

    def __getitem__(self, key: Any) -> Function:
        return self._named[key if isinstance(key, tuple) or self._only is None else (self._only, key)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


class Trace(Assertions):
    """A recording of one or more processes. See :func:`open_trace`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._asked = path
        self._closed = False
        self._load()

    def _load(self) -> None:
        path, places, note = find_session(self._asked)
        processes: list[Process] = []
        threads: list[Thread] = []
        for position, place in enumerate(places):
            process = Process(place, position, len(threads))
            processes.append(process)
            threads += process.threads
        if places and not threads and not any(p.manifest.data for p in processes):
            raise FormatError(f"{path}: nothing in it can be read. " + "; ".join(p.problems[-1] for p in processes if p.problems))
        # Only now, so that a refresh that fails leaves everything as it was.
        self.path, self._note, self.processes, self.threads = path, note, processes, threads
        self.functions = Functions(processes)
        self._table: SpanTable | None = None
        self._occurring: dict[int, list[int]] = {}

    def check_open(self) -> None:
        """Raises UsageError when the trace has been closed."""
        if self._closed:
            raise UsageError(f"{self.path}: the trace was closed; open it again")

    def refresh(self) -> bool:
        """Reads what was written since; True when something was. Spans and events handed out before keep what they saw."""
        self.check_open()
        before = self._size()
        self._load()
        return self._size() != before

    def _size(self) -> tuple[Any, ...]:
        return tuple(
            (p.place, p.manifest.size_bytes, p.status, *((t.number, len(t.index), t.index.size_bytes) for t in p.threads))
            for p in self.processes
        )

    def close(self) -> None:
        """Lets go of the files. Arrays that were handed out stay valid."""
        self._closed = True
        self._table = None
        self.processes, self.threads = [], []

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<trace {self.path}: {len(self.processes)} processes, {len(self.threads)} threads>"

    @property
    def status(self) -> str:
        """Of its processes, the status that says least: recording, interrupted, unknown, recovered, complete."""
        order = ("recording", "interrupted", "unknown", "recovered", "complete")
        return min((p.status for p in self.processes), key=order.index, default="unknown")

    @property
    def times(self) -> tuple[int, int] | None:
        """(first, last) timestamp in ns; None without events."""
        starts = [int(t.events[0]["timestamp_ns"]) for t in self.threads if len(t.index)]
        ends = [int(t.events[-1]["timestamp_ns"]) for t in self.threads if len(t.index)]
        return (min(starts), max(ends)) if starts else None

    @property
    def info(self) -> dict[str, Any]:
        """What this recording is: a dict.

        path, note, status, processes [{pid, status, parent_pid, argv, exit, python}], threads, events, spans (None until
        they were asked for), lost {reason: events}, time_start_ns, time_end_ns, duration_ns (None without events),
        files {manifest_bytes, index_bytes, detail_bytes}, recovered {files: [...], problems: [...]}.
        """
        return self.info_within(None)

    def info_within(self, most_events: int | None) -> dict[str, Any]:
        """`info`, but `lost` is None when a manifest does not say it, and to count it more than `most_events` would be read."""
        self.check_open()
        start, end = self.times or (None, None)
        unsaid = sum(len(t.index) for p in self.processes if p.lost_said is None for t in p.threads)
        known = most_events is None or unsaid <= most_events
        lost: dict[str, int] = {}
        for process in self.processes if known else ():
            for reason, count in process.lost.items():
                lost[reason] = lost.get(reason, 0) + count
        return {
            "path": str(self.path),
            "note": self._note,
            "status": self.status,
            "processes": [p.info for p in self.processes],
            "threads": len(self.threads),
            "events": sum(len(t.index) for t in self.threads),
            "spans": len(self._table.columns) if self._table else None,
            "lost": lost if known else None,
            "time_start_ns": start,
            "time_end_ns": end,
            "duration_ns": None if start is None or end is None else max(0, end - start),
            "files": {
                "manifest_bytes": sum(p.manifest.size_bytes for p in self.processes),
                "index_bytes": sum(t.index.size_bytes for t in self.threads),
                "detail_bytes": sum(f.stat().st_size for t in self.threads if (f := t.place / "detail.atf").exists()),
            },
            "recovered": {
                "files": [
                    {"file": str(t.index.path), **t.index.report._asdict()} for t in self.threads if t.index.report.status != "finalized"
                ],
                "problems": [f"pid {p.pid}: {problem}" for p in self.processes for problem in p.problems],
            },
        }

    def check(self) -> list[str]:
        """Reads everything once, and says what does not hold, a sentence each: checksums, damaged details, broken links."""
        self.check_open()
        found = [problem for p in self.processes for problem in p.problems]
        for thread in self.threads:
            for file in (thread.index, thread.details):
                if file is not None:
                    found += [f"{file.path}: {reason}" for reason in file.report.reasons]
                    if file.verify() is False:
                        found.append(f"{file.path}: its checksum does not fit its contents")
            details = thread.details
            links = thread.events["detail_seq"] != DEEPEST
            broken = len(details.broken_links(thread.events)) if details else int(links.sum())
            if broken:
                found.append(f"{thread.index.path}: {broken} links to details do not hold")
        return found

    def _chosen_threads(self, thread: Any) -> list[Thread]:
        """By Thread, by tid, else by number, or by a pattern of the name."""
        if thread is None:
            return self.threads
        if isinstance(thread, Thread):
            return [t for t in self.threads if t is thread or (t.place, t.number) == (thread.place, thread.number)]
        if isinstance(thread, str):
            wanted = glob("thread", thread)
            return [t for t in self.threads if wanted(t.name)]
        wanted_number = number("thread", thread, 0)
        return [t for t in self.threads if t.tid == wanted_number] or [t for t in self.threads if t.number == wanted_number]

    def _chosen_ids(self, function: Any, module: Any) -> dict[int, IdSet] | None:
        """{process position: the ids whose names fit}; None: no filter. Ids without a name in the manifest count too."""
        if function is None and module is None:
            return None
        by_name, by_module = glob("function", function), glob("module", module)
        chosen = {}
        for p in self.processes:
            if p.position not in self._occurring:
                self._occurring[p.position] = distinct_functions([t.events for t in p.threads]).tolist()
            names = [p.function(id) for id in self._occurring[p.position]]
            chosen[p.position] = IdSet([f.id for f in names if (by_name(f.name) or by_name(f.qualified)) and by_module(f.module)])
        return chosen

    def events(
        self,
        *,
        function: str | None = None,
        module: str | None = None,
        kind: str | Iterable[str] | None = None,
        thread: Any = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        depth: int | tuple[int, int] | None = None,
        limit: int | None = None,
        **unknown: Any,
    ) -> Events:
        """The events that pass all filters, in order of time (ties: by thread, then position).

        function, module: patterns (glob) of the name, or qualified name, and of the module. kind: call, return, exception,
        instant, yield, resume, signal or gap, one or several. thread: a Thread, tid, number, or pattern of its name.
        start_ns, end_ns: CLOCK_BOOTTIME nanoseconds, both inclusive. depth: of the call, 1 is outermost; a number, or
        (least, most). limit: at most so many. UsageError for what cannot be used; nothing found is no error.
        """
        self.check_open()
        refuse(unknown, _EVENT_FILTERS)
        kinds = 0xFFFFFFFF
        if kind is not None:
            numbers = {name: number for number, name in KINDS.items()}
            wanted = [kind] if isinstance(kind, str) else list(kind)
            if bad := [name for name in wanted if name not in numbers]:
                raise UsageError(f"kind={bad[0]!r}: choose among {', '.join(numbers)}")
            kinds = sum(1 << numbers[name] for name in set(wanted))
        low, high = depth if isinstance(depth, tuple) and len(depth) == 2 else (depth, depth)
        depths = (number("depth", low, 0, DEEPEST), number("depth", high, DEEPEST, DEEPEST))
        window = (number("start_ns", start_ns, 0), number("end_ns", end_ns, LAST_NS))
        return Events(self, self._chosen_threads(thread), *window, kinds, self._chosen_ids(function, module), depths, most(limit))

    def table(self) -> SpanTable:
        """All spans as columns; matched once, on first use. 60 bytes of memory a span."""
        self.check_open()
        if self._table is None:
            self._table = SpanTable(self)
        return self._table

    def _rows(self, function: Any, module: Any, thread: Any) -> Any:
        """A mask of the rows (bool, shape (N,)) by name and thread, or None: all."""
        import numpy

        table = self.table()
        mask = None
        if function is not None or module is not None:
            by_name, by_module = glob("function", function), glob("module", module)
            fits = numpy.array([(by_name(f.name) or by_name(f.qualified)) and by_module(f.module) for f in table.functions], dtype=bool)
            mask = fits[table.columns.function] if len(fits) else numpy.zeros(0, dtype=bool)
        if thread is not None:
            fits = numpy.zeros(len(self.threads), dtype=bool)
            fits[[t.position for t in self._chosen_threads(thread)]] = True
            of_thread = fits[table.columns.thread] if len(fits) else numpy.zeros(0, dtype=bool)
            mask = of_thread if mask is None else mask & of_thread
        return mask

    def spans(
        self,
        *,
        function: str | None = None,
        module: str | None = None,
        thread: Any = None,
        min_duration_ns: int | None = None,
        max_duration_ns: int | None = None,
        status: str | Iterable[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        min_depth: int | None = None,
        max_depth: int | None = None,
        order_by: str = "start",
        limit: int | None = None,
        **unknown: Any,
    ) -> Spans:
        """The spans that pass all filters.

        function, module, thread: as for `events`. min_duration_ns, max_duration_ns: wall time. status: ok, exception, unwound,
        open or lost, one or several. start_ns: begun at or after; end_ns: ended at or before. Depth 1 is outermost.
        order_by: "start", or the longest first by "duration" or "self". limit: only the first so many of that order.
        """
        import numpy

        refuse(unknown, _SPAN_FILTERS)
        if order_by not in ("start", "duration", "self"):
            raise UsageError(f"order_by={order_by!r}: choose one of start, duration, self")
        mask = self._rows(function, module, thread)
        table = self.table()
        c = table.columns

        def also(condition: Any) -> None:
            nonlocal mask
            mask = condition if mask is None else mask & condition

        if status is not None:
            wanted = [status] if isinstance(status, str) else list(status)
            if bad := [name for name in wanted if name not in STATUS]:
                raise UsageError(f"status={bad[0]!r}: choose among {', '.join(STATUS)}")
            also(numpy.isin(c.status, [STATUS.index(name) for name in wanted]))
        # numpy.uint64 keeps the comparison in integers: a Python number above 2**53 would be rounded.
        bounds = {"start_ns": start_ns, "end_ns": end_ns, "min_duration_ns": min_duration_ns, "max_duration_ns": max_duration_ns}
        for name, value in {**bounds, "min_depth": min_depth, "max_depth": max_depth}.items():
            if value is not None:
                bound = numpy.uint64(number(name, value, 0))
                values = c.end_ns - c.start_ns if "duration" in name else c.depth if "depth" in name else getattr(c, name)
                also(values >= bound if name.startswith(("min", "start")) else values <= bound)
        rows = numpy.arange(len(c)) if mask is None else numpy.flatnonzero(mask)
        if order_by == "start":
            key = c.start_ns[rows]
        else:  # the largest first: the complement turns the order of unsigned numbers round
            key = ~(c.end_ns[rows] - c.start_ns[rows] if order_by == "duration" else c.self_ns[rows])
        return Spans(table, rows[smallest_first(key, most(limit))])

    def tree(self, thread: Any = None, function: str | None = None, max_depth: int | None = None, limit: int | None = None) -> Tree:
        """The call tree of all threads, or of one; with `function`, below each call of it that is not inside another one.

        max_depth: levels below and with the root. limit: nodes of a walk. Iterate for the roots, `walk()` for all nodes.
        """
        import numpy

        mask = self._rows(function, None, thread)
        table = self.table()
        parent = table.columns.parent
        if function is None:
            rows = numpy.flatnonzero(parent < 0 if mask is None else mask & (parent < 0))
        else:
            rows = numpy.flatnonzero(mask)
            above, inside = parent[rows], numpy.zeros(len(rows), dtype=bool)
            while (going := (above >= 0) & ~inside).any():
                inside[going] |= mask[above[going]]
                above[going] = parent[above[going]]
            rows = rows[~inside]
        return Tree(table, rows, None if max_depth is None else number("max_depth", max_depth, 0), most(limit))

    def top(self, n: int | None = 20, by: str = "self", group: str = "function") -> list[TopRow]:
        """The n groups with the most: by self, total, count or mean; group: function, module, file or thread.

        Times are active times in ns. Recursion does not count twice in total_ns.
        """
        return top(self.table(), most(n), by, group)


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """Opens a recording: a session directory, one process's directory in it, or a directory that holds sessions (the newest).

    UsageError: there is nothing at `path`. FormatError: what is there is not a recording, or nothing of it can be read.
    """
    return Trace(path)
