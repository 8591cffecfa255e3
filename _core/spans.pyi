"""Matches calls and returns into spans: columns of numpy arrays, one row a span, without the GIL."""

from collections.abc import Iterable, Sequence
from typing import Any

STATUS: tuple[str, ...]
NO_SEQ: int

class SpanColumns:
    """Spans as columns: numpy arrays of shape (N,), the rows of a thread together, in the order of their calls."""

    start_ns: Any
    end_ns: Any
    active_ns: Any
    self_ns: Any
    function: Any
    depth: Any
    call_seq: Any
    end_seq: Any
    child_count: Any
    parent: Any
    status: Any
    thread: Any
    thread_rows: Any
    function_ids: Any
    function_space: Any
    counts: dict[str, int]
    def __len__(self) -> int: ...
    @property
    def function_id(self) -> Any: ...

def match(arrays: Iterable[Any], end_ns: int | Sequence[int] | None = None, spaces: Iterable[int] | None = None) -> SpanColumns: ...
def totals(columns: SpanColumns, key: Any, group: Any, groups: int) -> dict[str, Any]: ...
def children_of(columns: SpanColumns) -> tuple[Any, Any]: ...
