"""Numbers of the drain as Python values."""

from libc.stdint cimport uint32_t

from atf._core.drain cimport atf_output
from atf._core.pressure cimport atf_periods, atf_pressure

cdef list threads_of(const atf_output *outputs, uint32_t n)
cdef dict overload_of(const atf_output *outputs, uint32_t n, const atf_pressure *shared, const atf_periods *of)
