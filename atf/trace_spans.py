"""Spans as objects over numpy columns."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atf import trace_detail
from atf._core.errors import UsageError
from atf._core.layout import NO_DETAIL
from atf._core.spans import NO_SEQ, STATUS, SpanColumns, children_of, match

if TYPE_CHECKING:
    from atf.trace import Trace
    from atf.trace_files import Thread
    from atf.trace_manifest import Function


class SpanTable:
    """All spans of a trace: the columns, and what is derived from them once."""

    def __init__(self, trace: "Trace") -> None:
        self.threads = trace.threads
        ends = [process.time_end_ns for process in trace.processes]
        self.columns: SpanColumns = match(
            [t.events for t in self.threads], [ends[t.process.position] for t in self.threads], [t.process.position for t in self.threads]
        )
        c = self.columns
        self.functions = [
            trace.processes[space].function(id) for space, id in zip(c.function_space.tolist(), c.function_ids.tolist(), strict=True)
        ]
        self._children: tuple[Any, Any] | None = None

    def children(self, row: int) -> Any:
        if self._children is None:
            self._children = children_of(self.columns)
        first, rows = self._children
        return rows[first[row] : first[row + 1]]


class Span:
    """One call, from its start to its end. Times are nanoseconds on the CLOCK_BOOTTIME scale.

    status: ok, exception, unwound (a frame below it ended first), open (the trace ended first; a generator that was
    never resumed ends where it was suspended), lost (events were lost while it ran), untimed (the level was `calls` when it
    ended, so that nobody knows when: at the earliest at its end here).
    """

    __slots__ = ("_table", "row")

    def __init__(self, table: SpanTable, row: int) -> None:
        self._table, self.row = table, row

    def _value(self, name: str) -> int:
        return int(getattr(self._table.columns, name)[self.row])

    @property
    def function(self) -> "Function":
        return self._table.functions[self._value("function")]

    @property
    def name(self) -> str:
        return self.function.qualified

    @property
    def thread(self) -> "Thread":
        return self._table.threads[self._value("thread")]

    @property
    def start_ns(self) -> int:
        return self._value("start_ns")

    @property
    def end_ns(self) -> int:
        return self._value("end_ns")

    @property
    def duration_ns(self) -> int:
        """Wall time from start to end."""
        return self.end_ns - self.start_ns

    @property
    def active_ns(self) -> int:
        """Wall time without the time it was suspended (generators and coroutines)."""
        return self._value("active_ns")

    @property
    def self_ns(self) -> int:
        """Active time without what it called."""
        return self._value("self_ns")

    @property
    def depth(self) -> int:
        """1 for a span without a parent."""
        return self._value("depth")

    @property
    def status(self) -> str:
        return STATUS[self._value("status")]

    @property
    def call_seq(self) -> int:
        """Position of its first event in its thread."""
        return self._value("call_seq")

    @property
    def end_seq(self) -> int | None:
        """Position of the event that ended it; None: nothing did."""
        seq = self._value("end_seq")
        return None if seq == NO_SEQ else seq

    @property
    def start_known(self) -> bool:
        """False: the call was in progress already when recording began."""
        first = int(self._table.columns.thread_rows[self._value("thread")])
        return self.row - first >= self.thread.entered

    @property
    def span_id(self) -> str:
        """`<tid>:<start_ns>:<call_seq>`, the same every time the trace is opened."""
        return f"{self.thread.tid}:{self.start_ns}:{self.call_seq}"

    @property
    def parent(self) -> "Span | None":
        row = self._value("parent")
        return None if row < 0 else Span(self._table, row)

    @property
    def child_count(self) -> int:
        return self._value("child_count")

    @property
    def children(self) -> "list[Span]":
        """In the order of their calls."""
        return [Span(self._table, row) for row in self._table.children(self.row).tolist()]

    def _detail(self, seq: int | None, *types: int) -> dict[str, Any] | None:
        if seq is None:
            return None
        detail_seq = int(self.thread.events[seq]["detail_seq"])
        return None if detail_seq == NO_DETAIL else self.thread.detail_of(seq, detail_seq, *types)

    @property
    def args(self) -> dict[str, Any] | None:
        """The arguments by name; None when they were not recorded."""
        return (self._detail(self.call_seq, trace_detail.PYTHON_CALL, trace_detail.NATIVE_CALL) or {}).get("args")

    @property
    def attributes(self) -> dict[str, Any] | None:
        """The attributes of a span of the user's; None when it has none."""
        return (self._detail(self.call_seq, trace_detail.TRACE_EVENT) or {}).get("attributes")

    @property
    def result(self) -> Any:
        """The value returned; None also when it was not recorded."""
        if self.status == "untimed":
            return None
        return (self._detail(self.end_seq, trace_detail.PYTHON_RETURN, trace_detail.NATIVE_RETURN) or {}).get("value")

    @property
    def exception(self) -> dict[str, Any] | None:
        """{"type": …, "message": …} of the exception that it was left by; None when there is none recorded."""
        if self.status == "untimed":  # the event at its end is another's
            return None
        return self._detail(self.end_seq, trace_detail.PYTHON_EXCEPTION)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and other._table is self._table and other.row == self.row

    def __hash__(self) -> int:
        return hash((id(self._table), self.row))

    def __repr__(self) -> str:
        return f"<span {self.name} {self.duration_ns} ns {self.status} at {self.start_ns} ns in {self.thread}>"


class Spans:
    """Spans in an order: a sequence of Span objects, and numpy columns of shape (len,).

    rows: their rows in the table of all spans (int64). `column(name)` gives any column of SpanColumns, and duration_ns.
    """

    def __init__(self, table: SpanTable, rows: Any) -> None:
        self._table, self.rows = table, rows

    def column(self, name: str) -> Any:
        columns = self._table.columns
        if name == "duration_ns":
            return columns.end_ns[self.rows] - columns.start_ns[self.rows]
        if name == "function_id":
            return columns.function_ids[columns.function[self.rows]]
        values = getattr(columns, name, None) if isinstance(name, str) and not name.startswith("_") else None
        if values is None or name in ("function_ids", "function_space", "thread_rows", "counts"):
            raise UsageError(f"spans have no column {name!r}; see SpanColumns for their names")
        return values[self.rows]

    start_ns = property(lambda self: self.column("start_ns"))
    end_ns = property(lambda self: self.column("end_ns"))
    duration_ns = property(lambda self: self.column("duration_ns"))
    active_ns = property(lambda self: self.column("active_ns"))
    self_ns = property(lambda self: self.column("self_ns"))
    depth = property(lambda self: self.column("depth"))
    function_id = property(lambda self: self.column("function_id"))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Span]:
        for row in self.rows:
            yield Span(self._table, int(row))

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return Spans(self._table, self.rows[i])
        return Span(self._table, int(self.rows[i]))

    def __repr__(self) -> str:
        return f"<{len(self)} spans>"


def smallest_first(key: Any, limit: int | None) -> Any:
    """Positions that sort `key` (uint64), ties in their order; only the first `limit`, without sorting all."""
    import numpy

    if limit is not None and 0 < limit < len(key) // 8:
        worst = numpy.partition(key, limit - 1)[limit - 1]
        candidates = numpy.flatnonzero(key <= worst)
        return candidates[numpy.argsort(key[candidates], kind="stable")][:limit]
    return numpy.argsort(key, kind="stable")[:limit]
