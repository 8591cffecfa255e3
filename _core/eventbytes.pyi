"""TraceEvents as bytes: packed for the lane and for the trace, searched in place, and made again."""

MOST_BYTES: int
