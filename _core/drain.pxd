"""The structs and functions of the drain that its Cython face touches, see engine.h and flight.h."""

from libc.stdint cimport uint32_t, uint64_t

from atf._core.pressure cimport atf_period, atf_periods, atf_pressure

cdef extern from "engine.h" nogil:
    ctypedef struct atf_writer:
        uint64_t events, details, detail_bytes, time_start_ns, time_end_ns
    ctypedef struct atf_thread_metrics:
        uint64_t gaps, filtered, held, details_held, details_seen, swaps, detail_swaps, taken_back, details_refused, blocked_ns, rate
        uint32_t most_full
    ctypedef struct atf_source_metrics:
        uint64_t passes, write_ns, lag_ns, lag_second_ns, lag_most_ns
    ctypedef struct atf_output:
        uint32_t number, tid, entered, finished
        uint64_t expected, pending_lost
        uint64_t lost[8]
        uint64_t details_lost, details_unkept, orphans
        atf_thread_metrics m
        atf_pressure pressure[2]
        atf_writer w
        char name[48]
    ctypedef struct atf_functions:
        uint32_t used
    ctypedef struct atf_source:
        atf_output **outputs
        uint32_t n_outputs
        int disk_error
        uint32_t refused
        uint64_t events, bytes, writes
        atf_source_metrics m
        atf_pressure pressure
        atf_periods periods
        atf_functions functions
        uint64_t named_ns
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
    ctypedef struct atf_turns:
        uint64_t let_by
    ctypedef struct atf_engine:
        atf_turns turns
        uint64_t cpu_ns, flush_ns, cycles
        int running
        atf_flight *flight
