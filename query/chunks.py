"""All spans a piece at a time, for questions that must look at each one and stay in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from atf.query.spanset import SpanRows, SpanSet

CHUNK = 1 << 18  # rows between two looks at the clock: a few milliseconds
Check = Callable[[], Any]


def chunks(spans: SpanSet, threads: frozenset[int] | None = None, check: Check | None = None) -> Iterator[SpanRows]:
    """The spans of all threads, or of these positions, thread by thread in the order of their calls."""
    for thread in range(len(spans.threads)):
        if threads is None or thread in threads:
            for first in range(0, spans.thread_length(thread), CHUNK):
                if check:
                    check()
                yield spans.rows(thread, first, first + CHUNK)
