"""events.get: the events of a trace in order of time, filtered, a page at a time."""

from __future__ import annotations

from typing import Any

import msgspec

from atf.query.context import Context
from atf.query.eventpages import KEY_LENGTH, Listing, OrderBy, key_after, listing_of
from atf.query.eventrows import EventProjection, EventRow, event_columns
from atf.query.eventwords import EventFilters, events_of
from atf.query.pages import Limit, Metadata, Offset, Shape, fit_columns, invalid, page_metadata, query_of, read_cursor
from atf.query.params import Params, Result
from atf.query.rpc import Method

METADATA_BYTES = 2048  # of an answer, left for all that is not rows


class EventsGetParams(Params):
    """offset counts from the front of the order asked for; cursor instead of offset: a page deep in the trace costs what the first costs."""

    trace_id: str
    filters: EventFilters = msgspec.field(default_factory=EventFilters)
    projection: EventProjection = msgspec.field(default_factory=EventProjection)
    offset: Offset = 0
    limit: Limit = 1000
    order_by: OrderBy = "timestamp"
    ascending: bool = True
    cursor: str | None = None
    shape: Shape = "rows"


class EventsGet(Result):
    events: list[EventRow] | dict[str, list[Any]]
    metadata: Metadata


def run(context: Context, params: EventsGetParams) -> EventsGet:
    if params.cursor is not None and params.offset:
        raise invalid("offset", "was given beside cursor", "give one of the two")
    key = None if params.cursor is None else read_cursor(params.cursor, query_of(params), KEY_LENGTH)
    view, filters = context.traces.view(params.trace_id), params.filters

    def make() -> Listing:
        threads, chosen = events_of(view, filters, context.check)
        return Listing(threads, filters.window(), chosen, params.order_by, context.check)

    listing = listing_of(view, query_of(params, "ascending"), make)
    page = listing.page(params.limit, params.ascending, params.offset, key, context.check)
    content, count = fit_columns(
        lambda n: event_columns(view, page.threads[:n], page.positions[:n], page.events[:n], params.projection, context.check),
        len(page.positions),
        params.shape,
        context.answer_bytes - METADATA_BYTES,
    )
    more = page.more or count < len(page.positions)
    last = key_after(page, count, params.order_by, params.ascending, key) if count else ()
    return EventsGet(events=content, metadata=page_metadata(Metadata, context, view, params, listing.total, count, more, last))


METHODS = [
    Method(
        "events.get",
        EventsGetParams,
        EventsGet,
        run,
        "Events (calls, returns, exceptions, the program's own, gaps) by time, thread, type and name, across threads in order of time.",
    )
]
