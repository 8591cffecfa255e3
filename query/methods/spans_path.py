"""spans.path: the chain of callers of a span."""

from __future__ import annotations

from typing import Any

import msgspec

from atf.query.context import Context
from atf.query.methods.spans_list import METADATA_BYTES
from atf.query.pages import Limit, Metadata, Offset, Shape, fit_columns, invalid, page_metadata, query_of, read_cursor
from atf.query.params import Params, Result
from atf.query.rpc import Method
from atf.query.spanrows import SpanProjection, SpanRow, span_columns, span_of
from atf.query.spanset import Refs, SpanSet


class PathProjection(SpanProjection):
    """As of spans.list, with other defaults."""

    end_time_ns: bool = False
    module_name: bool = True
    depth: bool = True
    status: bool = True


class SpansPathParams(Params):
    trace_id: str
    span_id: str
    projection: PathProjection = msgspec.field(default_factory=PathProjection)
    offset: Offset = 0
    limit: Limit = 1000
    cursor: str | None = None
    shape: Shape = "rows"


class SpansPath(Result):
    """spans: the root first, the span that was asked for last."""

    spans: list[SpanRow] | dict[str, list[Any]]
    metadata: Metadata


def run(context: Context, params: SpansPathParams) -> SpansPath:
    if params.cursor and params.offset:
        raise invalid("offset", "was given beside cursor", "give one of the two")
    first = read_cursor(params.cursor, query_of(params), 1)[0] + 1 if params.cursor else params.offset
    view = context.traces.view(params.trace_id)
    spans = SpanSet.of(view, context.check)
    path = spans.path(span_of(spans, params.span_id))
    total = len(path.row)
    content, count = fit_columns(
        lambda n: span_columns(view, spans, Refs(path.thread[first : first + n], path.row[first : first + n]), params.projection),
        min(max(0, total - first), params.limit),
        params.shape,
        context.answer_bytes - METADATA_BYTES,
    )
    more = first + count < total
    return SpansPath(spans=content, metadata=page_metadata(Metadata, context, view, params, total, count, more, (first + count - 1,)))


METHODS = [Method("spans.path", SpansPathParams, SpansPath, run, "The chain of callers of a span, from the root down to it.")]
