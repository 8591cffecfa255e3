"""Sums the spans of one thread by group in one pass over its events, without making the spans and without the GIL."""

from collections.abc import Sequence
from typing import Any

BUCKETS: int

def middle_of(bucket: int) -> int: ...

class Groups:
    """Which group each function is in. Several threads may use it at once."""

    groups: int
    def __new__(cls, ids: Sequence[int], group: Sequence[int]) -> Groups: ...
    def __len__(self) -> int: ...

def sum_spans(events: Any, groups: Groups, end_ns: int) -> tuple[dict[str, Any], Any, Any, dict[str, int]] | None: ...
def histogram(times: Any, key: Any, group: Any) -> tuple[Any, Any]: ...
