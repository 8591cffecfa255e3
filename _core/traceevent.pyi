"""One decision: what was decided, by whom, when and why; its fields, checked, and its identity."""

import uuid
from collections.abc import Mapping
from typing import Any, final

from atf._core.moments import Duration, Timestamp
from atf._core.severity import Severity
from atf._core.traceparent import TraceParent

__pyx_capi__: dict[str, object]  # for the collector

def know_this_process() -> None:
    """Find out now what the first event would have to."""

@final
class TraceEvent:
    """A decision event. Immutable; equal to another when all fields are.

    event_type and component must not be empty. timestamp: default now; duration: at least 0; both are exact nanoseconds. attributes: str → str.
    event_id: by default one of its own, made of boot, process and a count, written out as a UUID when it is asked for. trace_id and span_id: 32 and 16
    hexadecimal digits, taken from traceparent (W3C) when it is given. InvalidType and InvalidValue for anything else.
    """

    def __init__(
        self,
        event_type: str,
        component: str,
        rationale: str = "",
        *,
        timestamp: Timestamp | int | None = None,
        duration: Duration | int | None = None,
        model_id: str = "",
        request_id: str = "",
        severity: Severity | str = ...,
        attributes: Mapping[str, str] | None = None,
        event_id: str | uuid.UUID | None = None,
        decision_chain_id: str = "",
        parent_id: str = "",
        trace_id: str = "",
        span_id: str = "",
        traceparent: str | TraceParent | None = None,
        timestamp_ns: int | None = None,
        duration_ns: int | None = None,
    ) -> None: ...
    @property
    def event_type(self) -> str: ...
    @property
    def component(self) -> str: ...
    @property
    def model_id(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def rationale(self) -> str: ...
    @property
    def decision_chain_id(self) -> str: ...
    @property
    def parent_id(self) -> str: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def severity(self) -> Severity: ...
    @property
    def timestamp_ns(self) -> int: ...
    @property
    def duration_ns(self) -> int: ...
    @property
    def event_id(self) -> str: ...
    @property
    def timestamp(self) -> Timestamp: ...
    @property
    def duration(self) -> Duration: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...
    def to_dict(self) -> dict[str, Any]:
        """As in export_json: times as ints, the severity's title; ids of chain, parent, trace and span only where there are some."""
    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> TraceEvent:
        """What to_dict gave."""
    def replace(self, **changes: Any) -> TraceEvent:
        """A copy with other values; its event_id too, unless another is given."""
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
