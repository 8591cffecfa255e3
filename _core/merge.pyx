"""Merges the events of many threads by time, in chunks, with memory that does not grow with the trace.

Order: timestamp, then position of the thread in the list given, then index_seq. Within a thread the order
of the file is kept, also where a damaged timestamp goes backwards.
"""

import numpy

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from atf._core.errors import FormatError, UsageError
from atf._core.idmap cimport atf_idmap, atf_idmap_free, atf_idmap_get, atf_idmap_init, atf_idmap_put, ATF_IDMAP_NONE
from atf._core.layout cimport atf_event, ATF_GAP
from atf._core import layout

cdef extern from "merge.h" nogil:
    int atf_passes(const atf_filter *f, const atf_stream *s, const atf_event *e)
    ctypedef struct atf_batch:
        uint32_t pending, next, size
        uint32_t *start "from"
    uint64_t atf_batch_take(atf_merge *m, atf_batch *b, uint32_t *streams, uint32_t *positions, uint64_t room)


cdef class IdSet:
    """A set of function ids (uint64) that a nogil loop can ask."""

    cdef atf_idmap map

    def __cinit__(self, ids=()):
        if not atf_idmap_init(&self.map):
            raise MemoryError
        cdef uint64_t one
        for one in ids:
            if atf_idmap_get(&self.map, one) == ATF_IDMAP_NONE and not atf_idmap_put(&self.map, one, 0):
                raise MemoryError

    def __dealloc__(self):
        atf_idmap_free(&self.map)

    def __contains__(self, uint64_t id):
        return atf_idmap_get(&self.map, id) != ATF_IDMAP_NONE


cdef const atf_event *_bound(const atf_event *start, const atf_event *end, uint64_t time_ns, bint after) noexcept nogil:
    """The first event at or after (`after`: strictly after) a time."""
    cdef size_t left = end - start, half
    while left:
        half = left // 2
        if start[half].timestamp_ns < time_ns or (after and start[half].timestamp_ns == time_ns):
            start += half + 1
            left -= half + 1
        else:
            left = half
    return start


cdef class Merge:
    """The events of several threads inside [start_ns, end_ns], both inclusive, that pass a filter.

    arrays: one structured array of events a thread (`layout.EVENT_DTYPE`, contiguous).
    kinds: the kinds that pass, as a bit mask (bit k: kind k; bit 0: kinds from 32 on). functions: None, or one
    IdSet (or None: all) an array. min_depth, max_depth: bounds of call_depth, inclusive.

    The window is found by binary search, so it supposes timestamps that do not decrease within a thread.
    """

    cdef atf_merge merge
    cdef atf_batch *batch # made on the first take: counting needs none
    cdef object keep
    cdef bint busy

    def __cinit__(
        self, arrays, uint64_t start_ns=0, uint64_t end_ns=0xFFFFFFFFFFFFFFFF, *,
        uint32_t kinds=0xFFFFFFFF, functions=None, uint32_t min_depth=0, uint32_t max_depth=0xFFFFFFFF,
    ):
        cdef const atf_event[::1] events
        cdef const atf_event *first
        cdef uint32_t leaves = 1, i = 0
        arrays = list(arrays)
        if functions is not None and len(functions) != len(arrays):
            raise UsageError(f"functions has {len(functions)} entries for {len(arrays)} arrays; give one each")
        while leaves < len(arrays):
            leaves *= 2
        self.keep = (arrays, functions)
        self.merge.count = <uint32_t>len(arrays)
        self.merge.leaves = leaves
        self.merge.streams = <atf_stream *>calloc(leaves, sizeof(atf_stream))
        self.merge.tree = <atf_loser *>calloc(3 * leaves, sizeof(atf_loser))
        if self.merge.streams == NULL or self.merge.tree == NULL:
            raise MemoryError
        self.merge.filter = atf_filter(
            any=functions is None and kinds == 0xFFFFFFFF and min_depth == 0 and max_depth == 0xFFFFFFFF,
            kinds=kinds, min_depth=min_depth, max_depth=max_depth)
        for array in arrays:
            events = array
            if events.shape[0] > 0xFFFFFFFF:
                raise FormatError(f"a thread of {events.shape[0]} events: positions are 32-bit numbers")
            if functions is not None and functions[i] is not None:
                self.merge.streams[i].functions = &(<IdSet?>functions[i]).map
            if events.shape[0]:
                first = &events[0]
                self.merge.streams[i].base = first
                self.merge.streams[i].cursor = _bound(first, first + events.shape[0], start_ns, False)
                self.merge.streams[i].end = _bound(self.merge.streams[i].cursor, first + events.shape[0], end_ns, True)
            i += 1

    def __dealloc__(self):
        free(self.merge.streams)
        free(self.merge.tree)
        if self.batch != NULL:
            free(self.batch.start)
        free(self.batch)

    def take(self, Py_ssize_t room):
        """The next events, at most `room` of them: (thread, index_seq), two uint32 arrays of shape (n,).

        `thread` is the position in the list of arrays. n is 0 when there are no more.
        """
        if room <= 0:
            raise UsageError(f"room for {room} events: ask for at least one")
        if self.busy:
            raise UsageError("this merge is being read by another thread: give each thread its own")
        threads = numpy.empty(room, dtype=numpy.uint32)
        positions = numpy.empty(room, dtype=numpy.uint32)
        cdef uint32_t[::1] thread_out = threads, position_out = positions
        cdef uint64_t n
        if self.batch == NULL:
            self.batch = <atf_batch *>malloc(sizeof(atf_batch))
            if self.batch == NULL:
                raise MemoryError
            self.batch.pending = self.batch.next = 0
            self.batch.size = 256
            self.batch.start = <uint32_t *>calloc(self.merge.leaves, sizeof(uint32_t))
            if self.batch.start == NULL:
                free(self.batch)
                self.batch = NULL
                raise MemoryError
        self.busy = True
        with nogil:
            n = atf_batch_take(&self.merge, self.batch, &thread_out[0], &position_out[0], room)
        self.busy = False
        return threads[:n], positions[:n]

    def gather(self, const uint32_t[::1] threads, const uint32_t[::1] positions):
        """The events that `take` named, as one structured array (a copy)."""
        rows = numpy.empty(threads.shape[0], dtype=layout.EVENT_DTYPE)
        cdef atf_event[::1] out = rows
        cdef Py_ssize_t i
        cdef const atf_stream *stream
        cdef bint outside = False
        if threads.shape[0] != positions.shape[0]:
            raise UsageError("threads and positions differ in length")
        with nogil:
            for i in range(threads.shape[0]):
                if threads[i] >= self.merge.count or positions[i] >= self.merge.streams[threads[i]].end - self.merge.streams[threads[i]].base:
                    outside = True
                    break
                out[i] = self.merge.streams[threads[i]].base[positions[i]]
        if outside:
            raise UsageError("a thread or position outside of this merge")
        return rows

    def chunks(self, Py_ssize_t chunk=65536):
        """Iterates over what is left as (thread, index_seq) arrays of `chunk` events each, the last one shorter."""
        while True:
            threads, positions = self.take(chunk)
            if not len(threads):
                return
            yield threads, positions

    cdef int fresh(self) except -1:
        if self.batch != NULL:
            raise UsageError("this merge was begun already: ask a new one")
        return 0

    def bounds(self):
        """[(first, end)] a thread: the half-open range of positions of its window. Only before the first take."""
        self.fresh()
        return [
            (self.merge.streams[i].cursor - self.merge.streams[i].base, self.merge.streams[i].end - self.merge.streams[i].base)
            for i in range(self.merge.count)
        ]

    def count(self):
        """How many events there are; scans them only when there is a filter, and merges nothing. Only before the first take."""
        self.fresh()
        cdef uint64_t total = 0
        cdef const atf_event *event
        cdef atf_stream *stream
        cdef uint32_t i
        with nogil:
            for i in range(self.merge.count):
                stream = &self.merge.streams[i]
                if self.merge.filter.any:
                    total += stream.end - stream.cursor
                    continue
                event = stream.cursor
                while event < stream.end:
                    total += atf_passes(&self.merge.filter, stream, event)
                    event += 1
        return total

    def select(self, uint32_t thread):
        """Positions (uint32, shape (M,)) of the events of one thread. Only before the first take."""
        self.fresh()
        if thread >= self.merge.count:
            raise UsageError(f"thread {thread} of {self.merge.count}")
        cdef atf_stream *stream = &self.merge.streams[thread]
        cdef const atf_event *event = stream.cursor
        cdef uint64_t n = 0
        if self.merge.filter.any:
            return numpy.arange(stream.cursor - stream.base, stream.end - stream.base, dtype=numpy.uint32)
        with nogil:
            while event < stream.end:
                n += atf_passes(&self.merge.filter, stream, event)
                event += 1
        result = numpy.empty(n, dtype=numpy.uint32)
        cdef uint32_t[::1] out = result
        if n == 0:
            return result
        event = stream.cursor
        n = 0
        with nogil:
            while event < stream.end:
                if atf_passes(&self.merge.filter, stream, event):
                    out[n] = <uint32_t>(event - stream.base)
                    n += 1
                event += 1
        return result


def distinct_functions(arrays):
    """The function ids (uint64, shape (M,), in order of first appearance) of all events but GAPs, whose field counts losses."""
    cdef const atf_event[::1] events
    cdef IdSet seen = IdSet()
    cdef uint64_t last = 0
    cdef Py_ssize_t i
    cdef bint any_seen = False
    found = []
    for array in arrays:
        events = array
        i = 0
        while i < events.shape[0]:
            with nogil:
                while i < events.shape[0]:
                    if events[i].event_kind != ATF_GAP and not (any_seen and events[i].function_id == last):
                        last = events[i].function_id
                        any_seen = True
                        if atf_idmap_get(&seen.map, last) == ATF_IDMAP_NONE:
                            break
                    i += 1
            if i < events.shape[0]:
                if not atf_idmap_put(&seen.map, last, 0):
                    raise MemoryError
                found.append(last)
                i += 1
    return numpy.array(found, dtype=numpy.uint64)


def merge(arrays, start_ns=0, end_ns=0xFFFFFFFFFFFFFFFF, *, chunk=65536, **filters):
    """Iterates over chunks (thread, index_seq), uint32 arrays, in order of time. Arguments as for :class:`Merge`."""
    return Merge(arrays, start_ns, end_ns, **filters).chunks(chunk)
