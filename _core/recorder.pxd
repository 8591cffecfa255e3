"""The record path of producer.h, and this process's recorder, for cimport."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from atf._core.layout cimport atf_event
from atf._core.shm cimport atf_control, atf_global_lane, atf_registry, atf_slot

cdef extern from "producer.h" nogil:
    ctypedef struct atf_thread:
        uint32_t tid, depth, number, clock_type
        uint64_t seq_base, count
        atf_slot *slot
    ctypedef struct atf_session:
        atf_control *control
        uint32_t serial
    atf_session atf_current
    atf_thread *atf_enter()
    void atf_write(atf_thread *t, uint32_t kind, uint64_t function_id, uint32_t depth, uint32_t detail)
    void atf_write_at(atf_thread *t, uint64_t ticks, uint32_t kind, uint64_t function_id, uint32_t depth, uint32_t detail)
    void atf_write_kept(atf_thread *t, const atf_event *e)
    uint32_t atf_detail(atf_thread *t, uint16_t type, const void *payload, uint32_t bytes, uint64_t ticks)
    int atf_name_put(uint32_t kind, uint64_t id, uint32_t line, const char *name, size_t name_bytes, const char *file, size_t file_bytes)
    void atf_session_open(atf_control *control, atf_registry *registry, atf_global_lane *rings)
    void atf_session_close()
    uint64_t atf_ticks(uint32_t clock_type)

cdef extern from "producer.h":
    void (*atf_thread_named)(atf_thread *t) noexcept  # needs the GIL, which producers hold

cdef bint is_recording() noexcept
cdef int write_event(name, const uint8_t *detail, uint32_t bytes) except -1
