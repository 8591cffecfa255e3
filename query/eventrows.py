"""Events on the wire: what an event is shown with, built column by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from atf._core.layout import GAP_REASONS, NO_DETAIL, NOT_KEPT
from atf.jsonable import jsonable, shortened
from atf.query.eventwords import CALL, GAP, TYPES, UNKNOWN
from atf.query.handles import thread_handles
from atf.query.params import Params, Result, camel

if TYPE_CHECKING:
    from atf.query.traces import View
    from atf.trace_files import Process, Thread
    from atf.trace_manifest import Function

_MOST_DETAIL_BYTES = 1 << 14  # in a listing; events.detail shows more


class EventProjection(Params):
    """Which members an event is given with. timestampNs brings timestampRelativeNs with it."""

    timestamp_ns: bool = True
    thread_id: bool = True
    event_type: bool = True
    function_name: bool = False
    event_id: bool = False
    module_name: bool = False
    function_id: bool = False
    file: bool = False
    line: bool = False
    depth: bool = False
    index_seq: bool = False
    process_id: bool = False
    thread_name: bool = False
    span_id: bool = False
    detail: bool = False
    attributes: bool = False


class EventRow(Result):
    """One event. timestampRelativeNs: since the start of the trace. depth: 0 for the outermost call.

    A Gap has no function; with eventType come lost, how many events were lost there, and lossReason. spanId: of the span that a call opens.
    detail: what was recorded with the event, decoded, and shortened where it is long; attributes: of an event or span of the program's own.
    """

    event_id: str | UnsetType = UNSET
    timestamp_ns: int | UnsetType = UNSET
    timestamp_relative_ns: int | UnsetType = UNSET
    process_id: int | UnsetType = UNSET
    thread_id: int | UnsetType = UNSET
    thread_name: str | UnsetType = UNSET
    event_type: str | UnsetType = UNSET
    function_name: str | UnsetType = UNSET
    module_name: str | UnsetType = UNSET
    function_id: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    depth: int | UnsetType = UNSET
    index_seq: int | UnsetType = UNSET
    lost: int | UnsetType = UNSET
    loss_reason: str | UnsetType = UNSET
    span_id: str | UnsetType = UNSET
    detail: Any = UNSET
    attributes: Any = UNSET


def event_columns(
    view: View,
    threads: Sequence[Thread],
    positions: Sequence[int],
    events: Any,
    projection: EventProjection,
    check: Callable[[], Any] = lambda: None,
) -> dict[str, list[Any]]:
    """{member: [one value an event]}, members in the order of EventRow. UNSET: an event has no such member.

    events: structured array (`layout.EVENT_DTYPE`), with threads and positions (index_seq) of the same length.
    """
    kinds: list[int] = events["event_kind"].tolist()
    gaps = [at for at, kind in enumerate(kinds) if kind == GAP] if GAP in kinds else []
    lossy_gaps = [at for at in gaps if int(events["call_depth"][at]) < NOT_KEPT]

    def by_thread(value: Callable[[Thread], Any]) -> list[Any]:
        known = {t.position: value(t) for t in set(threads)}
        return [known[t.position] for t in threads]

    def by_function(value: Callable[[Function], Any]) -> list[Any]:
        ids = events["function_id"].tolist()
        processes = {t.process.position: t.process for t in set(threads)}
        if len(processes) == 1:
            (process,) = processes.values()
            found = list(map(_Values(process, value).__getitem__, ids))
        else:
            known = {position: _Values(process, value) for position, process in processes.items()}
            found = [known[t.process.position][id] for t, id in zip(threads, ids)]
        for at in gaps:
            found[at] = UNSET
        return found

    def handles() -> list[str]:
        heads = thread_handles(view)
        return [f"{heads[t.position]}:{seq}" for t, seq in zip(threads, positions)]

    def details() -> list[Any]:
        found = []
        for at, (thread, seq, link) in enumerate(zip(threads, positions, events["detail_seq"].tolist())):
            found.append(None if link == NO_DETAIL else detail_of(thread, seq, link))
            if at % 256 == 255:
                check()
        return found

    def spans() -> list[Any]:
        stamps = events["timestamp_ns"].tolist()
        return [
            f"{t.tid}:{stamp}:{seq}" if kind == CALL else UNSET for t, stamp, seq, kind in zip(threads, stamps, positions, kinds)
        ]

    said = details() if projection.detail or projection.attributes else []
    start_ns = view.start_ns if projection.timestamp_ns else 0
    makers: dict[str, Callable[[], list[Any]]] = {
        "event_id": handles,
        "timestamp_ns": events["timestamp_ns"].tolist,
        "timestamp_relative_ns": lambda: [stamp - start_ns for stamp in events["timestamp_ns"].tolist()],
        "process_id": lambda: by_thread(lambda t: t.process.pid),
        "thread_id": lambda: by_thread(lambda t: t.tid),
        "thread_name": lambda: by_thread(lambda t: t.name),
        "event_type": lambda: [TYPES.get(kind, UNKNOWN) for kind in kinds],
        "function_name": lambda: by_function(lambda f: f.name),
        "module_name": lambda: by_function(lambda f: f.module),
        "function_id": lambda: by_function(lambda f: f"0x{f.id:016x}"),
        "file": lambda: by_function(lambda f: f.file),
        "line": lambda: by_function(lambda f: f.line),
        "depth": lambda: [0 if kind == GAP or not d else d - 1 for d, kind in zip(events["call_depth"].tolist(), kinds)],
        "index_seq": lambda: list(positions),
        "lost": lambda: _only(len(kinds), lossy_gaps, events["function_id"][lossy_gaps].tolist()),
        "loss_reason": lambda: _only(len(kinds), gaps, [GAP_REASONS.get(r, f"reason {r}") for r in events["call_depth"][gaps].tolist()]),
        "span_id": spans,
        "detail": lambda: [UNSET if one is None else one for one in said],
        "attributes": lambda: [one["attributes"] if one and isinstance(one.get("attributes"), dict) else UNSET for one in said],
    }
    lossy = projection.event_type and bool(gaps)
    derived = {"timestamp_relative_ns": projection.timestamp_ns, "lost": lossy, "loss_reason": lossy}
    asked = [name for name in EventRow.__struct_fields__ if derived.get(name) or getattr(projection, name, False)]
    return {camel(name): makers[name]() for name in asked}


def detail_of(thread: Thread, index_seq: int, detail_seq: int) -> Any:
    """What was recorded with an event, as JSON can carry it, shortened where it is long; None: nothing, or the link is broken."""
    record = thread.details.of_event(index_seq, detail_seq) if thread.details else None
    if record is None:
        return None
    said = jsonable(thread.decode(record))
    return said if len(record.payload) <= _MOST_DETAIL_BYTES else shortened(said, _MOST_DETAIL_BYTES)[0]


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[EventRow]:
    """The rows of columns that `event_columns` made."""
    rows = [{name: value for name, value in zip(columns, values) if value is not UNSET} for values in zip(*columns.values())]
    return msgspec.convert(rows, list[EventRow])


class _Values(dict[int, Any]):
    """{function id: a value of the function}, filled as it is asked."""

    def __init__(self, process: Process, value: Callable[[Function], Any]) -> None:
        super().__init__()
        self._process, self._value = process, value

    def __missing__(self, id: int) -> Any:
        found = self[id] = self._value(self._process.function(id))
        return found


def _only(length: int, places: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """values at places, UNSET elsewhere."""
    found: list[Any] = [UNSET] * length
    for place, value in zip(places, values):
        found[place] = value
    return found
