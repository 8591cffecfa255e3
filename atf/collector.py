"""Decision events: components say what they decided and why, and a chain of decisions can be told afterwards.

    collector = atf.TraceCollector()
    collector.record_now("route", "gateway", "shortest queue", request_id="r-17", attributes={"to": "gpu-2"})
    for event in collector.reconstruct_decision_chain("r-17"):
        print(event.timestamp, event.component, event.rationale)

The newest ``buffer_size`` events stay in memory; in a recording session each is also in the trace, as an event ``decision:<event_type>``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atf._core.collector import NAME_PREFIX, Lane
from atf._core.errors import InvalidType, InvalidValue, OutputError
from atf._core.moments import Duration, Timestamp
from atf._core.severity import Severity
from atf._core.traceevent import TraceEvent
from atf._core.traceparent import TraceParent

if TYPE_CHECKING:
    from atf.trace import Trace

__all__ = ["Duration", "Severity", "Timestamp", "TraceCollector", "TraceEvent", "TraceEventBuilder", "TraceParent", "decisions"]
SCHEMA = "atf.trace/1"
_FIRST, _LAST = 0, 2**63 - 1


class TraceEventBuilder:
    """``TraceEventBuilder("route", "gateway").request_id("r-17").attribute("to", "gpu-2").build()``: every method but build returns the builder.

    build: InvalidValue when the type or the component is empty; each call makes an event of its own identity, at its own time unless one was given.
    """

    def __init__(self, event_type: str = "", component: str = "") -> None:
        self._values: dict[str, Any] = {"event_type": event_type, "component": component}
        self._attributes: dict[str, str] = {}

    def _set(self, name: str, value: Any) -> TraceEventBuilder:
        self._values[name] = value
        return self

    def event_type(self, value: str) -> TraceEventBuilder: return self._set("event_type", value)
    def component(self, value: str) -> TraceEventBuilder: return self._set("component", value)
    def timestamp(self, value: Timestamp | int) -> TraceEventBuilder: return self._set("timestamp", value)
    def duration(self, value: Duration | int) -> TraceEventBuilder: return self._set("duration", value)
    def model_id(self, value: str) -> TraceEventBuilder: return self._set("model_id", value)
    def request_id(self, value: str) -> TraceEventBuilder: return self._set("request_id", value)
    def rationale(self, value: str) -> TraceEventBuilder: return self._set("rationale", value)
    def severity(self, value: Severity | str) -> TraceEventBuilder: return self._set("severity", value)
    def decision_chain_id(self, value: str) -> TraceEventBuilder: return self._set("decision_chain_id", value)
    def parent_id(self, value: str) -> TraceEventBuilder: return self._set("parent_id", value)
    def traceparent(self, value: str) -> TraceEventBuilder: return self._set("traceparent", value)

    def attribute(self, key: str, value: str) -> TraceEventBuilder:
        self._attributes[key] = value
        return self

    def build(self) -> TraceEvent:
        return TraceEvent(**self._values, attributes=self._attributes)


def _moment(value: Timestamp | int | None, ns: int | None, otherwise: int, what: str) -> int:
    if value is not None and ns is not None:
        raise InvalidValue(f"{what} and {what}_ns are two names of one: give one of both")
    value = ns if value is None else value
    return otherwise if value is None else Timestamp(value).ns


def _least(value: Severity | int | str | None) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        found = Severity.__members__.get(value.upper())
        if found is None:
            raise InvalidValue(f"severity {value!r}: choose from Info, Warning, Error, Critical")
        return int(found)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"a severity is a Severity, not {type(value).__name__}")
    return int(Severity(value)) if 0 <= value <= 3 else int(_out_of_range(value))


def _out_of_range(value: int) -> int:
    raise InvalidValue(f"severity {value}: it is from 0 (Info) to 3 (Critical)")


class TraceCollector(Lane):
    """``TraceCollector(buffer_size=10000, *, require_rationale=("scheduling_decision",), traceparent=None)``: the newest buffer_size events.

    Any thread records, none waits for another; what newer events push out is counted in ``dropped``. A forked child begins with its own
    copy. Events of a type in require_rationale are refused without one. Events without a trace id get the one of traceparent,
    by default that of the environment's TRACEPARENT. InvalidValue when buffer_size is below 1.
    """

    def query(
        self,
        start: Timestamp | int | None = None,
        end: Timestamp | int | None = None,
        event_type: str | None = None,
        model_id: str | None = None,
        component: str | None = None,
        min_severity: Severity | int | str | None = None,
        *,
        request_id: str | None = None,
        decision_chain_id: str | None = None,
        trace_id: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[TraceEvent]:
        """Events that pass all that is given, in order of time, those of the same time in the order they were recorded.

        start and end are both within; texts must be equal, "" asks for events without one.
        """
        return self.select(
            _moment(start, start_ns, _FIRST, "start"),
            _moment(end, end_ns, _LAST, "end"),
            _least(min_severity),
            event_type=event_type,
            component=component,
            model_id=model_id,
            request_id=request_id,
            decision_chain_id=decision_chain_id,
            trace_id=trace_id,
        )

    def query_by_component(self, component: str) -> list[TraceEvent]:
        return self.query(component=component)

    def query_by_severity(self, min_severity: Severity | int | str) -> list[TraceEvent]:
        """Events of this severity and above."""
        return self.query(min_severity=min_severity)

    def query_by_model(self, model_id: str) -> list[TraceEvent]:
        return self.query(model_id=model_id)

    def reconstruct_decision_chain(
        self, request_id: str | None = None, *, event_id: str | None = None, chain_id: str | None = None, trace_id: str | None = None
    ) -> list[TraceEvent]:
        """What was decided for one request, in order of time; ties in the order of recording. One of the four is given.

        request_id: its events; one of 32 hexadecimal digits also finds events of that W3C trace. event_id: the chain of that event, which is its
        decision_chain_id's, else its request's, else its trace's, else itself. Unknown ids have an empty chain.
        """
        given = {"request_id": request_id, "event_id": event_id, "chain_id": chain_id, "trace_id": trace_id}
        if sum(value is not None for value in given.values()) != 1:
            raise InvalidValue(f"a chain has one name: give one of {', '.join(given)}")
        if event_id is not None:
            found = self.select(_FIRST, _LAST, 0, event_id=event_id)
            if not found:
                return []
            event = found[-1]
            if event.decision_chain_id:
                chain_id = event.decision_chain_id
            elif event.request_id:
                request_id = event.request_id
            elif event.trace_id:
                trace_id = event.trace_id
            else:
                return found
        return self.select(_FIRST, _LAST, 0, any_request=request_id, decision_chain_id=chain_id, trace_id=trace_id)

    def export_json(self, path: str | os.PathLike[str], *, big_ints: str = "int") -> int:
        """Write all events as {"schema", "clock", "events": […]}, whole or not at all; returns how many.

        Times are integers of nanoseconds; big_ints="str" writes them as text, for readers whose numbers end at 2**53. Lone surrogates become
        U+FFFD. OutputError when the file cannot be written.
        """
        if big_ints not in ("int", "str"):
            raise InvalidValue(f"big_ints {big_ints!r}: choose int or str")
        import msgspec

        events = [event.to_dict() for event in self.query()]
        document: dict[str, Any] = {"schema": SCHEMA, "clock": _clock(), "events": events}
        if big_ints == "str":
            for one in (document["clock"], *events):
                one.update({key: str(value) for key, value in one.items() if key.endswith("_ns")})
        try:
            encoded = msgspec.json.encode(document)
        except UnicodeEncodeError:
            document["events"] = [_whole(event) for event in events]
            encoded = msgspec.json.encode(document)
        _write(os.fspath(path), encoded)
        return len(events)

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self.query())

    def __repr__(self) -> str:
        return f"<TraceCollector: {len(self)} of {self.buffer_size} events, {self.dropped} dropped>"


def _clock() -> dict[str, Any]:
    """How the events' times relate to the calendar: both anchors are the same moment."""
    import time

    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    now = Timestamp.now().ns
    return {"kind": "boottime", "monotonic_anchor_ns": now, "realtime_anchor_ns": time.time_ns(), "boot_id": boot}


def _whole(value: Any) -> Any:
    """The same without lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return {_whole(key): _whole(item) for key, item in value.items()} if isinstance(value, dict) else value


def _write(path: str, data: bytes) -> None:
    """The file is the old one or the new one, whatever happens in between."""
    import tempfile

    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", suffix=".tmp", dir=os.path.dirname(path) or ".")
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise OutputError(f"{path}: the events cannot be written there ({error.strerror or error})") from error


def decisions(trace: Trace, request_id: str | None = None) -> list[TraceEvent]:
    """The decision events of a recording, of all its processes, in order of time; those of a request, when one is given.

    Texts that a detail has no room for end in "…" (docs/collector.md). Events that are not a TraceEvent any more are left out.
    """
    found = []
    for event in trace.events(function=f"{NAME_PREFIX}*", kind="instant"):
        said = (event.detail or {}).get("attributes")
        if isinstance(said, dict) and request_id in (None, said.get("request_id")):
            with contextlib.suppress(InvalidValue, InvalidType, TypeError):
                found.append(TraceEvent.from_dict(said))
    return sorted(found, key=lambda event: event.timestamp_ns)
