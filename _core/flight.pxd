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
