"""spans.list: the spans that pass filters, a page at a time."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import msgspec

from atf.query.context import Context
from atf.query.pages import Limit, Offset, Shape, fit_columns, invalid, page_metadata, query_of, read_cursor
from atf.query.params import Params, Result
from atf.query.rpc import Method
from atf.query.spanrows import SpanFilters, SpanProjection, SpanRow, SpansMetadata, filter_of, span_columns, unmatched
from atf.query.spanset import KEY_LENGTH, Order, Refs, SpanSet, key_at

_ORDERS: dict[str, Order] = {"startTime": "start", "duration": "duration", "selfTime": "self"}
METADATA_BYTES = 2048  # of an answer, left for all that is not rows


class SpansListParams(Params):
    """ascending: default true for startTime, false for the others: the largest first. cursor: instead of offset."""

    trace_id: str
    filters: SpanFilters = msgspec.field(default_factory=SpanFilters)
    projection: SpanProjection = msgspec.field(default_factory=SpanProjection)
    offset: Offset = 0
    limit: Limit = 1000
    include_children: bool = True
    order_by: Literal["startTime", "duration", "selfTime"] = "startTime"
    ascending: bool | None = None
    cursor: str | None = None
    shape: Shape = "rows"


class SpansList(Result):
    spans: list[SpanRow] | dict[str, list[Any]]
    metadata: SpansMetadata


def run(context: Context, params: SpansListParams) -> SpansList:
    if params.cursor and params.offset:
        raise invalid("offset", "was given beside cursor", "give one of the two")
    order = _ORDERS[params.order_by]
    ascending = order == "start" if params.ascending is None else params.ascending
    after = read_cursor(params.cursor, query_of(params), KEY_LENGTH[order]) if params.cursor else None
    view = context.traces.view(params.trace_id)
    spans = SpanSet.of(view, context.check)
    wanted = filter_of(spans, params.filters)
    if not params.include_children:
        wanted = dataclasses.replace(wanted, max_depth=0)
    total, refs = spans.select(wanted, order, ascending, after, params.offset, params.limit + 1, context.check)
    found = min(len(refs.row), params.limit)
    content, count = fit_columns(
        lambda n: span_columns(view, spans, Refs(refs.thread[:n], refs.row[:n]), params.projection, context.check),
        found,
        params.shape,
        context.answer_bytes - METADATA_BYTES,
    )
    last = key_at(spans.gather(Refs(refs.thread[count - 1 : count], refs.row[count - 1 : count])), 0, order) if count else ()
    metadata = page_metadata(
        SpansMetadata, context, view, params, total, count, count < len(refs.row), last, unmatched=unmatched(spans)
    )
    return SpansList(spans=content, metadata=metadata)


METHODS = [
    Method(
        "spans.list",
        SpansListParams,
        SpansList,
        run,
        "Calls from start to end, filtered by time, thread, name, duration, depth and status; in order of time, or the slowest first.",
    )
]
