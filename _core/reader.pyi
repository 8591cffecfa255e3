"""Reads index.atf and detail.atf: validation, recovery, and links both ways. Never changes a file."""

import os as _os
from typing import Any, NamedTuple

class FileReport(NamedTuple):
    """What was found in one file: finalized, growing or recovered; what is returned, what was cut, and why."""

    status: str
    records: int
    records_cut: int
    bytes_cut: int
    reasons: tuple[str, ...]

class DetailRecord(NamedTuple):
    """One detail. index_seq: the position of its event in index.atf. payload: a read-only memoryview of the file."""

    type: int
    index_seq: int
    thread_id: int
    timestamp_ns: int
    payload: memoryview

class IndexFile:
    """The events of one thread: an index.atf, mapped read-only."""

    path: str
    report: FileReport
    size_bytes: int
    thread_id: int
    flags: int
    stored_crc32: int
    modified_ns: int
    arch: int
    os: int
    clock_type: int
    def __init__(self, path: str | _os.PathLike[str]) -> None: ...
    @property
    def events(self) -> Any: ...
    def check(self) -> None: ...
    def __len__(self) -> int: ...
    def verify(self) -> bool | None: ...

class DetailFile:
    """The details of one thread: a detail.atf, mapped read-only. Every access is O(1) after the first."""

    path: str
    size_bytes: int
    thread_id: int
    stored_crc32: int
    def __init__(self, path: str | _os.PathLike[str]) -> None: ...
    @property
    def report(self) -> FileReport: ...
    def check(self) -> None: ...
    def __len__(self) -> int: ...
    def record(self, i: int) -> DetailRecord: ...
    def of_event(self, index_seq: int, detail_seq: int) -> DetailRecord | None: ...
    def containing(self, type: int, sought: bytes, first: int = 0, last: int = 0xFFFFFFFFFFFFFFFF) -> Any: ...
    def broken_links(self, events: Any) -> Any: ...
    def verify(self) -> bool | None: ...
