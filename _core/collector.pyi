"""The lane of a TraceCollector: events go in from any thread, the newest stay, and questions are answered from a copy."""

from collections.abc import Collection, Mapping

from atf._core.moments import Duration
from atf._core.severity import Severity
from atf._core.traceevent import TraceEvent
from atf._core.traceparent import TraceParent

NAME_PREFIX: str

class Lane:
    """What a TraceCollector is without its questions: see atf.collector."""

    def __init__(
        self,
        buffer_size: int = 10000,
        *,
        require_rationale: Collection[str] = ("scheduling_decision",),
        traceparent: str | TraceParent | None = None,
    ) -> None: ...
    @property
    def traceparent(self) -> TraceParent | None: ...
    def record(self, event: TraceEvent) -> str:
        """Keep an event, and write it into the trace while one is recorded. Returns its event_id. Never waits."""
    def record_now(
        self,
        event_type: str,
        component: str,
        rationale: str = "",
        *,
        model_id: str = "",
        request_id: str = "",
        severity: Severity | str = ...,
        duration: Duration | int | None = None,
        attributes: Mapping[str, str] | None = None,
        decision_chain_id: str = "",
        parent_id: str = "",
        trace_id: str = "",
        span_id: str = "",
        traceparent: str | TraceParent | None = None,
        duration_ns: int | None = None,
    ) -> str:
        """The same with a new event of this moment."""
    def size(self) -> int:
        """How many events are kept."""
    def __len__(self) -> int: ...
    def __bool__(self) -> bool:
        """True, also of an empty one."""
    def clear(self) -> None:
        """Forget all events up to now."""
    @property
    def buffer_size(self) -> int: ...
    @property
    def dropped(self) -> int:
        """Events that newer ones pushed out, since the collector was made."""
    @property
    def refused(self) -> int:
        """Events that there was no memory for."""
    def select(
        self,
        start_ns: int,
        end_ns: int,
        min_severity: int,
        event_type: str | None = None,
        component: str | None = None,
        model_id: str | None = None,
        request_id: str | None = None,
        decision_chain_id: str | None = None,
        trace_id: str | None = None,
        any_request: str | None = None,
        event_id: object = None,
    ) -> list[TraceEvent]:
        """Events that pass all that is given, in order of time, then of recording. any_request: a request id, or a trace id of 32 digits."""
