"""Matches calls and returns into spans: columns of numpy arrays, one row a span, without the GIL.

The rules of matching stand in docs/format.md ("Spans"); tests/oracle.py is the same in slow Python.
"""

import numpy

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from atf._core.errors import FormatError, UsageError
from atf._core.idmap cimport atf_idmap, atf_idmap_free, atf_idmap_init
from atf._core.layout cimport atf_event, ATF_CALL, ATF_RESUME

cdef extern from "totals.h" nogil:
    ctypedef struct atf_columns:
        uint64_t *start_ns
        uint64_t *end_ns
        uint64_t *active_ns
        uint64_t *self_ns
        uint32_t *function
        uint32_t *depth
        uint32_t *call_seq
        uint32_t *end_seq
        uint32_t *child_count
        int64_t *parent
        uint8_t *status
    ctypedef struct atf_span_counts:
        uint64_t returns_without_call, yields_without_call, resumes_without_call, gaps, events_lost
    ctypedef struct atf_matcher:
        atf_span_counts counts
        atf_idmap map
        uint64_t *function_ids
        uint32_t function_count
        uint32_t row_count
    void atf_match_start(atf_matcher *m)
    int atf_match_some(atf_matcher *m, const atf_event *events, uint64_t start, uint64_t end)
    int atf_match_end(atf_matcher *m, uint64_t trace_end_ns)
    void atf_match_free(atf_matcher *m)
    void atf_spread(const atf_matcher *m, const atf_event *events, uint64_t trace_end_ns, const atf_columns *c, uint64_t base, uint32_t functions)
    ctypedef struct atf_totals:
        uint64_t *count
        uint64_t *total_ns
        uint64_t *active_ns
        uint64_t *self_ns
        uint64_t *min_ns
        uint64_t *max_ns
        uint64_t *exceptions
        uint32_t *on_path
        int64_t *path
    void atf_sum(const atf_columns *c, const uint32_t *key, const uint32_t *group, uint64_t rows, atf_totals *t)

STATUS = ("ok", "exception", "unwound", "open", "lost", "untimed")
NO_SEQ = 0xFFFFFFFF

_COLUMNS = {
    "start_ns": "u8", "end_ns": "u8", "active_ns": "u8", "self_ns": "u8", "function": "u4", "depth": "u4", "call_seq": "u4",
    "end_seq": "u4", "child_count": "u4", "parent": "i8", "status": "u1",
}


class SpanColumns:
    """Spans as columns: numpy arrays of shape (N,), the rows of a thread together, in the order of their calls.

    start_ns, end_ns: uint64. active_ns: wall time without the time it was suspended. self_ns: active time without
    what ran directly above. function: uint32, a row of `function_ids` (uint64) and `function_space` (uint32).
    thread: uint32, position in the list of arrays. depth: uint32, 1 for a span without a parent. call_seq, end_seq:
    uint32 positions in index.atf, NO_SEQ where nothing ended it. parent: int64 row, -1: none. child_count: uint32.
    status: uint8, position in STATUS. thread_rows: int64, shape (threads + 1,): where each thread's rows begin.
    counts: {returns_without_call, yields_without_call, resumes_without_call, gaps, events_lost}.
    """

    __slots__ = (*_COLUMNS, "thread", "thread_rows", "function_ids", "function_space", "counts")

    def __len__(self):
        return len(self.start_ns)

    @property
    def function_id(self):
        """The function id of every row: uint64, shape (N,); a new array."""
        return self.function_ids[self.function]


cdef atf_columns _pointers(result):
    cdef atf_columns c
    cdef uint64_t[::1] u8
    cdef uint32_t[::1] u4
    cdef int64_t[::1] i8
    cdef uint8_t[::1] u1
    memset(&c, 0, sizeof(c))
    if len(result.start_ns) == 0:
        return c
    u8 = result.start_ns; c.start_ns = &u8[0]
    u8 = result.end_ns; c.end_ns = &u8[0]
    u8 = result.active_ns; c.active_ns = &u8[0]
    u8 = result.self_ns; c.self_ns = &u8[0]
    u4 = result.function; c.function = &u4[0]
    u4 = result.depth; c.depth = &u4[0]
    u4 = result.call_seq; c.call_seq = &u4[0]
    u4 = result.end_seq; c.end_seq = &u4[0]
    u4 = result.child_count; c.child_count = &u4[0]
    i8 = result.parent; c.parent = &i8[0]
    u1 = result.status; c.status = &u1[0]
    return c


cdef uint64_t _rows_of(const atf_event[::1] events) noexcept nogil:
    """An upper bound: a RESUME makes a row only when nothing was suspended."""
    cdef uint64_t n = 0
    cdef Py_ssize_t i
    for i in range(events.shape[0]):
        n += (events[i].event_kind == ATF_CALL) | (events[i].event_kind == ATF_RESUME)
    return n


cdef class _Matcher:
    cdef atf_matcher m

    def __cinit__(self):
        memset(&self.m, 0, sizeof(self.m))

    def __dealloc__(self):
        atf_match_free(&self.m)

    cdef int next_space(self) except -1:
        """Function ids are a process's own: a new process begins with an empty map."""
        atf_idmap_free(&self.m.map)
        self.m.function_count = 0
        if not atf_idmap_init(&self.m.map):
            raise MemoryError
        return 0


def match(arrays, end_ns=None, spaces=None):
    """The spans of all threads as SpanColumns.

    arrays: one structured array of events a thread (`layout.EVENT_DTYPE`, contiguous). end_ns: when the trace ended,
    which is where open spans end; default: the latest timestamp. spaces: the number of the process of each
    array, non-decreasing; default: all of one process. end_ns may also be a list with one end for each array.
    """
    cdef const atf_event[::1] events
    cdef _Matcher matcher = _Matcher()
    cdef atf_matcher *m = &matcher.m
    cdef uint64_t rows = 0, begin = 0, last_ns
    cdef atf_columns c
    cdef uint32_t base = 0
    cdef int done
    arrays = list(arrays)
    spaces = [0] * len(arrays) if spaces is None else list(spaces)
    if len(spaces) != len(arrays) or spaces != sorted(spaces):
        raise UsageError("spaces: give one number for each array, in rising order")
    if end_ns is None:
        end_ns = max((int(a["timestamp_ns"].max()) for a in arrays if len(a)), default=0)
    ends = list(end_ns) if isinstance(end_ns, (list, tuple)) else [end_ns] * len(arrays)
    if len(ends) != len(arrays):
        raise UsageError("end_ns: give one end, or one for each array")
    for array in arrays:
        events = array
        if events.shape[0] > 0xFFFFFFFF:
            raise FormatError(f"a thread of {events.shape[0]} events: positions are 32-bit numbers")
        with nogil:
            rows += _rows_of(events)
    result = SpanColumns()
    for name, kind in _COLUMNS.items():
        setattr(result, name, numpy.empty(rows, dtype=kind))
    c = _pointers(result)
    ids, id_spaces, starts = [], [], [0]
    for number, array in enumerate(arrays):
        if number == 0 or spaces[number] != spaces[number - 1]:
            matcher.next_space()
        events = array
        last_ns = ends[number]
        atf_match_start(m)
        if events.shape[0]:
            with nogil:
                done = atf_match_some(m, &events[0], 0, events.shape[0]) and atf_match_end(m, last_ns)
                if done:
                    atf_spread(m, &events[0], last_ns, &c, begin, base)
            if not done:
                raise MemoryError
        begin += m.row_count
        starts.append(begin)
        if number + 1 == len(arrays) or spaces[number + 1] != spaces[number]:
            ids.append(numpy.array([m.function_ids[i] for i in range(m.function_count)], dtype=numpy.uint64))
            id_spaces.append(numpy.full(m.function_count, spaces[number], dtype=numpy.uint32))
            base += m.function_count
    for name in _COLUMNS:
        setattr(result, name, getattr(result, name)[:begin])
    result.thread_rows = numpy.array(starts, dtype=numpy.int64)
    result.thread = numpy.repeat(numpy.arange(len(arrays), dtype=numpy.uint32), numpy.diff(result.thread_rows))
    result.function_ids = numpy.concatenate(ids) if ids else numpy.empty(0, dtype=numpy.uint64)
    result.function_space = numpy.concatenate(id_spaces) if ids else numpy.empty(0, dtype=numpy.uint32)
    result.counts = dict(m.counts)
    return result


def totals(columns, const uint32_t[::1] key, const uint32_t[::1] group, uint32_t groups):
    """Sums by group: {count, total_ns, active_ns, self_ns, min_ns, max_ns, exceptions}, each uint64 of shape (groups,).

    key: one of the columns `function` or `thread`; group: the group of each value of the key, below `groups`.
    Times are active times. active_ns is the plain sum; total_ns leaves out spans that have a span of the same group
    above them, so that recursion counts once.
    """
    cdef atf_totals t
    cdef uint64_t[::1] view
    cdef uint32_t[::1] on_path
    cdef int64_t[::1] path
    cdef atf_columns c = _pointers(columns)
    cdef uint64_t rows = len(columns)
    names = ("count", "total_ns", "active_ns", "self_ns", "min_ns", "max_ns", "exceptions")
    result = {name: numpy.zeros(groups, dtype=numpy.uint64) for name in names}
    if rows == 0 or groups == 0:
        return result
    if <uint64_t>key.shape[0] != rows or numpy.max(key) >= group.shape[0] or numpy.max(group) >= groups:
        raise UsageError("key and group do not fit the columns: one key a row, one group a key, groups below their number")
    view = result["count"]; t.count = &view[0]
    view = result["total_ns"]; t.total_ns = &view[0]
    view = result["active_ns"]; t.active_ns = &view[0]
    view = result["self_ns"]; t.self_ns = &view[0]
    view = result["min_ns"]; t.min_ns = &view[0]
    view = result["max_ns"]; t.max_ns = &view[0]
    view = result["exceptions"]; t.exceptions = &view[0]
    on_path = numpy.zeros(groups, dtype=numpy.uint32); t.on_path = &on_path[0]
    path = numpy.empty(int(columns.depth.max()), dtype=numpy.int64); t.path = &path[0]
    with nogil:
        atf_sum(&c, &key[0], &group[0], rows, &t)
    return result


def children_of(columns):
    """(first, rows): the children of row i are rows[first[i]:first[i + 1]], in the order of their calls; int64 arrays."""
    cdef Py_ssize_t n = len(columns), i
    cdef const int64_t[::1] parent = columns.parent
    first_array = numpy.zeros(n + 1, dtype=numpy.int64)
    numpy.cumsum(columns.child_count, out=first_array[1:])
    rows_array = numpy.empty(int(first_array[n]), dtype=numpy.int64)
    next_array = first_array[:n].copy()
    cdef int64_t[::1] rows = rows_array, place = next_array
    with nogil:
        for i in range(n):
            if parent[i] >= 0:
                rows[place[parent[i]]] = i
                place[parent[i]] += 1
    return first_array, rows_array
