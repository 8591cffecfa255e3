"""States of lanes and the periods in which they were not well, see pressure.h."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "pressure.h" nogil:
    ctypedef struct atf_pressure:
        uint32_t state
        uint32_t entered[4]
    ctypedef struct atf_period:
        uint32_t number, lane, state
        uint64_t start_ns, end_ns, lost
    ctypedef struct atf_periods:
        uint64_t n
        atf_period list[256]
    enum: ATF_PERIODS, ATF_NO_THREAD
