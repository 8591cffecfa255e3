"""TraceEvents as bytes: packed for the lane and for the trace, searched in place, and made again."""

__pyx_capi__: dict[str, object]  # for the collector
MOST_BYTES: int
