"""Which spans of a thread pass a filter: one bit a span, and what is picked or summed among them, without the GIL."""

from collections.abc import Callable, Iterable
from typing import Any

from atf._core.index import ThreadIndex

SUMS: tuple[str, ...]

class Marks:
    """The spans of a ThreadIndex that pass a filter. len(): how many."""

    index: ThreadIndex
    def __init__(
        self,
        index: ThreadIndex,
        functions: Iterable[int] | None = None,
        *,
        start_from_ns: int = 0,
        start_until_ns: int = 0xFFFFFFFFFFFFFFFF,
        end_from_ns: int = 0,
        end_until_ns: int = 0xFFFFFFFFFFFFFFFF,
        min_ns: int = 0,
        max_ns: int = 0xFFFFFFFFFFFFFFFF,
        min_depth: int = 0,
        max_depth: int = 0xFFFFFFFF,
        statuses: int = 0x1F,
        check: Callable[[], object] | None = None,
    ) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, row: int, /) -> bool: ...
    def rank(self, row: int) -> int: ...
    def take(self, rank: int, room: int) -> Any: ...
    def top(
        self,
        room: int,
        *,
        by_self: bool = False,
        descending: bool = True,
        bound: tuple[int, int] | None = None,
        edge: int | None = None,
        check: Callable[[], object] | None = None,
    ) -> tuple[Any, Any]: ...
    def actives(self, functions: Iterable[int] | None = None) -> Any: ...
    def sums(
        self, group: Any, groups: int, into: dict[str, Any] | None = None, check: Callable[[], object] | None = None
    ) -> dict[str, Any]: ...

def ranks(functions: Iterable[tuple[ThreadIndex, int]], percents: Iterable[int]) -> list[int]: ...
def start_at(parts: Iterable[tuple[Marks, int, int]], rank: int) -> int: ...
