"""The structs and functions of the drain that its Cython face touches, see engine.h and flight.h."""

from libc.stdint cimport uint32_t, uint64_t

from atf._core.flight cimport atf_flight, atf_functions
from atf._core.pressure cimport atf_periods, atf_pressure

cdef extern from "engine.h" nogil:
    ctypedef struct atf_writer:
        uint64_t events, details, detail_bytes, time_start_ns, time_end_ns
        uint32_t carried
    ctypedef struct atf_thread_metrics:
        uint64_t gaps, filtered, held, details_held, details_seen, swaps, detail_swaps, taken_back, details_refused, blocked_ns, rate
        uint32_t most_full
    ctypedef struct atf_source_metrics:
        uint64_t passes, write_ns, lag_ns, lag_second_ns, lag_most_ns, gone
    ctypedef struct atf_output:
        uint32_t number, tid, entered, finished, in_earlier
        uint64_t expected, pending_lost, from_ "from"
        uint64_t lost[8]
        uint64_t details_lost, details_unkept, orphans
        atf_thread_metrics m
        atf_pressure pressure[2]
        atf_writer w
        char name[48]
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
    ctypedef struct atf_turns:
        uint64_t let_by
    ctypedef struct atf_engine:
        atf_turns turns
        uint64_t cpu_ns, flush_ns, cycles
        int running
        atf_flight *flight
        atf_parts *parts

cdef extern from "parts.h" nogil:
    ctypedef struct atf_left:
        atf_left *next
        const atf_source *source
        uint32_t part, n
        uint64_t ended_ns
        atf_output *outputs
        atf_pressure pressure
        atf_periods periods
    ctypedef struct atf_parts:
        uint32_t number, waiting
        int asked
        atf_left *left
        atf_left **last
