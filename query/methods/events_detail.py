"""events.detail: one event with all that was recorded with it; by its id, by its place, or from its detail back."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from atf._core.layout import DETAIL_TYPES, NO_DETAIL
from atf.jsonable import jsonable, shortened
from atf.query.context import Context
from atf.query.eventrows import EventProjection, EventRow, event_columns, rows_of
from atf.query.handles import find_event, thread_handles, thread_with, within
from atf.query.pages import invalid
from atf.query.params import Params, Result
from atf.query.rpc import Method
from atf.query.traces import View
from atf.trace_files import Thread

_REST_BYTES = 8192  # of an answer, left for all but the detail
_SHOWN = EventProjection(
    **{name: name not in ("detail", "attributes") for name in EventProjection.__struct_fields__},
)
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]


class EventsDetailParams(Params):
    """eventId; or threadId and indexSeq, an event's place in its thread; or threadId and detailSeq, a detail's place in its thread.

    processId: only for a threadId that two processes of the trace have.
    """

    trace_id: str
    event_id: str | None = None
    thread_id: int | None = None
    index_seq: Number | None = None
    detail_seq: Number | None = None
    process_id: int | None = None


class EventsDetail(Result):
    """event: null when a detail leads back to no event. detail: what was recorded, null when nothing was.

    detailType: python_call {args}, python_return {value}, python_exception {type, message}, event {name, attributes}, signal; of
    native code call {args, registers, stack, backtrace} and return {value, registers}, as far as they were asked for.
    problem: the link between the two is broken, and how.
    """

    event: EventRow | None
    detail: Any
    detail_type: str | None
    detail_seq: int | None
    problem: str | UnsetType = UNSET
    did_truncate: bool | UnsetType = UNSET
    growing: bool | UnsetType = UNSET
    as_of_ns: int | UnsetType = UNSET


def _chosen(view: View, params: EventsDetailParams) -> tuple[Thread, int | None]:
    """The thread, and the index_seq asked for, None: by detail."""
    ways = (params.event_id is not None, params.index_seq is not None, params.detail_seq is not None)
    if sum(ways) != 1 or (params.event_id is None) == (params.thread_id is None):
        raise invalid("eventId", "one event is asked for at a time", "give eventId, or threadId and indexSeq, or threadId and detailSeq")
    if params.event_id is not None:
        return find_event(view, params.event_id)
    assert params.thread_id is not None
    thread = thread_with(view, params.thread_id, params.process_id)
    return thread, None if params.index_seq is None else within(thread, params.index_seq)


def run(context: Context, params: EventsDetailParams) -> EventsDetail:
    view = context.traces.view(params.trace_id)
    thread, seq = _chosen(view, params)
    details = thread.details
    number = int(thread.events[seq]["detail_seq"]) if seq is not None else params.detail_seq
    record, problem = None, None
    if number is not None and number != NO_DETAIL:
        if details is not None and number < len(details):
            record = details.record(number)
        elif seq is None:
            raise invalid("detailSeq", f"thread {thread.tid} has {len(details) if details else 0} details, none at {number}")
        else:
            problem = f"the event names detail {number}, which is not there"
    if record is not None:
        back, events = record.index_seq, thread.events
        leads = back < len(events) and int(events[back]["detail_seq"]) == number
        if seq is not None and back != seq:
            record, problem = None, f"the event names detail {number}, which belongs to event {thread_handles(view)[thread.position]}:{back}"
        elif seq is None and leads:
            seq = back
        elif seq is None:
            problem = f"the detail says that it belongs to event {back}, which does not name it"
    result = EventsDetail(
        event=None if seq is None else rows_of(event_columns(view, [thread], [seq], thread.events[seq : seq + 1], _SHOWN))[0],
        detail=None,
        detail_type=None if record is None else DETAIL_TYPES.get(record.type, f"type {record.type}"),
        detail_seq=None if number == NO_DETAIL else number,
    )
    if record is not None:
        value, cut = shortened(jsonable(thread.decode(record)), context.answer_bytes - _REST_BYTES)
        result.detail, result.did_truncate = value, cut or UNSET
    if problem:
        result.problem = problem
    if view.growing:
        result.growing, result.as_of_ns = True, view.info["time_end_ns"]
    return result


METHODS = [
    Method(
        "events.detail",
        EventsDetailParams,
        EventsDetail,
        run,
        "One event with the values that were recorded with it (arguments, result, exception, attributes), and from a detail back.",
    )
]
