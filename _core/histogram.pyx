"""Counts times in logarithmic buckets, group by group, without the GIL.

Bucket 0 is the time 0; a time t of e + 1 bits has bucket 1 + 16 * e + m, where m is the four bits below its highest one. So a
time below 32 has a bucket of its own, and no bucket is wider than a sixteenth of its times.
"""

import numpy

from libc.stdint cimport int64_t, uint32_t, uint64_t
from atf._core.errors import UsageError

cdef extern from *:
    """
    static inline unsigned atf_bucket(uint64_t t)
    {
        if (!t) return 0;
        unsigned e = 63u - (unsigned)__builtin_clzll(t);
        return 1 + 16 * e + (unsigned)((e < 4 ? t << (4 - e) : t >> (e - 4)) & 15);
    }
    """
    unsigned atf_bucket(uint64_t t) nogil

BUCKETS = 2048  # more than there are


def middle_of(bucket):
    """The time in the middle of a bucket: at most 1/32 off any time in it."""
    if bucket == 0:
        return 0
    e, m = divmod(bucket - 1, 16)
    low, after = (16 + m) << e >> 4, (17 + m) << e >> 4
    return (low + max(low, after - 1)) // 2


def histogram(const uint64_t[::1] times, const uint32_t[::1] key, const uint32_t[::1] group, uint32_t groups):
    """(codes, counts): group * BUCKETS + bucket (int64, rising) of all buckets that have times, and how many (uint64).

    key: one a time; group: the group of each key, below `groups`.
    """
    cdef Py_ssize_t n = times.shape[0], i
    cdef uint32_t g, bucket
    cdef int64_t place, filled = 0, cells = 0
    if key.shape[0] != n or (n and (numpy.max(key) >= group.shape[0] or numpy.max(group) >= groups)):
        raise UsageError("key and group do not fit the times: one key a time, one group a key, groups below their number")
    first_array = numpy.full(groups + 1, BUCKETS, dtype=numpy.uint32)
    last_array = numpy.zeros(groups + 1, dtype=numpy.uint32)
    begin_array = numpy.zeros(groups + 1, dtype=numpy.int64)  # where a group's cells begin, less its first bucket
    cdef uint32_t[::1] first = first_array, last = last_array
    cdef int64_t[::1] begin = begin_array
    with nogil:
        for i in range(n):
            g = group[key[i]]
            bucket = atf_bucket(times[i])
            if bucket < first[g]:
                first[g] = bucket
            if bucket > last[g]:
                last[g] = bucket
        for g in range(groups):
            begin[g] = cells - first[g]
            if last[g] >= first[g]:
                cells += last[g] - first[g] + 1
    cell_array = numpy.zeros(cells + 1, dtype=numpy.uint32)  # a thread has fewer than 2^32 spans
    cdef uint32_t[::1] cell = cell_array
    with nogil:
        for i in range(n):
            g = group[key[i]]
            place = begin[g] + atf_bucket(times[i])
            filled += cell[place] == 0
            cell[place] += 1
    codes_array, counts_array = numpy.empty(filled, dtype=numpy.int64), numpy.empty(filled, dtype=numpy.uint64)
    cdef int64_t[::1] codes = codes_array
    cdef uint64_t[::1] counts = counts_array
    filled = 0
    with nogil:
        for g in range(groups):
            for bucket in range(first[g], last[g] + 1):
                if cell[begin[g] + bucket]:
                    codes[filled] = <int64_t>g * 2048 + bucket
                    counts[filled] = cell[begin[g] + bucket]
                    filled += 1
    return codes_array, counts_array
