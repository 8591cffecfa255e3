"""Timestamp and Duration, for cimport: exact integers of nanoseconds."""

from libc.stdint cimport int64_t

cdef class Duration:
    cdef readonly int64_t ns

cdef class Timestamp:
    cdef readonly int64_t ns
