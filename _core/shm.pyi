from collections.abc import Mapping
from typing import Any

PAGE: int
STATES: dict[int, str]
MODES: dict[int, str]
POLICIES: dict[str, int]

def sizes(
    *,
    slots: int = 64,
    index_rings: int = 4,
    detail_rings: int = 2,
    index_bytes: int = ...,
    detail_bytes: int = ...,
    global_cells: int = 16384,
    names_bytes: int = ...,
) -> tuple[int, int, int]: ...
def format(
    control: Any,
    registry: Any,
    rings: Any,
    *,
    pid: int,
    start: int,
    policy: str = "drop-oldest",
    block_deadline_ns: int = 5_000_000_000,
    drain_expected: bool = True,
    level: int = 0,
    slots: int = 64,
    index_rings: int = 4,
    detail_rings: int = 2,
    index_bytes: int = ...,
    detail_bytes: int = ...,
    global_cells: int = 16384,
    names_bytes: int = ...,
) -> None: ...

class Segments:
    def __init__(self, control: Any, registry: Any, rings: Any) -> None: ...
    @property
    def info(self) -> dict[str, Any]: ...
    @property
    def anchors(self) -> tuple[int, int]: ...
    def stop(self) -> None: ...
    def drained_by(self, pid: int) -> None: ...
    def slots(self) -> list[dict[str, Any]]: ...
    def name_threads(self, names: Mapping[int, str]) -> None: ...
    def names(self, start: int = 0) -> tuple[int, list[tuple[int, int, int, str, str]]]: ...
