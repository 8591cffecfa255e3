"""Which events carry which request id: attributes `request_id` or `requestId` of the program's own events and spans."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from atf import trace_detail

if TYPE_CHECKING:
    from atf.query.traces import View

NAMES = ("request_id", "requestId")
_SOUGHT = b"request"  # in the payload of every event that has one of NAMES
_CHUNK_DETAILS = 1 << 16


def request_key(value: Any) -> str | None:
    """What a request id is known by: 42 and "42" are the same one. None: it is none."""
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def requests_of(view: View, check: Callable[[], Any]) -> dict[str, array[int]]:
    """{request id: thread position << 32 | index_seq of each event that carries it}. Reads the details once a view."""
    made: dict[str, array[int]] = view.once("events.requests", lambda view: _read(view, check))
    return made


def _read(view: View, check: Callable[[], Any]) -> dict[str, array[int]]:
    found: dict[str, array[int]] = {}
    for thread in view.trace.threads:
        details = thread.details
        if details is None:
            continue
        links = thread.events["detail_seq"]
        for first in range(0, len(details), _CHUNK_DETAILS):
            check()
            for at, number in enumerate(details.containing(trace_detail.TRACE_EVENT, _SOUGHT, first, first + _CHUNK_DETAILS).tolist()):
                record = details.record(number)
                if record.index_seq >= len(links) or links[record.index_seq] != number:
                    continue  # a link holds both ways, or it is none
                for key in _ids(trace_detail.decode(record)):
                    found.setdefault(key, array("Q")).append(thread.position << 32 | record.index_seq)
                if at % 1024 == 1023:
                    check()
    return found


def _ids(said: dict[str, Any]) -> set[str]:
    attributes = said.get("attributes")
    if not isinstance(attributes, dict):
        return set()
    keys = {request_key(attributes.get(name)) for name in NAMES}
    return {key for key in keys if key is not None}
