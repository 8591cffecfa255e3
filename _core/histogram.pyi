"""Counts times in logarithmic buckets, group by group, without the GIL."""

from typing import Any

BUCKETS: int

def middle_of(bucket: int) -> int: ...
def histogram(times: Any, key: Any, group: Any, groups: int) -> tuple[Any, Any]: ...
