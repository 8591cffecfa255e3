"""The slow and plain TraceCollector: a deque, a lock and the event objects themselves. What the compiled one must agree with."""

import collections
import dataclasses
import threading
import uuid

TITLES = ("Info", "Warning", "Error", "Critical")


@dataclasses.dataclass(frozen=True)
class Event:
    event_type: str
    component: str
    timestamp_ns: int
    duration_ns: int = 0
    model_id: str = ""
    request_id: str = ""
    rationale: str = ""
    severity: int = 0
    attributes: tuple = ()
    decision_chain_id: str = ""
    parent_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    event_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

    def arguments(self):
        """What makes the same TraceEvent."""
        return {**dataclasses.asdict(self), "severity": TITLES[self.severity], "attributes": dict(self.attributes)}

    def exported(self):
        """What stands in the JSON of it."""
        found = self.arguments()
        return {k: v for k, v in found.items() if v or k not in ("decision_chain_id", "parent_id", "trace_id", "span_id")}


class Collector:
    def __init__(self, buffer_size=10000):
        if buffer_size <= 0:
            raise ValueError("buffer_size")
        self.events = collections.deque(maxlen=buffer_size)
        self.lock = threading.Lock()
        self.recorded = self.cleared = 0

    def record(self, event):
        with self.lock:
            self.events.append(event)
            self.recorded += 1

    def clear(self):
        with self.lock:
            self.cleared += len(self.events)
            self.events.clear()

    @property
    def dropped(self):
        return self.recorded - self.cleared - len(self.events)

    def query(self, start=None, end=None, min_severity=None, **texts):
        with self.lock:
            found = list(self.events)
        found = [e for e in found if (start is None or e.timestamp_ns >= start) and (end is None or e.timestamp_ns <= end)]
        found = [e for e in found if (min_severity is None or e.severity >= min_severity)]
        found = [e for e in found if all(value is None or getattr(e, name) == value for name, value in texts.items())]
        return sorted(found, key=lambda e: e.timestamp_ns)

    def chain(self, request_id=None, event_id=None, chain_id=None, trace_id=None):
        if event_id is not None:
            event = next((e for e in reversed(self.events) if e.event_id == event_id), None)
            if event is None:
                return []
            chain_id = event.decision_chain_id or None
            request_id = None if chain_id else event.request_id or None
            trace_id = None if chain_id or request_id else event.trace_id or None
            if not (chain_id or request_id or trace_id):
                return [e for e in self.query() if e.event_id == event_id]
        if request_id is not None:
            return [e for e in self.query() if e.request_id == request_id or (len(request_id) == 32 and e.trace_id == request_id)]
        return self.query(**({"decision_chain_id": chain_id} if chain_id is not None else {"trace_id": trace_id}))
