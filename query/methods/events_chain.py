"""events.chain: what happened to one request, across threads and processes, in order of time."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, NamedTuple

from atf._core.layout import EVENT_DTYPE
from atf.query.context import Context
from atf.query.eventpages import identity
from atf.query.eventrows import EventProjection, EventRow, event_columns
from atf.query.pages import Limit, Metadata, Offset, Shape, fit_columns, invalid, page_metadata, query_of, read_cursor
from atf.query.params import Params, Result
from atf.query.requests import request_key, requests_of
from atf.query.rpc import Method
from atf.query.traces import View

METADATA_BYTES = 2048
KEY_LENGTH = 6
_SHOWN = EventProjection(
    **dict.fromkeys(("event_id", "process_id", "thread_name", "function_name", "module_name", "span_id", "attributes"), True)
)


class EventsChainParams(Params):
    """requestId: the value of an attribute request_id or requestId; a number and its text are the same."""

    trace_id: str
    request_id: str | int
    offset: Offset = 0
    limit: Limit = 1000
    cursor: str | None = None
    shape: Shape = "rows"


class EventsChain(Result):
    """requestIds: how many different ones the trace has."""

    request_id: str
    request_ids: int
    events: list[EventRow] | dict[str, list[Any]]
    metadata: Metadata


class Chain(NamedTuple):
    """keys: (time, identity of the thread, index_seq), rising; places: (position of the thread, index_seq)."""

    keys: list[tuple[int, ...]]
    places: list[tuple[int, int]]


def _chain(view: View, places: Any) -> Chain:
    threads = view.trace.threads
    times = [events["timestamp_ns"] for events in (t.events for t in threads)]
    who = [identity(t) for t in threads]
    found = sorted((int(times[place >> 32][place & 0xFFFFFFFF]), place) for place in places)
    return Chain(
        [(time, *who[place >> 32], place & 0xFFFFFFFF) for time, place in found], [(place >> 32, place & 0xFFFFFFFF) for _, place in found]
    )


def run(context: Context, params: EventsChainParams) -> EventsChain:
    import numpy

    if params.cursor is not None and params.offset:
        raise invalid("offset", "was given beside cursor", "give one of the two")
    key = None if params.cursor is None else read_cursor(params.cursor, query_of(params), KEY_LENGTH)
    view = context.traces.view(params.trace_id)
    request_id = request_key(params.request_id)
    requests = requests_of(view, context.check)
    chain = _chain(view, requests.get(request_id or "", ()))
    start = params.offset if key is None else bisect_right(chain.keys, key)
    places = chain.places[start : start + params.limit]
    threads = [view.trace.threads[position] for position, _ in places]
    events = numpy.array([t.events[seq].item() for t, (_, seq) in zip(threads, places)], dtype=EVENT_DTYPE)
    content, count = fit_columns(
        lambda n: event_columns(view, threads[:n], [seq for _, seq in places[:n]], events[:n], _SHOWN, context.check),
        len(places),
        params.shape,
        context.answer_bytes - METADATA_BYTES,
    )
    more = count > 0 and start + count < len(chain.places)
    last = chain.keys[start + count - 1] if count else ()
    metadata = page_metadata(Metadata, context, view, params, len(chain.places), count, more, last)
    return EventsChain(request_id=request_id or "", request_ids=len(requests), events=content, metadata=metadata)


METHODS = [
    Method(
        "events.chain",
        EventsChainParams,
        EventsChain,
        run,
        "All events and spans of the program's own that carry a request id, across threads and processes, in order of time.",
    )
]
