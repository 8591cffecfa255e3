"""What stands in a span index, for cimport."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from atf._core.idmap cimport atf_idmap
from atf._core.layout cimport atf_event

cdef extern from "index.h" nogil:
    enum:
        ATF_SECTIONS, ATF_NO_ROW, ATF_NO_SEQ, ATF_CHILDREN_MANY, ATF_PLACE_DEEP, ATF_SPANS_VERSION
        ATF_SPANS_IN_ORDER, ATF_SPANS_NESTED
    enum:
        ATF_S_CALL_SEQ, ATF_S_END_SEQ, ATF_S_PARENT, ATF_S_DURATION, ATF_S_SELF, ATF_S_PLACE, ATF_S_CHILDREN
        ATF_S_BY_START, ATF_S_BY_DURATION, ATF_S_FUNCTIONS, ATF_S_SUSPENDED, ATF_S_LONG_SELVES
    ctypedef struct atf_exact:
        uint64_t ns
        uint32_t row
    ctypedef struct atf_source:
        uint64_t bytes, modified_ns, event_count, checksum, trace_end_ns
        uint32_t crc32, reserved
    ctypedef struct atf_spans_header:
        char magic[4]
        uint8_t endian, version
        uint16_t flags
        uint32_t rows, functions, suspended, long_selves, deepest
        atf_source source
        uint64_t counts[5]
        uint64_t checksums[12]
        uint64_t checksum
    ctypedef struct atf_span_function:
        uint64_t function_id
        uint32_t first, count
        uint64_t total_ns, active_ns, self_ns, min_ns, max_ns
        uint32_t exceptions, suspended
    ctypedef struct atf_spans:
        const uint32_t *call_seq
        const uint32_t *end_seq
        const uint32_t *parent
        const uint32_t *duration
        const uint32_t *self_ns "self"
        const uint16_t *place
        const uint8_t *children
        const uint32_t *by_start
        const uint32_t *by_duration
        const atf_span_function *functions
        const atf_exact *suspended
        const atf_exact *long_selves
        uint32_t rows, function_count, suspended_count, long_self_count, flags, deepest
        const atf_event *events
        uint64_t event_count, trace_end_ns
        const uint32_t *deep
        int damaged
    uint64_t atf_section_bytes(const atf_spans_header *h, int section)
    uint64_t atf_section_offset(const atf_spans_header *h, int section)
    uint64_t atf_checksum(const void *data, uint64_t bytes)
    uint64_t atf_sample(const atf_event *events, uint64_t count)


cdef class ThreadIndex:
    cdef atf_spans x
    cdef atf_idmap numbers # function id -> its place in the table
    cdef bint numbered
    cdef object keep, deep_array
    cdef readonly object functions, counts, name
    cdef readonly uint32_t rows, deepest
    cdef readonly uint64_t trace_end_ns, size_bytes
    cdef readonly bint in_order, nested
    cdef int whole(self) except -1
    cdef int row_in(self, row) except -1
    cdef int deepen(self) except -1
    cdef int number(self) except -1
