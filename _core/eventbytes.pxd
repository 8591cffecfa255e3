"""How a TraceEvent lies in memory, for cimport."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from atf._core.layout cimport atf_detail_record, atf_event
from atf._core.traceevent cimport TraceEvent

cdef extern from "decision.h" nogil:
    ctypedef struct atf_decision:
        atf_event event
        uint64_t id_high, id_low, duration_ns
        atf_detail_record detail
    ctypedef struct atf_short:
        const char *packed
        uint32_t bytes
    const atf_short atf_decision_keys[1]
    const atf_short atf_decision_severities[4]
    const atf_short atf_decision_name, atf_decision_id
    enum:
        ATF_F_TYPE, ATF_F_COMPONENT, ATF_F_SEVERITY, ATF_F_TIMESTAMP, ATF_F_DURATION, ATF_F_MODEL, ATF_F_REQUEST, ATF_F_RATIONALE
        ATF_F_CHAIN, ATF_F_PARENT, ATF_F_TRACE, ATF_F_SPAN, ATF_F_ATTRIBUTES, ATF_FIELDS

# Bytes that grow: on the stack up to a size, then on the heap.
cdef struct Packed:
    uint8_t *bytes
    uint32_t used, room
    bint surrogates  # a lone one is in it, as three bytes that are no UTF-8
    uint8_t stack[2048]

# Where the value of a field stands; text NULL: it has none.
cdef struct Span:
    const uint8_t *text
    uint32_t bytes

cdef void packed_start(Packed *p) noexcept
cdef void packed_free(Packed *p) noexcept
cdef int pack_event(Packed *p, TraceEvent e, Py_ssize_t most) except -1
cdef int pack_for_trace(Packed *p, Packed *event, TraceEvent e, str name) except -1
cdef int spans_of(const uint8_t *bytes, Span *spans) noexcept
cdef TraceEvent unpack(const atf_decision *head, Span *spans)
