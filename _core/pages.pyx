"""Places in the time order of the events of many threads, found without merging: what a page of events needs.

Order: as in :mod:`atf._core.merge`. A cut is a place between two events of the order: an array (uint32, shape (threads,)) of
one position a thread. Cuts suppose timestamps that do not decrease within a thread; where they do (files that are damaged, or
foreign), which events stand before a cut is not defined, but every cut stays inside its thread, and every call ends.
"""

import numpy

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from atf._core.errors import FormatError, UsageError
from atf._core.idmap cimport atf_idmap, atf_idmap_free, atf_idmap_get, atf_idmap_init, atf_idmap_put, ATF_IDMAP_NONE
from atf._core.layout cimport atf_event
from atf._core.merge cimport atf_filter, atf_loser, atf_merge, atf_stream
from atf._core import layout

cdef extern from "pages.h" nogil:
    const atf_event *atf_next_passing(const atf_filter *f, const atf_stream *s, const atf_event *e)
    void atf_merge_start(atf_merge *m)
    uint64_t atf_merge_take(atf_merge *m, uint32_t *streams, uint32_t *positions, uint64_t room)
    uint32_t atf_from(const atf_event *events, uint32_t low, uint32_t high, uint64_t time_ns)
    uint32_t atf_after(const atf_event *events, uint32_t low, uint32_t high, uint64_t time_ns)
    uint64_t atf_between(uint32_t count, const uint32_t *low, const uint32_t *high)
    void atf_cut_at(
        const atf_event *const *streams, uint32_t count, const uint32_t *low, const uint32_t *high, uint64_t rank, uint32_t *cut, uint32_t *scratch)
    uint64_t atf_select_passing(const atf_filter *f, const atf_stream *s, uint32_t *positions, uint64_t room)


cdef class Filter:
    """Which events pass. kinds: a bit mask (bit k: kind k; bit 0: kinds from 32 on).

    ids: None, or the function ids that pass, one collection a space: the ids of two processes are not the same functions.
    """

    cdef atf_idmap *maps
    cdef uint32_t spaces
    cdef readonly uint32_t kinds

    def __cinit__(self, uint32_t kinds=0xFFFFFFFF, ids=None):
        cdef uint64_t one
        cdef uint32_t i
        self.kinds = kinds
        if ids is None:
            return
        ids = [list(some) for some in ids]
        self.maps = <atf_idmap *>calloc(len(ids) + 1, sizeof(atf_idmap))
        if self.maps == NULL:
            raise MemoryError
        for i in range(<uint32_t>len(ids)):
            if not atf_idmap_init(&self.maps[i]):
                raise MemoryError
            self.spaces = i + 1
            for one in ids[i]:
                if atf_idmap_get(&self.maps[i], one) == ATF_IDMAP_NONE and not atf_idmap_put(&self.maps[i], one, 0):
                    raise MemoryError

    def __dealloc__(self):
        for i in range(self.spaces):
            atf_idmap_free(&self.maps[i])
        free(self.maps)


cdef class Order:
    """The events of several threads in order of time, as a line that can be cut at any rank and at any event.

    arrays: one structured array of events a thread (`layout.EVENT_DTYPE`, contiguous). spaces: of each thread, which of a
    Filter's collections of ids is its own; 0 for all when left out. Methods may be called from several Python threads at once.
    """

    cdef object keep
    cdef const atf_event **streams
    cdef uint32_t *lengths
    cdef uint32_t *spaces
    cdef readonly uint32_t count

    def __cinit__(self, arrays, spaces=None):
        cdef const atf_event[::1] events
        cdef uint32_t i = 0
        arrays = list(arrays)
        spaces = [0] * len(arrays) if spaces is None else list(spaces)
        if len(spaces) != len(arrays):
            raise UsageError(f"spaces has {len(spaces)} entries for {len(arrays)} arrays; give one each")
        self.keep = arrays
        self.streams = <const atf_event **>calloc(len(arrays) + 1, sizeof(atf_event *))
        self.lengths = <uint32_t *>calloc(len(arrays) + 1, sizeof(uint32_t))
        self.spaces = <uint32_t *>calloc(len(arrays) + 1, sizeof(uint32_t))
        if self.streams == NULL or self.lengths == NULL or self.spaces == NULL:
            raise MemoryError
        for array, space in zip(arrays, spaces):
            events = array
            if events.shape[0] > 0xFFFFFFFF:
                raise FormatError(f"a thread of {events.shape[0]} events: positions are 32-bit numbers")
            self.lengths[i] = <uint32_t>events.shape[0]
            self.spaces[i] = space
            if events.shape[0]:
                self.streams[i] = &events[0]
            i += 1
        self.count = i

    def __dealloc__(self):
        free(self.streams)
        free(self.lengths)
        free(self.spaces)

    cdef int checked(self, const uint32_t[::1] low, const uint32_t[::1] high) except -1:
        cdef uint32_t i
        if low.shape[0] != self.count or high.shape[0] != self.count:
            raise UsageError(f"cuts of {low.shape[0]} and {high.shape[0]} positions for {self.count} threads")
        for i in range(self.count):
            if low[i] > high[i] or high[i] > self.lengths[i]:
                raise UsageError(f"positions {low[i]} to {high[i]} of a thread of {self.lengths[i]} events")
        return 0

    cdef uint32_t[::1] cut(self):
        return numpy.empty(self.count, dtype=numpy.uint32)

    def window(self, uint64_t start_ns=0, uint64_t end_ns=0xFFFFFFFFFFFFFFFF):
        """(low, high): the cuts around the events of [start_ns, end_ns], both inclusive."""
        cdef uint32_t[::1] low = self.cut(), high = self.cut()
        cdef uint32_t i
        with nogil:
            for i in range(self.count):
                low[i] = atf_from(self.streams[i], 0, self.lengths[i], start_ns)
                high[i] = atf_after(self.streams[i], low[i], self.lengths[i], end_ns)
        return numpy.asarray(low), numpy.asarray(high)

    def between(self, const uint32_t[::1] low, const uint32_t[::1] high):
        """How many events stand between two cuts."""
        self.checked(low, high)
        return atf_between(self.count, &low[0], &high[0]) if self.count else 0

    def at_rank(self, const uint32_t[::1] low, const uint32_t[::1] high, uint64_t rank):
        """The cut with `rank` events between it and `low`, at most `high`. Costs threads * log²(events)."""
        self.checked(low, high)
        cdef uint32_t[::1] cut = self.cut(), scratch = numpy.empty(2 * self.count, dtype=numpy.uint32)
        if self.count:
            with nogil:
                atf_cut_at(self.streams, self.count, &low[0], &high[0], rank, &cut[0], &scratch[0])
        return numpy.asarray(cut)

    def at_key(
        self, const uint32_t[::1] low, const uint32_t[::1] high, uint64_t time_ns, uint32_t thread, uint64_t position, bint after=True, bint known=True,
    ):
        """The cut after (or before) the event of a time at a position of a thread, within `low` and `high`.

        known=False: the event's thread is not here; those from `thread` on come after it in the order.
        """
        self.checked(low, high)
        cdef uint32_t[::1] cut = self.cut()
        cdef uint32_t i
        position = min(position, <uint64_t>0xFFFFFFFF) + after
        with nogil:
            for i in range(self.count):
                if known and i == thread:
                    cut[i] = low[i] if position < low[i] else high[i] if position > high[i] else <uint32_t>position
                elif i < thread:
                    cut[i] = atf_after(self.streams[i], low[i], high[i], time_ns)
                else:
                    cut[i] = atf_from(self.streams[i], low[i], high[i], time_ns)
        return numpy.asarray(cut)

    cdef int streams_of(self, atf_merge *merge, const uint32_t[::1] low, const uint32_t[::1] high, Filter filter) except -1:
        """Fills merge.streams with what lies between the cuts; a thread none of whose functions pass has nothing there."""
        cdef uint32_t i
        cdef atf_stream *stream
        merge.filter = atf_filter(any=1, kinds=0xFFFFFFFF, min_depth=0, max_depth=0xFFFFFFFF)
        if filter is not None:
            merge.filter.any = filter.kinds == 0xFFFFFFFF and filter.maps == NULL
            merge.filter.kinds = filter.kinds
        merge.count = self.count
        for i in range(self.count):
            stream = &merge.streams[i]
            stream.base = self.streams[i]
            stream.cursor = stream.end = stream.base
            if self.lengths[i] == 0:
                continue
            stream.cursor = stream.base + low[i]
            stream.end = stream.base + high[i]
            if filter is not None and filter.maps != NULL:
                if self.spaces[i] >= filter.spaces:
                    raise UsageError(f"a filter of {filter.spaces} spaces for a thread of space {self.spaces[i]}")
                stream.functions = &filter.maps[self.spaces[i]]
                if stream.functions.count == 0:
                    stream.end = stream.cursor
        return 0

    def total(self, const uint32_t[::1] low, const uint32_t[::1] high, Filter filter=None):
        """How many events between two cuts pass; reads them all when there is a filter."""
        self.checked(low, high)
        cdef atf_merge merge
        cdef uint64_t n = 0
        cdef uint32_t i
        if self.count == 0:
            return 0
        merge.streams = <atf_stream *>calloc(self.count, sizeof(atf_stream))
        if merge.streams == NULL:
            raise MemoryError
        try:
            self.streams_of(&merge, low, high, filter)
            with nogil:
                for i in range(self.count):
                    if merge.filter.any:
                        n += merge.streams[i].end - merge.streams[i].cursor
                    else:
                        n += atf_select_passing(&merge.filter, &merge.streams[i], NULL, 0)
        finally:
            free(merge.streams)
        return n

    def select(self, const uint32_t[::1] low, const uint32_t[::1] high, uint64_t room, Filter filter=None):
        """The events between two cuts that pass, thread by thread, at most `room`: (thread, position), uint32 arrays of shape (n,)."""
        self.checked(low, high)
        cdef atf_merge merge
        cdef uint64_t n = 0, more
        cdef uint32_t i
        room = min(room, atf_between(self.count, &low[0], &high[0]) if self.count else 0)
        threads = numpy.empty(room, dtype=numpy.uint32)
        positions = numpy.empty(room, dtype=numpy.uint32)
        cdef uint32_t[::1] thread_out = threads, position_out = positions
        if room == 0:
            return threads, positions
        merge.streams = <atf_stream *>calloc(self.count, sizeof(atf_stream))
        if merge.streams == NULL:
            raise MemoryError
        try:
            self.streams_of(&merge, low, high, filter)
            with nogil:
                for i in range(self.count):
                    if n == room:
                        break
                    more = min(atf_select_passing(&merge.filter, &merge.streams[i], &position_out[n], room - n), room - n)
                    while more:
                        thread_out[n] = i
                        n += 1
                        more -= 1
        finally:
            free(merge.streams)
        return threads[:n], positions[:n]

    def take(self, const uint32_t[::1] low, const uint32_t[::1] high, uint64_t skip, uint64_t room, Filter filter=None):
        """The events between two cuts that pass, in order, without the first `skip`, at most `room`.

        (thread, position): two uint32 arrays of shape (n,). Reads no further than it must.
        """
        self.checked(low, high)
        cdef atf_merge merge
        cdef uint32_t leaves = 1, i
        cdef uint64_t n = 0, left = skip
        room = min(room, atf_between(self.count, &low[0], &high[0]) if self.count else 0)
        cdef uint64_t turn = max(room, <uint64_t>4096 if skip else 0)
        threads = numpy.empty(turn, dtype=numpy.uint32)
        positions = numpy.empty(turn, dtype=numpy.uint32)
        cdef uint32_t[::1] thread_out = threads, position_out = positions
        if room == 0:
            return threads[:0], positions[:0]
        while leaves < self.count:
            leaves *= 2
        merge.leaves = leaves
        merge.streams = <atf_stream *>calloc(leaves, sizeof(atf_stream))
        merge.tree = <atf_loser *>calloc(3 * leaves, sizeof(atf_loser))
        try:
            if merge.streams == NULL or merge.tree == NULL:
                raise MemoryError
            self.streams_of(&merge, low, high, filter)
            with nogil:
                for i in range(self.count):
                    merge.streams[i].cursor = atf_next_passing(&merge.filter, &merge.streams[i], merge.streams[i].cursor)
                atf_merge_start(&merge)
                while left:
                    n = atf_merge_take(&merge, &thread_out[0], &position_out[0], left if left < turn else turn)
                    left -= n
                    if n == 0:
                        break
                n = 0 if left else atf_merge_take(&merge, &thread_out[0], &position_out[0], room)
        finally:
            free(merge.streams)
            free(merge.tree)
        return threads[:n], positions[:n]

    def gather(self, const uint32_t[::1] threads, const uint32_t[::1] positions):
        """The events of (thread, position), as one structured array (a copy)."""
        rows = numpy.empty(threads.shape[0], dtype=layout.EVENT_DTYPE)
        cdef atf_event[::1] out = rows
        cdef Py_ssize_t i
        cdef bint outside = False
        if threads.shape[0] != positions.shape[0]:
            raise UsageError("threads and positions differ in length")
        with nogil:
            for i in range(threads.shape[0]):
                if threads[i] >= self.count or positions[i] >= self.lengths[threads[i]]:
                    outside = True
                    break
                out[i] = self.streams[threads[i]][positions[i]]
        if outside:
            raise UsageError("a thread or position outside of this order")
        return rows
