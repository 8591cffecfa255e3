"""Makes span indexes: from the events of a thread to the bytes that docs/format-index.md describes, without the GIL."""

import os

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from atf._core.errors import FormatError
from atf._core.index cimport atf_sample, atf_section_offset, atf_source, atf_spans_header, ATF_SECTIONS
from atf._core.layout cimport atf_event

cdef extern from "index_write.h" nogil:
    ctypedef struct atf_matcher:
        uint32_t row_count
    ctypedef struct atf_builder:
        atf_matcher m
    int atf_build_start(atf_builder *b)
    int atf_match_some(atf_matcher *m, const atf_event *events, uint64_t start, uint64_t end)
    int atf_build_end(atf_builder *b, const atf_event *events, uint64_t trace_end_ns)
    void atf_build_free(atf_builder *b)
    atf_spans_header atf_header_of(const atf_builder *b, const atf_source *source)
    int atf_index_write(const atf_builder *b, atf_spans_header h, int fd, char *memory)

cdef uint64_t STEP = 1 << 20 # events between two looks at `stop`


def source_of(const atf_event[::1] events, uint64_t size_bytes, uint64_t modified_ns, uint32_t crc32, uint64_t trace_end_ns):
    """What an index of these events is known by: bytes. Looks at no more than 64 KiB of the events.

    size_bytes, modified_ns: of index.atf. crc32: of its footer, 0: none. trace_end_ns: where open spans end.
    """
    cdef atf_source source
    memset(&source, 0, sizeof(source))
    source.bytes, source.modified_ns, source.crc32, source.trace_end_ns = size_bytes, modified_ns, crc32, trace_end_ns
    source.event_count = events.shape[0]
    source.checksum = atf_sample(&events[0] if events.shape[0] else NULL, events.shape[0])
    return PyBytes_FromStringAndSize(<char *>&source, sizeof(source))


cdef class Builder:
    """Makes one index after the other, in memory that it keeps: about 60 bytes a span of the largest thread. One thread at a time."""

    cdef atf_builder b
    cdef atf_spans_header header
    cdef bint built

    def __cinit__(self):
        memset(&self.b, 0, sizeof(self.b))

    def __dealloc__(self):
        atf_build_free(&self.b)

    def build(self, const atf_event[::1] events, bytes source, stop=None):
        """The index of a thread, held until the next one; returns its size in bytes. source: of `source_of`.

        stop: called now and then; what it raises ends the work. FormatError: more than 2**32 - 1 events.
        """
        cdef atf_source of
        cdef uint64_t count = events.shape[0], done = 0, to
        cdef int ok
        cdef const char *given = source
        if count > 0xFFFFFFFF:
            raise FormatError(f"a thread of {count} events: positions are 32-bit numbers")
        if len(source) != sizeof(of):
            raise FormatError(f"the source of an index is {sizeof(of)} bytes, not {len(source)}")
        of = (<const atf_source *>given)[0]
        self.built = False
        if not atf_build_start(&self.b):
            raise MemoryError
        while done < count:
            to = min(done + STEP, count)
            with nogil:
                ok = atf_match_some(&self.b.m, &events[0], done, to)
            if not ok:
                raise MemoryError
            done = to
            if stop is not None:
                stop()
        with nogil:
            ok = atf_build_end(&self.b, &events[0] if count else NULL, of.trace_end_ns)
        if not ok:
            raise MemoryError
        self.header = atf_header_of(&self.b, &of)
        self.built = True
        return atf_section_offset(&self.header, ATF_SECTIONS)

    def write(self, int fd):
        """Writes the index to an open file, from its start on. OSError when that cannot be done."""
        cdef int error
        if not self.built:
            raise FormatError("nothing was built")
        os.ftruncate(fd, atf_section_offset(&self.header, ATF_SECTIONS))
        with nogil:
            error = atf_index_write(&self.b, self.header, fd, NULL)
        if error:
            raise OSError(error, os.strerror(error))

    def to_bytes(self):
        """The index in memory: a bytearray."""
        cdef int error
        if not self.built:
            raise FormatError("nothing was built")
        made = bytearray(atf_section_offset(&self.header, ATF_SECTIONS))
        cdef char *memory = made
        with nogil:
            error = atf_index_write(&self.b, self.header, -1, memory)
        if error:
            raise MemoryError
        return made
