"""Counts slices in a Perfetto trace: enough of protobuf to check what trace0 kept, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TRACK_EVENT = 11  # in TracePacket
TYPE, SLICE_BEGIN = 9, 1  # in TrackEvent


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: (number, varint or bytes); fixed-size fields are passed over."""
    at, end = 0, len(data)

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < end:
        key = varint()
        wire = key & 7
        if wire == 0:
            yield key >> 3, varint()
        elif wire == 2:
            size = varint()
            yield key >> 3, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}: not a Perfetto trace")


def count_slices(path: Path) -> int:
    """How many slices begin in the trace at `path`."""
    count = 0
    for _, packet in fields(memoryview(path.read_bytes())):
        for number, event in fields(packet):
            if number == TRACK_EVENT:
                count += any(field == TYPE and value == SLICE_BEGIN for field, value in fields(event))
    return count
