"""Reads index.atf and detail.atf: validation, recovery, and links both ways. Never changes a file.

The rules of recovery are those of docs/format.md. Three witnesses say where the events end: the header, the
footer, and the file's size; what they do not agree on is settled so that no byte of a damaged footer is ever
returned as an event.
"""

import os
import stat
import struct
import zlib
from typing import NamedTuple

import numpy

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from atf._core.errors import FormatError, UsageError
from atf._core.filemap cimport FileMap
from atf._core.layout cimport atf_event, atf_detail_record, ATF_KIND_MAX, ATF_NO_DETAIL
from atf._core import layout

cdef extern from "<string.h>" nogil:
    void *memmem(const void *text, size_t text_bytes, const void *sought, size_t sought_bytes)

_HEADER_BYTES = 64
_EVENT_BYTES = 32
_SCAN_RECORDS = 1 << 15
_TAIL_RECORDS = 1 << 12
_INDEX_MAGIC, _INDEX_END, _DETAIL_MAGIC, _DETAIL_END = b"ATI2", b"2ITA", b"ATD2", b"2DTA"

_INDEX_END_WORD = struct.unpack("<I", _INDEX_END)[0]


class FileReport(NamedTuple):
    """What was found in one file.

    status: "finalized", "growing" (its header is that of a file still being written, or whose writer died), or
    "recovered" (header and contents disagree). records: how many are returned. records_cut: whole records
    at the end that cannot be records. bytes_cut: bytes that belong to nothing returned, those records included.
    """

    status: str
    records: int
    records_cut: int
    bytes_cut: int
    reasons: tuple


class DetailRecord(NamedTuple):
    """One detail. index_seq: the position of its event in index.atf. payload: a read-only memoryview of the file."""

    type: int
    index_seq: int
    thread_id: int
    timestamp_ns: int
    payload: object


cdef _open(path, magic, layout_format):
    """(fd, size, header fields) of a file whose first bytes say that it is ours."""
    try:
        # Not blocking: a FIFO in the place of a file must not hang the reader.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as why:
        raise FormatError(f"{path}: cannot be opened: {why.strerror}") from None
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise FormatError(f"{path}: is not a regular file")
        head = os.pread(fd, _HEADER_BYTES, 0)
        if len(head) < _HEADER_BYTES:
            raise FormatError(f"{path}: is {len(head)} bytes long, shorter than the 64 bytes of a header")
        fields = struct.unpack(layout_format, head)
        if fields[0] != magic:
            what = "is filled with zeros where its header was" if not any(head) else f"begins with {fields[0]!r}, not {magic!r}: not an ATF v2 file of this kind"
            raise FormatError(f"{path}: {what}")
        if fields[1] != 1:
            raise FormatError(f"{path}: has byte order mark {fields[1]}; only little-endian files (1) are defined")
        if fields[2] != 1:
            raise FormatError(f"{path}: is of format version {fields[2]}; this release reads version 1. Use a newer atf")
        return fd, state.st_size, fields
    except BaseException:
        os.close(fd)
        raise


cdef Py_ssize_t _cut_tail(fd, Py_ssize_t count) except -1:
    """How many records are left when those at the end that cannot be events are cut."""
    if count == 0:
        return 0
    head = os.pread(fd, 8, _HEADER_BYTES)
    if len(head) < 8: # the file was cut meanwhile
        return 0
    cdef uint64_t first_ns = struct.unpack("<Q", head)[0]
    cdef const uint8_t[::1] data
    cdef atf_event event
    cdef Py_ssize_t start, i
    while count > 0:
        start = max(0, count - _SCAN_RECORDS)
        data = os.pread(fd, (count - start) * _EVENT_BYTES, _HEADER_BYTES + start * _EVENT_BYTES)
        # A short read: the file was cut meanwhile.
        count = min(count, start + data.shape[0] // _EVENT_BYTES)
        i = count - start
        with nogil:
            while i > 0:
                memcpy(&event, &data[(i - 1) * <Py_ssize_t>sizeof(atf_event)], sizeof(atf_event))
                if 0 < event.event_kind <= ATF_KIND_MAX and event.timestamp_ns >= first_ns:
                    break
                i -= 1
        count = start + i
        if i > 0:
            break
    return count


cdef _footer(fd, at):
    data = os.pread(fd, 64, at)
    return struct.unpack(layout.INDEX_FOOTER, data) if len(data) == 64 else None


cdef _index_end(fd, size, declared, footer_at):
    """(count, footer or None, reasons): where the events of an index.atf end, by its three witnesses."""
    room = (size - _HEADER_BYTES) // _EVENT_BYTES
    if footer_at >= 64 and footer_at % 32 == 0 and footer_at + 64 <= size:
        footer = _footer(fd, footer_at)
        count = (footer_at - 64) // 32
        # At 64 stands the first event of a file that is not finalized: a footer there must have nothing behind it.
        if footer and footer[0] == _INDEX_END and footer[2] == count and (count or footer[5] == 0 and size == 128):
            return count, footer, ()
    if declared and 64 + 32 * declared == footer_at and declared <= room:
        return declared, None, ("the footer is missing or damaged; the header says where the events end",)
    # Neither leads to the end. A footer may stand in the tail all the same, or a part of one: two of its three
    # fields that speak of its own position are enough, and no run of real events has two.
    first = max(0, room - _TAIL_RECORDS)
    data = os.pread(fd, 32 * (room - first), 64 + 32 * first)
    count = len(data) // 32
    words = numpy.frombuffer(data, dtype="<u8", count=4 * count).reshape(count, 4)
    position = numpy.arange(first, first + count, dtype=numpy.uint64)
    fits = (words[:, 0] & 0xFFFFFFFF == _INDEX_END_WORD).astype(int) + (words[:, 1] == position)
    if count > 1:
        fits[:count - 1] += words[1:, 0] == 32 * position[:count - 1]
    found = numpy.flatnonzero(fits >= 2)
    if len(found):
        return first + int(found[0]), None, ("the header does not lead to the footer, which was found in the tail, or a part of it",)
    return room, None, ()


cdef class IndexFile:
    """The events of one thread: an index.atf, mapped read-only.

    `events` is a numpy structured array (`layout.EVENT_DTYPE`) over the map, without a copy; an event's
    position in it is its index_seq. Raises FormatError when the file cannot be an ATF v2 index of version 1.
    """

    cdef FileMap map
    cdef object array
    cdef readonly object path, report
    cdef readonly uint64_t size_bytes
    cdef readonly uint32_t thread_id, flags, stored_crc32
    cdef readonly int arch, os, clock_type

    def __init__(self, path):
        self.path = os.fspath(path)
        fd, size, header = _open(self.path, _INDEX_MAGIC, layout.INDEX_HEADER)
        try:
            self._accept(fd, size, header)
        finally:
            os.close(fd)

    def _accept(self, fd, size, header):
        _, _, _, self.arch, self.os, self.flags, self.thread_id, self.clock_type, _, event_size, declared, events_at, footer_at, _, _ = header
        if event_size != _EVENT_BYTES:
            raise FormatError(f"{self.path}: declares events of {event_size} bytes; version 1 has 32. It is damaged, or foreign")
        unfinalized = declared == 0 and footer_at == 64
        count, footer, reasons = _index_end(fd, size, declared, footer_at)
        cut = 0
        if footer is None:
            kept = _cut_tail(fd, count)
            cut, count = count - kept, kept
            if cut:
                reasons += (f"{cut} records at the end cannot be events",)
        if events_at != _HEADER_BYTES:
            reasons += (f"the header says that events begin at {events_at}; the format says 64",)
        rest = size - 64 - 32 * count - (64 if footer else 0)
        if rest > 32 * cut:
            reasons += (f"{rest - 32 * cut} bytes at the end are no whole record",)
        status = "finalized" if footer and not reasons else "growing" if unfinalized and not footer else "recovered"
        if count > 0xFFFFFFFF:
            raise FormatError(f"{self.path}: holds {count} records; positions in a file are 32-bit numbers")
        self.report = FileReport(status, count, cut, rest, reasons)
        self.size_bytes = size
        self.stored_crc32 = footer[1] if footer else 0
        self.map = FileMap(fd, 64 + 32 * count, self.path)
        self.array = numpy.frombuffer(self.map, dtype=layout.EVENT_DTYPE, count=count, offset=64)

    @property
    def events(self):
        """All accepted events, shape (N,), read-only. Raises FormatError when the file has been cut since."""
        self.map.check()
        return self.array

    def check(self):
        """Raises FormatError when the file has been cut since it was opened."""
        self.map.check()

    def __len__(self):
        return self.report.records

    def verify(self):
        """True or False: the footer's CRC-32 fits the events; None: there is none to compare with. Reads the whole file."""
        if not self.stored_crc32:
            return None
        self.map.check()
        return zlib.crc32(memoryview(self.map)[64:]) == self.stored_crc32


cdef uint64_t _walk(const char *start, uint64_t end, uint64_t *offsets) noexcept nogil:
    """Counts the records from 64 on, and notes where they begin when `offsets` is given."""
    cdef uint64_t at = 64, count = 0
    cdef uint32_t length
    while at + sizeof(atf_detail_record) <= end:
        memcpy(&length, start + at, 4)
        if length < sizeof(atf_detail_record) or length > end - at:
            break
        if offsets != NULL:
            offsets[count] = at
        count += 1
        at += length
    if offsets != NULL:
        offsets[count] = at
    return count


cdef class DetailFile:
    """The details of one thread: a detail.atf, mapped read-only.

    The table of offsets is made on first use by one walk over the record headers; then every access is O(1).
    """

    cdef FileMap map
    cdef object view, table, found
    cdef object declared # (count, bytes) of a valid footer, or None
    cdef uint64_t[::1] offsets
    cdef readonly object path
    cdef readonly uint64_t size_bytes
    cdef readonly uint32_t thread_id, stored_crc32
    cdef bint unfinalized

    def __init__(self, path):
        self.path = os.fspath(path)
        fd, size, header = _open(self.path, _DETAIL_MAGIC, layout.DETAIL_HEADER)
        try:
            self.thread_id, count, length = header[6], header[9], header[10]
            self.unfinalized = count == 0 and length == 0
            self.size_bytes = size
            self.declared = None
            for at in (size - 64, 64 + length):
                data = os.pread(fd, 64, at) if 64 <= at <= size - 64 else b""
                if len(data) == 64:
                    magic, crc, records, body, _, _ = struct.unpack(layout.DETAIL_FOOTER, data)
                    if magic == _DETAIL_END and body == at - 64:
                        self.declared, self.stored_crc32 = (records, body), crc
                        break
            self.map = FileMap(fd, 64 + self.declared[1] if self.declared else size, self.path)
        finally:
            os.close(fd)
        self.view = memoryview(self.map)
        self.table = None

    cdef int ready(self) except -1:
        """Makes the table of offsets: entry i is where record i begins, the last one where the records end."""
        cdef uint64_t count
        cdef uint64_t[::1] offsets
        self.map.check()
        if self.table is not None:
            return 0
        with nogil:
            count = _walk(self.map.start, self.map.size, NULL)
        table = numpy.empty(count + 1, dtype=numpy.uint64)
        offsets = table
        with nogil:
            _walk(self.map.start, self.map.size, &offsets[0])
        end = int(table[count])
        reasons = ()
        if self.declared:
            if (count, end - 64) != self.declared:
                reasons += (f"{count} of {self.declared[0]} records could be walked, then a length is damaged",)
            if self.size_bytes != 128 + self.declared[1]:
                reasons += ("something stands behind the footer",)
        elif end < self.size_bytes:
            reasons += (f"{self.size_bytes - end} bytes at the end are no whole record",)
        status = "finalized" if self.declared and not reasons else "growing" if self.unfinalized and not self.declared else "recovered"
        rest = self.size_bytes - end - (64 if self.declared else 0)
        self.found = FileReport(status, count, 0, rest, reasons)
        self.offsets = offsets
        self.table = table
        return 0

    def check(self):
        """Raises FormatError when the file has been cut since it was opened."""
        self.map.check()

    @property
    def report(self):
        """What was found; makes the table of offsets. Raises FormatError when the file has been cut since."""
        self.ready()
        return self.found

    def __len__(self):
        self.ready()
        return self.found.records

    def record(self, i):
        """Detail `i` as a DetailRecord. UsageError when there is no such detail."""
        self.ready()
        if not 0 <= i < self.found.records:
            raise UsageError(f"{self.path}: has {self.found.records} details, no number {i}")
        cdef Py_ssize_t position = i
        cdef uint64_t at = self.offsets[position], end = self.offsets[position + 1]
        cdef atf_detail_record head
        memcpy(&head, self.map.start + at, sizeof(head))
        return DetailRecord(head.event_type, head.index_seq, head.thread_id, head.timestamp, self.view[at + sizeof(head):end])

    def of_event(self, index_seq, detail_seq):
        """The detail of the event at `index_seq` whose detail_seq is given, or None: it has none, or the link is broken.

        A link counts when it leads there and back. `broken_links` lists those that do not.
        """
        self.ready()
        if detail_seq >= self.found.records:
            return None
        record = self.record(detail_seq)
        return record if record.index_seq == index_seq else None

    def containing(self, uint16_t type, const uint8_t[::1] sought, uint64_t first=0, uint64_t last=0xFFFFFFFFFFFFFFFF):
        """Numbers (uint32, shape (M,)) of the details of a type, from `first` up to `last`, in whose payload the bytes `sought` stand."""
        self.ready()
        cdef uint64_t i, end = min(last, <uint64_t>self.found.records), n = 0
        cdef size_t size = sought.shape[0]
        cdef const char *at
        cdef atf_detail_record head
        result = numpy.empty(end - first if end > first else 0, dtype=numpy.uint32)
        cdef uint32_t[::1] out = result
        if size == 0:
            raise UsageError("nothing is sought: give at least one byte")
        with nogil:
            for i in range(first, end):
                at = self.map.start + self.offsets[i]
                memcpy(&head, at, sizeof(head))
                # Its length by the table, not by the file, which may be cut just now and read as zeros.
                if head.event_type == type and memmem(at + sizeof(head), self.offsets[i + 1] - self.offsets[i] - sizeof(head), &sought[0], size) != NULL:
                    out[n] = <uint32_t>i
                    n += 1
        return result[:n].copy()

    def broken_links(self, const atf_event[::1] events):
        """Positions of the events (uint32, shape (M,)) whose detail_seq does not lead to a detail that leads back."""
        self.ready()
        cdef uint64_t count = self.found.records
        cdef uint32_t back
        cdef Py_ssize_t i, n = 0
        result = numpy.empty(events.shape[0], dtype=numpy.uint32)
        cdef uint32_t[::1] out = result
        with nogil:
            for i in range(events.shape[0]):
                if events[i].detail_seq == ATF_NO_DETAIL:
                    continue
                if events[i].detail_seq < count:
                    memcpy(&back, self.map.start + self.offsets[events[i].detail_seq] + 8, 4)
                    if back == <uint32_t>i:
                        continue
                out[n] = <uint32_t>i
                n += 1
        return result[:n].copy()

    def verify(self):
        """True or False: the footer's CRC-32 fits the records; None: there is none to compare with."""
        if not self.declared or not self.stored_crc32:
            return None
        self.map.check()
        return zlib.crc32(self.view[64:]) == self.stored_crc32
