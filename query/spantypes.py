"""What spans are asked for with and given as: refs, filters, keys of pages, columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Order = Literal["start", "duration", "self"]
Ref = tuple[int, int]
Check = Callable[[], Any]


class Refs(NamedTuple):
    """Several refs: two numpy arrays of one length, thread uint32 and row int64."""

    thread: Any
    row: Any


class Selection(NamedTuple):
    """total: how many spans pass the filter, whatever page was asked for. refs: the page, in its order."""

    total: int
    refs: Refs


@dataclass(frozen=True)
class Filter:
    """What spans must be. None: anything. Bounds are inclusive ints from 0 to 2**64 - 1, times CLOCK_BOOTTIME nanoseconds.

    start_ns: begun at or after. end_ns: ended at or before. overlap: (first, last), has a part in it. threads: positions in
    trace.threads. functions: function keys. statuses: names of STATUS. Durations are wall time. Depth 0 is a root.
    """

    start_ns: int | None = None
    end_ns: int | None = None
    overlap: tuple[int, int] | None = None
    threads: frozenset[int] | None = None
    functions: frozenset[int] | None = None
    statuses: frozenset[str] | None = None
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None
    min_depth: int | None = None
    max_depth: int | None = None


ANY = Filter()


@dataclass(frozen=True)
class SpanRows:
    """Spans as numpy columns of one length, in the order they were asked for.

    thread uint32, row int64: the ref. start_ns, end_ns, duration_ns (wall), active_ns, self_ns: uint64. depth: int64, 0 for a
    root. status: uint8, position in STATUS. call_seq, end_seq: uint32 positions in index.atf, NO_SEQ where nothing ended it.
    parent: int64 row in the same thread, -1: none. function: uint32 function key.
    """

    thread: Any
    row: Any
    start_ns: Any
    end_ns: Any
    duration_ns: Any
    active_ns: Any
    self_ns: Any
    depth: Any
    status: Any
    call_seq: Any
    end_seq: Any
    parent: Any
    function: Any

    def __len__(self) -> int:
        return len(self.row)


def key_at(rows: SpanRows, i: int, order: Order) -> tuple[int, ...]:
    """What `select` takes as `after_key` to go on after row i: (start, thread, row), or (value, start, thread, row)."""
    ref = (int(rows.start_ns[i]), int(rows.thread[i]), int(rows.row[i]))
    if order == "start":
        return ref
    return (int((rows.duration_ns if order == "duration" else rows.self_ns)[i]), *ref)


KEY_LENGTH: dict[Order, int] = {"start": 3, "duration": 4, "self": 4}


def make_refs(refs: Iterable[Ref]) -> Refs:
    """Refs of a list of (thread, row)."""
    import numpy

    pairs = list(refs)
    return Refs(numpy.array([t for t, _ in pairs], dtype=numpy.uint32), numpy.array([r for _, r in pairs], dtype=numpy.int64))
