"""The methods of the client. Written by .ci/client-methods from the Structs that validate and answer: change those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping  # noqa: F401
from typing import TYPE_CHECKING, Any, Literal  # noqa: F401

if TYPE_CHECKING:
    from atf.query.eventrows import EventProjection, EventRow
    from atf.query.eventwords import EventFilters
    from atf.query.methods.events_chain import EventsChain
    from atf.query.methods.events_detail import EventsDetail
    from atf.query.methods.events_get import EventsGet
    from atf.query.methods.functions_top import FunctionRow, FunctionsTop
    from atf.query.methods.spans_list import SpansList
    from atf.query.methods.spans_path import PathProjection, SpansPath
    from atf.query.methods.spans_tree import SpansTree
    from atf.query.methods.trace_compare import Change, Comparison
    from atf.query.methods.trace_flamegraph import Flamegraph, PathFilters
    from atf.query.methods.trace_info import Info
    from atf.query.methods.trace_summary import Summary
    from atf.query.methods.trace_timeline import Timeline
    from atf.query.methods.traces_list import TraceRow, TracesList
    from atf.query.spanrows import SpanFilters, SpanProjection, SpanRow

RESULTS = {
    "trace.info": "atf.query.methods.trace_info:Info",
    "trace.summary": "atf.query.methods.trace_summary:Summary",
    "trace.compare": "atf.query.methods.trace_compare:Comparison",
    "trace.flamegraph": "atf.query.methods.trace_flamegraph:Flamegraph",
    "trace.timeline": "atf.query.methods.trace_timeline:Timeline",
    "events.get": "atf.query.methods.events_get:EventsGet",
    "events.detail": "atf.query.methods.events_detail:EventsDetail",
    "events.chain": "atf.query.methods.events_chain:EventsChain",
    "traces.list": "atf.query.methods.traces_list:TracesList",
    "spans.list": "atf.query.methods.spans_list:SpansList",
    "spans.tree": "atf.query.methods.spans_tree:SpansTree",
    "spans.path": "atf.query.methods.spans_path:SpansPath",
    "functions.top": "atf.query.methods.functions_top:FunctionsTop",
}


class ClientMethods:
    """What Client inherits. trace_id may be left out where the client has one. None: not given.

    iter_...: every row of every page, one after the other; limit is then the size of a page.
    """

    def _typed(self, method: str, given: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def _rows(self, method: str, member: str, given: Mapping[str, Any]) -> Iterator[Any]:
        raise NotImplementedError

    def trace_info(self, *, trace_id: str | None = None, include_checksums: bool = False, include_samples: bool = False) -> Info:
        """What a recording is: times, counts, threads, files, what was lost."""
        return self._typed("trace.info", locals())

    def trace_summary(
        self, *, trace_id: str | None = None, max_tokens: int = 1000,
        focus: list[Literal["overview", "lost", "exception", "open", "self", "path", "slowest", "outlier", "repetition"]] | None = None,
    ) -> Summary:
        """What ran, what went wrong and where the time went, in sentences, each with the spans and events it rests on."""
        return self._typed("trace.summary", locals())

    def trace_compare(
        self, *, other: str, trace_id: str | None = None, by: Literal["functions", "paths"] = "functions",
        metric: Literal["self", "total"] = "self", min_change: float = 0.05,
        confidence: Literal["noise", "possible", "likely", "certain"] = "possible",
        changes: list[Literal["appeared", "vanished", "count", "time"]] | None = None, offset: int = 0, limit: int = 20,
        cursor: str | None = None, divergence: bool = True,
    ) -> Comparison:
        """Two traces: functions or call paths that appear, vanish, or change count or time, with how sure that is."""
        return self._typed("trace.compare", locals())

    def iter_trace_compare(
        self, *, other: str, trace_id: str | None = None, by: Literal["functions", "paths"] = "functions",
        metric: Literal["self", "total"] = "self", min_change: float = 0.05,
        confidence: Literal["noise", "possible", "likely", "certain"] = "possible",
        changes: list[Literal["appeared", "vanished", "count", "time"]] | None = None, limit: int = 20, divergence: bool = True,
    ) -> Iterator[Change]:
        """Every row of trace.compare."""
        return self._rows("trace.compare", "changes", locals())

    def trace_flamegraph(
        self, *, trace_id: str | None = None, weight: Literal["self", "active", "count"] = "self",
        format: Literal["folded", "tree"] = "folded", filters: PathFilters | Mapping[str, Any] | None = None, by_thread: bool = False,
        min_share: float = 0.0, max_nodes: int = 1000, shape: Literal["rows", "columns"] = "rows",
    ) -> Flamegraph:
        """What calls weigh by call path: folded stacks, or a tree of nodes, pruned to the largest."""
        return self._typed("trace.flamegraph", locals())

    def trace_timeline(
        self, *, trace_id: str | None = None, start_ns: int | None = None, end_ns: int | None = None, width_px: int = 1000,
        thread_ids: list[int] | None = None, max_depth: int = 30, include_span_ids: bool = True, shape: Literal["rows", "columns"] = "rows",
    ) -> Timeline:
        """A window as a viewer draws it: by thread and depth, at most two cells a pixel."""
        return self._typed("trace.timeline", locals())

    def events_get(
        self, *, trace_id: str | None = None, filters: EventFilters | Mapping[str, Any] | None = None,
        projection: EventProjection | Mapping[str, Any] | None = None, offset: int = 0, limit: int = 1000,
        order_by: Literal["timestamp", "threadId"] = "timestamp", ascending: bool = True, cursor: str | None = None,
        shape: Literal["rows", "columns"] = "rows",
    ) -> EventsGet:
        """Events (calls, returns, exceptions, the program's own, gaps) by time, thread, type and name, across threads in order of time."""
        return self._typed("events.get", locals())

    def iter_events_get(
        self, *, trace_id: str | None = None, filters: EventFilters | Mapping[str, Any] | None = None,
        projection: EventProjection | Mapping[str, Any] | None = None, limit: int = 1000,
        order_by: Literal["timestamp", "threadId"] = "timestamp", ascending: bool = True,
    ) -> Iterator[EventRow]:
        """Every row of events.get."""
        return self._rows("events.get", "events", locals())

    def events_detail(
        self, *, trace_id: str | None = None, event_id: str | None = None, thread_id: int | None = None, index_seq: int | None = None,
        detail_seq: int | None = None, process_id: int | None = None,
    ) -> EventsDetail:
        """One event with the values that were recorded with it (arguments, result, exception, attributes), and from a detail back."""
        return self._typed("events.detail", locals())

    def events_chain(
        self, *, request_id: str | int, trace_id: str | None = None, offset: int = 0, limit: int = 1000, cursor: str | None = None,
        shape: Literal["rows", "columns"] = "rows",
    ) -> EventsChain:
        """All events and spans of the program's own that carry a request id, across threads and processes, in order of time."""
        return self._typed("events.chain", locals())

    def iter_events_chain(self, *, request_id: str | int, trace_id: str | None = None, limit: int = 1000) -> Iterator[EventRow]:
        """Every row of events.chain."""
        return self._rows("events.chain", "events", locals())

    def traces_list(
        self, *, offset: int = 0, limit: int = 100, cursor: str | None = None, shape: Literal["rows", "columns"] = "rows",
    ) -> TracesList:
        """The recordings that can be asked about, the newest first: what, when, how large."""
        return self._typed("traces.list", locals())

    def iter_traces_list(self, *, limit: int = 100) -> Iterator[TraceRow]:
        """Every row of traces.list."""
        return self._rows("traces.list", "traces", locals())

    def spans_list(
        self, *, trace_id: str | None = None, filters: SpanFilters | Mapping[str, Any] | None = None,
        projection: SpanProjection | Mapping[str, Any] | None = None, offset: int = 0, limit: int = 1000, include_children: bool = True,
        order_by: Literal["startTime", "duration", "selfTime"] = "startTime", ascending: bool | None = None, cursor: str | None = None,
        shape: Literal["rows", "columns"] = "rows",
    ) -> SpansList:
        """Calls from start to end, filtered by time, thread, name, duration, depth and status; in order of time, or the slowest first."""
        return self._typed("spans.list", locals())

    def iter_spans_list(
        self, *, trace_id: str | None = None, filters: SpanFilters | Mapping[str, Any] | None = None,
        projection: SpanProjection | Mapping[str, Any] | None = None, limit: int = 1000, include_children: bool = True,
        order_by: Literal["startTime", "duration", "selfTime"] = "startTime", ascending: bool | None = None,
    ) -> Iterator[SpanRow]:
        """Every row of spans.list."""
        return self._rows("spans.list", "spans", locals())

    def spans_tree(
        self, *, trace_id: str | None = None, span_id: str | None = None, thread_id: int | None = None, time_ns: int | None = None,
        depth: int = 3, max_nodes: int = 200, min_duration_ns: int = 0,
    ) -> SpansTree:
        """One span with its callers and what it called, to a depth; or the outermost spans of a thread, or of all."""
        return self._typed("spans.tree", locals())

    def spans_path(
        self, *, span_id: str, trace_id: str | None = None, projection: PathProjection | Mapping[str, Any] | None = None, offset: int = 0,
        limit: int = 1000, cursor: str | None = None, shape: Literal["rows", "columns"] = "rows",
    ) -> SpansPath:
        """The chain of callers of a span, from the root down to it."""
        return self._typed("spans.path", locals())

    def iter_spans_path(
        self, *, span_id: str, trace_id: str | None = None, projection: PathProjection | Mapping[str, Any] | None = None, limit: int = 1000,
    ) -> Iterator[SpanRow]:
        """Every row of spans.path."""
        return self._rows("spans.path", "spans", locals())

    def functions_top(
        self, *, trace_id: str | None = None,
        by: Literal["self", "total", "count", "mean", "min", "max", "p50", "p95", "p99", "exceptions"] = "self",
        group: Literal["function", "module", "file", "thread"] = "function", filters: SpanFilters | Mapping[str, Any] | None = None,
        offset: int = 0, limit: int = 20, cursor: str | None = None, shape: Literal["rows", "columns"] = "rows",
    ) -> FunctionsTop:
        """Where the time goes: count, total, self, min, max, mean, percentiles and exceptions by function, module, file or thread."""
        return self._typed("functions.top", locals())

    def iter_functions_top(
        self, *, trace_id: str | None = None,
        by: Literal["self", "total", "count", "mean", "min", "max", "p50", "p95", "p99", "exceptions"] = "self",
        group: Literal["function", "module", "file", "thread"] = "function", filters: SpanFilters | Mapping[str, Any] | None = None,
        limit: int = 20,
    ) -> Iterator[FunctionRow]:
        """Every row of functions.top."""
        return self._rows("functions.top", "functions", locals())
