"""Sums the spans of one thread by group in one pass over its events, without making the spans and without the GIL."""

import numpy

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from atf._core.errors import UsageError
from atf._core.idmap cimport atf_idmap, atf_idmap_free, atf_idmap_get, atf_idmap_init, atf_idmap_put, ATF_IDMAP_NONE
from atf._core.layout cimport atf_event

cdef extern from "sums.h" nogil:
    enum: ATF_BUCKETS, ATF_SUMMED, ATF_SUMS_NO_MEMORY, ATF_SUMS_SUSPENDS, ATF_SUMS_UNKNOWN
    unsigned atf_bucket(uint64_t t)
    ctypedef struct atf_sum_of:
        uint64_t count, total_ns, active_ns, self_ns, min_ns, max_ns, exceptions
    ctypedef struct atf_open_span:
        pass
    ctypedef struct atf_summer:
        const atf_idmap *map
        const uint32_t *group
        uint32_t *open
        atf_sum_of *sums
        uint32_t *cells
        atf_open_span *stack
        uint32_t gaps
        uint64_t spans, returns_without_call, gap_count, events_lost
    int atf_sum_spans(atf_summer *m, const atf_event *events, uint64_t count, uint64_t trace_end_ns)

# Code of a bucket of a group: group * BUCKETS + bucket.
BUCKETS = 2048


def middle_of(bucket):
    """The time in the middle of a bucket: at most 1/32 off any time in it.

    Bucket 0 is the time 0; a time of e + 1 bits has bucket 1 + 16 * e + m, where m is the four bits below its highest one.
    """
    if bucket == 0:
        return 0
    e, m = divmod(bucket - 1, 16)
    low, after = (16 + m) << e >> 4, (17 + m) << e >> 4
    return (low + max(low, after - 1)) // 2


cdef class Groups:
    """Which group each function is in. ids: function ids, each once; group: the group of each. Several threads may use it at once."""

    cdef atf_idmap map
    cdef uint32_t[::1] group
    cdef readonly uint32_t groups

    def __cinit__(self, ids, group):
        cdef uint64_t id
        cdef uint32_t number = 0
        memset(&self.map, 0, sizeof(self.map))
        if not atf_idmap_init(&self.map):
            raise MemoryError
        self.group = numpy.array([*group, 0], dtype=numpy.uint32)  # never empty
        self.groups = max(group) + 1 if len(group) else 0
        if len(ids) != len(group):
            raise UsageError("group: give one for each id")
        for id in ids:
            if atf_idmap_get(&self.map, id) != ATF_IDMAP_NONE:
                raise UsageError(f"ids: {id:#x} is there twice")
            if not atf_idmap_put(&self.map, id, number):
                raise MemoryError
            number += 1

    def __dealloc__(self):
        atf_idmap_free(&self.map)

    def __len__(self):
        return len(self.group) - 1


cdef class _Memory:
    cdef atf_summer m
    cdef readonly object size

    def __cinit__(self, size_t functions, size_t groups):
        memset(&self.m, 0, sizeof(self.m))
        self.size = (functions, groups)
        self.m.open = <uint32_t *>calloc(functions + 1, sizeof(uint32_t))
        self.m.sums = <atf_sum_of *>calloc(groups + 1, sizeof(atf_sum_of))
        self.m.cells = <uint32_t *>calloc((groups + 1) * ATF_BUCKETS, sizeof(uint32_t))
        if self.m.open == NULL or self.m.sums == NULL or self.m.cells == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.m.open)
        free(self.m.sums)
        free(self.m.cells)
        free(self.m.stack)


# Memory of the last threads that were summed, all zeros again: pages that are there already are quicker than new ones.
_spare = []
_SPARES, _SPARE_GROUPS = 4, 8000


cdef _Memory _take(size):
    for i in range(len(_spare)):
        if _spare[i].size == size:
            return _spare.pop(i)
    return _Memory(*size)


def sum_spans(const atf_event[::1] events, Groups groups, uint64_t end_ns):
    """(sums, codes, spans, counts) of the spans of one thread, as `spans.totals` and a count of its active times give them.

    sums: {count, total_ns, active_ns, self_ns, min_ns, max_ns, exceptions}, uint64 of shape (groups,). codes: int64, rising,
    of the buckets of active times that have spans; spans: how many (uint64). counts: those of SpanColumns, and spans.
    None: the thread suspends and resumes, `spans.match` is needed. KeyError: it calls a function that `groups` lacks.
    """
    cdef uint32_t n = groups.groups, g, bucket, cell
    cdef _Memory memory = _take((len(groups), n))
    cdef atf_summer *m = &memory.m
    cdef int64_t filled = 0
    cdef int done = ATF_SUMMED
    m.map, m.group = &groups.map, &groups.group[0]
    if events.shape[0]:
        with nogil:
            done = atf_sum_spans(m, &events[0], events.shape[0], end_ns)
    if done == ATF_SUMS_NO_MEMORY:
        raise MemoryError
    if done == ATF_SUMS_SUSPENDS:
        return None
    if done == ATF_SUMS_UNKNOWN:
        raise KeyError("a function that the groups lack")
    names = ("count", "total_ns", "active_ns", "self_ns", "min_ns", "max_ns", "exceptions")
    table = numpy.empty((7, n), dtype=numpy.uint64)
    cdef uint64_t[:, ::1] out = table
    with nogil:
        for g in range(n):
            out[0, g], out[1, g], out[2, g], out[3, g] = m.sums[g].count, m.sums[g].total_ns, m.sums[g].active_ns, m.sums[g].self_ns
            out[4, g], out[5, g], out[6, g] = m.sums[g].min_ns, m.sums[g].max_ns, m.sums[g].exceptions
            if m.sums[g].count:
                for bucket in range(atf_bucket(m.sums[g].min_ns), atf_bucket(m.sums[g].max_ns) + 1):
                    filled += m.cells[<size_t>g * ATF_BUCKETS + bucket] != 0
    codes_array, spans_array = numpy.empty(filled, dtype=numpy.int64), numpy.empty(filled, dtype=numpy.uint64)
    cdef int64_t[::1] codes = codes_array
    cdef uint64_t[::1] spans = spans_array
    filled = 0
    with nogil:
        for g in range(n):
            if m.sums[g].count:
                for bucket in range(atf_bucket(m.sums[g].min_ns), atf_bucket(m.sums[g].max_ns) + 1):
                    cell = m.cells[<size_t>g * ATF_BUCKETS + bucket]
                    if cell:
                        codes[filled], spans[filled] = <int64_t>g * 2048 + bucket, cell
                        filled += 1
                        m.cells[<size_t>g * ATF_BUCKETS + bucket] = 0
    counts = {
        "spans": m.spans, "returns_without_call": m.returns_without_call, "yields_without_call": 0, "resumes_without_call": 0,
        "gaps": m.gap_count, "events_lost": m.events_lost,
    }
    memset(m.sums, 0, n * sizeof(atf_sum_of))
    m.spans = m.returns_without_call = m.gap_count = m.events_lost = m.gaps = 0
    if n <= _SPARE_GROUPS and len(_spare) < _SPARES:
        _spare.append(memory)
    return dict(zip(names, table)), codes_array, spans_array, counts


def histogram(const uint64_t[::1] times, const uint32_t[::1] key, const uint32_t[::1] group):
    """(codes, spans) of times of spans that were matched. key: one a time, whose group is group[key]."""
    cdef Py_ssize_t n = times.shape[0], i
    if key.shape[0] != n or (n and numpy.max(key) >= group.shape[0]):
        raise UsageError("key and group do not fit the times: one key a time, one group a key")
    codes_array = numpy.empty(n, dtype=numpy.int64)
    cdef int64_t[::1] codes = codes_array
    with nogil:
        for i in range(n):
            codes[i] = <int64_t>group[key[i]] * 2048 + atf_bucket(times[i])
    found, spans = numpy.unique(codes_array, return_counts=True)
    return found, spans.astype(numpy.uint64)
