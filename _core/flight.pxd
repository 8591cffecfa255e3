"""The structs of the flight recorder's part of the drain, see flight.h."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "flight.h" nogil:
    ctypedef struct atf_window:
        uint64_t start_ns, end_ns, mark_ns, marks, settled_ns
        uint32_t rule, version
    ctypedef struct atf_windows:
        atf_window *list
        uint32_t n
    ctypedef struct atf_rule:
        uint32_t kind
        uint64_t threshold_ns
        char text[120]
    ctypedef struct atf_rules:
        uint32_t version, n, named, timed, other, asked
        atf_rule rules[31]
    ctypedef struct atf_store:
        uint64_t blocks, used, most
    ctypedef struct atf_sighting:
        pass
    ctypedef struct atf_asked:
        uint64_t put, taken, answered, missed
    ctypedef struct atf_flight:
        uint32_t keep
        uint64_t pre_ns, post_ns, marks, cut_items, decided_ns
        atf_rules policy
        atf_windows windows
        atf_store store
        atf_asked asked
    ctypedef struct atf_functions:
        uint32_t used
    ctypedef struct atf_named:
        uint32_t rules
        uint64_t first_ns, last_ns
    atf_named *atf_functions_at(atf_functions *f, uint64_t id)
    int atf_flight_open(atf_flight *f, uint32_t keep, uint64_t pre_ns, uint64_t post_ns, uint64_t history_bytes)
    void atf_flight_mark(atf_flight *f, uint64_t ns, uint32_t rule)
    void atf_flight_keep(atf_flight *f, uint64_t start_ns, uint64_t end_ns, uint64_t mark_ns, uint32_t rule)
    uint32_t atf_asked_take(atf_asked *a, atf_sighting *to, uint32_t most)
    uint64_t BLOCK_BYTES "ATF_BLOCK_BYTES"
