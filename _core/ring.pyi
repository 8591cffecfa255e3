"""The rings by themselves: measurements of the record path, and a pool that is driven step by step."""

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Any

def pair(records: int, clock: bool = True, index_bytes: int = 2097152) -> dict[str, Any]:
    """One producer and one consumer thread through a ring pool of four rings in System V memory, policy ``block``.

    {"records", "seconds", "producer_cpu_ns", "consumer_cpu_ns", "lost", "checksum_ok"}; checksum_ok: every record
    arrived once, in order and as it was written. SessionError when another measurement runs in this process.
    """

def record_cost(records: int, index_bytes: int = 1572864) -> float:
    """ns of one record with its timestamp, in a loop of one native thread whose rings are taken back again and again."""

def through_files(
    records: int, path: str | os.PathLike[str], policy: str = "block", threads: int = 1, index_bytes: int = 1572864
) -> dict[str, Any]:
    """``threads`` native producers write ``records`` together, through rings and drain into complete files below ``path``.

    {"events", "seconds", "producer_cpu_ns", "drain_cpu_ns", "lost"}: events are the records in the files; the time runs
    from the first record until every file has its footer. OutputError when ``path`` cannot be written.
    """

class Pressure:
    """The state of one lane, moved look by look."""

    def look(self, free: int, total: int, lost: bool, ns: int) -> int:
        """0 normal, 1 pressure, 2 dropping, 3 recovery, after a look at ns; free of total rings could be had; lost: since the last look."""

class Pool:
    """A ring pool with its drain, on the heap, moved by hand. The calling thread is the producer.

    A ring of 4096 bytes has room for 128 records. SessionError when another Pool or measurement is open.
    """

    produced: int
    details: int
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        index_rings: int = 2,
        index_bytes: int = 4096,
        detail_rings: int = 2,
        detail_bytes: int = 16384,
        spare_rings: int = 0,
        spare_bytes: int = 16384,
        global_cells: int = 16,
        policy: str = "drop-oldest",
    ) -> None: ...
    def produce(self, details: Iterable[int | None], silent: bool = False) -> None:
        """Write one record for every entry: None, or the payload bytes (0 to 8192) of its detail.

        Records have kind INSTANT and their number in this thread as function id; the payload repeats its low byte.
        ``silent``: the drain has given no sign for long, else it has just now.
        """
    def leave(self) -> None:
        """The producing thread ends; the next record is the first of a new thread."""
    def drain(self, peek: bool = False) -> int:
        """One pass of the drain; ``peek``: rings that are not full too. Returns the records and GAPs written."""
    def finish(self) -> None:
        """The producing thread ends and all files are completed."""
    @property
    def stats(self) -> dict[str, int]:
        """{"taken_back", "lane", "lane_dropped", "transitions", "spares_free"}."""
    def close(self) -> None:
        """Finish and let the memory go. May be called again."""
    def __enter__(self) -> Pool: ...
    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None: ...
