"""TraceEvent and what makes one, for cimport."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef class TraceEvent:
    cdef readonly str event_type, component, model_id, request_id, rationale, decision_chain_id, parent_id, trace_id, span_id
    cdef readonly object severity
    cdef readonly int64_t timestamp_ns, duration_ns
    cdef uint64_t id_high, id_low
    cdef dict said  # the attributes

cdef int fill(TraceEvent e, event_type, component, rationale, model_id, request_id, severity, timestamp, duration, attributes,
              decision_chain_id, parent_id, trace_id, span_id, traceparent) except -1
cdef int give_id(TraceEvent e) except -1
cdef str id_text(uint64_t high, uint64_t low)
cdef int id_parsed(object text, uint64_t *high, uint64_t *low) except -1
cdef uint32_t own_thread() noexcept
