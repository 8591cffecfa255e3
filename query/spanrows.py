"""Spans on the wire: the filters that take them, the members that show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from atf import trace_detail
from atf._core.layout import NO_DETAIL
from atf._core.spans import NO_SEQ, STATUS
from atf.jsonable import jsonable
from atf.query.pages import Metadata, invalid
from atf.query.params import Params, Result, camel
from atf.query.rpc import RpcError
from atf.query.spanset import Filter, Ref, Refs, SpanRows, SpanSet
from atf.query.traces import View

Whole = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Status = Literal["ok", "exception", "unwound", "open", "lost", "untimed"]


class SpanFilters(Params):
    """What spans must be; all of it. timeStartNs: begun at or after; timeEndNs: ended at or before. Bounds are inclusive."""

    time_start_ns: Whole | None = None
    time_end_ns: Whole | None = None
    thread_ids: list[int] | None = None
    function_names: list[str] | None = None
    min_duration_ns: Whole | None = None
    max_duration_ns: Whole | None = None
    min_depth: Whole | None = None
    max_depth: Whole | None = None
    status: list[Status] | None = None
    pattern: str | None = None
    module_names: list[str] | None = None


def filter_of(spans: SpanSet, filters: SpanFilters) -> Filter:
    return Filter(
        start_ns=filters.time_start_ns,
        end_ns=filters.time_end_ns,
        threads=spans.thread_positions(filters.thread_ids),
        functions=spans.function_keys(filters.function_names, filters.pattern, filters.module_names),
        statuses=None if filters.status is None else frozenset(filters.status),
        min_duration_ns=filters.min_duration_ns,
        max_duration_ns=filters.max_duration_ns,
        min_depth=filters.min_depth,
        max_depth=filters.max_depth,
    )


class SpanProjection(Params):
    """Which members a span is given with."""

    span_id: bool = True
    function_name: bool = True
    start_time_ns: bool = True
    end_time_ns: bool = True
    duration_ns: bool = True
    thread_id: bool = False
    module_name: bool = False
    depth: bool = False
    child_count: bool = False
    self_time_ns: bool = False
    active_time_ns: bool = False
    parent_span_id: bool = False
    status: bool = False
    attributes: bool = False
    file: bool = False
    line: bool = False
    start_relative_ns: bool = False
    process_id: bool = False
    function_id: bool = False
    args: bool = False
    result: bool = False
    exception: bool = False


class SpanRow(Result):
    """One span. durationNs is wall time, activeTimeNs leaves out what it was suspended, selfTimeNs what it called too.

    depth: 0 for a root. parentSpanId: null for a root. startRelativeNs: since the start of the trace. attributes, args, result
    and exception are there when they were recorded.
    """

    span_id: str | UnsetType = UNSET
    function_name: str | UnsetType = UNSET
    start_time_ns: int | UnsetType = UNSET
    end_time_ns: int | UnsetType = UNSET
    duration_ns: int | UnsetType = UNSET
    thread_id: int | UnsetType = UNSET
    module_name: str | UnsetType = UNSET
    depth: int | UnsetType = UNSET
    child_count: int | UnsetType = UNSET
    self_time_ns: int | UnsetType = UNSET
    active_time_ns: int | UnsetType = UNSET
    parent_span_id: str | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    attributes: Any = UNSET
    file: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    start_relative_ns: int | UnsetType = UNSET
    process_id: int | UnsetType = UNSET
    function_id: str | UnsetType = UNSET
    args: Any = UNSET
    result: Any = UNSET
    exception: Any = UNSET


class SpansMetadata(Metadata):
    """unmatched: of the whole trace, what made no span of its own or hides some; left out when there is nothing of the kind."""

    unmatched: dict[str, int] | UnsetType = UNSET


def unmatched(spans: SpanSet) -> dict[str, int] | UnsetType:
    return {camel(name): n for name, n in spans.counts.items() if n} or UNSET


def span_of(spans: SpanSet, span_id: str) -> Ref:
    """The span of an id; RpcError -32602 when there is none."""
    ref = spans.find(span_id)
    if ref is None:
        raise invalid("spanId", "there is no such span in this trace", "take one from spans.list: <threadId>:<startTimeNs>:<sequence>")
    return ref


def unknown_thread(spans: SpanSet, thread_id: int) -> RpcError:
    known = sorted({t.tid for t in spans.threads})
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return invalid("threadId", f"there is no thread {thread_id}", f"known: {', '.join(map(str, known[:20]))}{more}")


def span_columns(
    view: View, spans: SpanSet, refs: Refs, projection: SpanProjection, check: Callable[[], Any] | None = None
) -> dict[str, list[Any]]:
    """{member: [one value a span]}, members in the order of SpanRow. UNSET: a span has no such member."""
    rows = spans.gather(refs)
    of_function = rows.function.tolist()
    of_thread = rows.thread.tolist()
    trace_start_ns = view.start_ns

    def by_function(name: str, value: Callable[[Any], Any]) -> list[Any]:
        values = view.once(("spans.functions", name), lambda view: [value(f) for f in spans.functions])
        return [values[key] for key in of_function]

    def by_thread(value: Callable[[Any], Any]) -> list[Any]:
        values = [value(t) for t in spans.threads]
        return [values[position] for position in of_thread]

    makers: dict[str, Callable[[], list[Any]]] = {
        "span_id": lambda: spans.span_ids(rows),
        "function_name": lambda: by_function("name", lambda f: f.name),
        "start_time_ns": rows.start_ns.tolist,
        "end_time_ns": rows.end_ns.tolist,
        "duration_ns": rows.duration_ns.tolist,
        "thread_id": lambda: by_thread(lambda t: t.tid),
        "module_name": lambda: by_function("module", lambda f: f.module),
        "depth": rows.depth.tolist,
        "child_count": lambda: spans.child_counts(refs).tolist(),
        "self_time_ns": rows.self_ns.tolist,
        "active_time_ns": rows.active_ns.tolist,
        "parent_span_id": lambda: _parents(spans, rows),
        "status": lambda: [STATUS[status] for status in rows.status.tolist()],
        "file": lambda: by_function("file", lambda f: f.file),
        "line": lambda: by_function("line", lambda f: f.line),
        "start_relative_ns": lambda: [start - trace_start_ns for start in rows.start_ns.tolist()],
        "process_id": lambda: by_thread(lambda t: t.process.pid),
        "function_id": lambda: by_function("id", lambda f: f"0x{f.id:016x}"),
    }
    asked = [name for name in SpanRow.__struct_fields__ if getattr(projection, name)]
    details = _Details(spans, rows, check)
    return {camel(name): makers[name]() if name in makers else details.column(name) for name in asked}


def _parents(spans: SpanSet, rows: SpanRows) -> list[str | None]:
    import numpy

    has = numpy.flatnonzero(rows.parent >= 0)
    ids: list[str | None] = [None] * len(rows)
    parents = spans.gather(Refs(rows.thread[has], rows.parent[has]))
    for place, span_id in zip(has.tolist(), spans.span_ids(parents)):
        ids[place] = span_id
    return ids


# Where a member stands: (with the event that ended the span, types of detail, its member; None: the whole detail)
_PLACES: dict[str, tuple[bool, tuple[int, ...], str | None]] = {
    "attributes": (False, (trace_detail.TRACE_EVENT,), "attributes"),
    "args": (False, (trace_detail.PYTHON_CALL, trace_detail.NATIVE_CALL), "args"),
    "result": (True, (trace_detail.PYTHON_RETURN, trace_detail.NATIVE_RETURN), "value"),
    "exception": (True, (trace_detail.PYTHON_EXCEPTION,), None),
}


class _Details:
    """What the details of spans say, as JSON can carry it."""

    def __init__(self, spans: SpanSet, rows: SpanRows, check: Callable[[], Any] | None) -> None:
        self._spans, self._rows, self._check = spans, rows, check

    def column(self, name: str) -> list[Any]:
        import numpy

        at_end, types, member = _PLACES[name]
        seqs = self._rows.end_seq if at_end else self._rows.call_seq
        result: list[Any] = [UNSET] * len(seqs)
        for position in numpy.unique(self._rows.thread).tolist():
            thread = self._spans.threads[position]
            places = numpy.flatnonzero((self._rows.thread == position) & (seqs != NO_SEQ))
            links = thread.events["detail_seq"][seqs[places]]
            linked = links != NO_DETAIL
            for n, (place, link) in enumerate(zip(places[linked].tolist(), links[linked].tolist())):
                if self._check and n % 256 == 255:
                    self._check()
                said = thread.detail_of(int(seqs[place]), link, *types)
                if said is not None and (member is None or member in said):
                    result[place] = jsonable(said if member is None else said[member])
        return result
