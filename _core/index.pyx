"""Reads the span index of a thread: which spans pass a filter, in which order, and what is known of them.

A row is a span's number in its thread, in the order of the calls. Nothing is copied from the file, and what it says is
compared with its bounds wherever it is used, so that no damage to it can lead out of it.
"""

import numpy

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from atf._core.errors import FormatError, UsageError
from atf._core.filemap import FileMap
from atf._core.idmap cimport atf_idmap, atf_idmap_free, atf_idmap_get, atf_idmap_init, atf_idmap_put
from atf._core.layout cimport atf_event

cdef extern from "index_walk.h" nogil:
    uint64_t atf_seq_from(const atf_spans *x, uint64_t time_ns, int after)
    uint32_t atf_row_from(const atf_spans *x, uint64_t seq)
    uint64_t atf_row_start(atf_spans *x, uint32_t row)
    uint64_t atf_row_duration(atf_spans *x, uint32_t row)
    uint64_t atf_row_active(atf_spans *x, uint32_t row)
    uint64_t atf_row_self(atf_spans *x, uint32_t row)
    uint64_t atf_row_function_id(atf_spans *x, uint32_t row)
    uint32_t atf_row_depth(const atf_spans *x, uint32_t row)
    uint32_t atf_row_status(const atf_spans *x, uint32_t row)
    uint32_t atf_row_parent(atf_spans *x, uint32_t row)
    uint32_t atf_some_children(atf_spans *x, uint32_t row, uint32_t *child, uint32_t *out, uint32_t room)
    void atf_count_children(const atf_spans *x, uint32_t first, const uint64_t *marks, const atf_idmap *wanted, uint32_t *counts)
    uint32_t atf_row_at(atf_spans *x, uint64_t time_ns)

FUNCTION_DTYPE = numpy.dtype([
    ("function_id", "<u8"), ("first", "<u4"), ("count", "<u4"), ("total_ns", "<u8"), ("active_ns", "<u8"), ("self_ns", "<u8"),
    ("min_ns", "<u8"), ("max_ns", "<u8"), ("exceptions", "<u4"), ("suspended", "<u4"),
])

cdef class ThreadIndex:
    """The spans of one thread: a span index over its events.

    rows: how many spans. functions: a structured array (FUNCTION_DTYPE) of shape (F,), by rising function id; times are active
    times, and total_ns counts recursion once. counts: {returns_without_call, ...}. in_order: timestamps never decrease.
    nested: no span was suspended, and nothing was lost. FormatError: the data is no index, or not of this source.
    """

    def __init__(self, const uint8_t[::1] data, const atf_event[::1] events, bytes source, name="the span index", bint new=False):
        """source: of `source_of`, for these events. new: the data was written a moment ago; else all of it is read once, for its checksums."""
        cdef atf_spans_header h
        cdef const uint8_t *start
        cdef const uint8_t *at[12]
        cdef const char *wanted = source
        cdef uint64_t size = data.shape[0], bad = ATF_SECTIONS
        cdef atf_spans *x = &self.x
        cdef uint32_t i, filled = 0
        cdef int s
        self.name = name
        if size < sizeof(h):
            raise FormatError(f"{name}: is {size} bytes long, shorter than its header")
        start = &data[0]
        memcpy(&h, start, sizeof(h))
        if h.magic[:4] != b"ATX2" or h.endian != 1 or h.version != ATF_SPANS_VERSION:
            raise FormatError(f"{name}: is no span index of version {ATF_SPANS_VERSION}")
        if atf_checksum(&h, sizeof(h) - 8) != h.checksum:
            raise FormatError(f"{name}: its header is damaged")
        if len(source) != sizeof(h.source) or memcmp(&h.source, wanted, sizeof(h.source)) != 0 or h.source.event_count != <uint64_t>events.shape[0]:
            raise FormatError(f"{name}: was made from something else")
        if atf_section_offset(&h, ATF_SECTIONS) != size or h.rows > h.source.event_count or h.functions > h.rows or h.deepest > h.rows:
            raise FormatError(f"{name}: its size does not fit what its header says")
        with nogil:
            for s in range(ATF_SECTIONS):
                at[s] = start + atf_section_offset(&h, s)
                if not new and atf_checksum(at[s], atf_section_bytes(&h, s)) != h.checksums[s]:
                    bad = s
                    break
        if bad != ATF_SECTIONS:
            raise FormatError(f"{name}: section {bad} is damaged")
        x.call_seq, x.end_seq, x.parent = <const uint32_t *>at[ATF_S_CALL_SEQ], <const uint32_t *>at[ATF_S_END_SEQ], <const uint32_t *>at[ATF_S_PARENT]
        x.duration, x.self_ns = <const uint32_t *>at[ATF_S_DURATION], <const uint32_t *>at[ATF_S_SELF]
        x.place, x.children = <const uint16_t *>at[ATF_S_PLACE], <const uint8_t *>at[ATF_S_CHILDREN]
        x.by_start, x.by_duration = <const uint32_t *>at[ATF_S_BY_START], <const uint32_t *>at[ATF_S_BY_DURATION]
        x.functions = <const atf_span_function *>at[ATF_S_FUNCTIONS]
        x.suspended, x.long_selves = <const atf_exact *>at[ATF_S_SUSPENDED], <const atf_exact *>at[ATF_S_LONG_SELVES]
        x.rows, x.function_count, x.suspended_count, x.long_self_count = h.rows, h.functions, h.suspended, h.long_selves
        x.flags, x.deepest, x.event_count, x.trace_end_ns = h.flags, h.deepest, h.source.event_count, h.source.trace_end_ns
        x.events = &events[0] if events.shape[0] else NULL
        for i in range(h.functions):
            if x.functions[i].first != filled or x.functions[i].count > h.rows - filled or (i and x.functions[i].function_id <= x.functions[i - 1].function_id):
                raise FormatError(f"{name}: its table of functions is damaged")
            filled += x.functions[i].count
        if filled != h.rows:
            raise FormatError(f"{name}: its table of functions is damaged")
        self.keep = (data, events)
        self.rows, self.deepest, self.trace_end_ns, self.size_bytes = h.rows, h.deepest, h.source.trace_end_ns, size
        self.in_order, self.nested = bool(h.flags & ATF_SPANS_IN_ORDER), bool(h.flags & ATF_SPANS_NESTED)
        names = ("returns_without_call", "yields_without_call", "resumes_without_call", "gaps", "events_lost")
        self.counts = {one: h.counts[k] for k, one in enumerate(names)}
        self.functions = numpy.frombuffer(data, FUNCTION_DTYPE, h.functions, atf_section_offset(&h, ATF_S_FUNCTIONS))

    def __dealloc__(self):
        atf_idmap_free(&self.numbers)

    def __len__(self):
        return self.rows

    def check(self):
        """Raises FormatError when the file has been cut since it was opened, or was found to be damaged. About 2 us."""
        self.whole()
        base = getattr(self.keep[0], "base", None)
        if isinstance(base, FileMap):
            base.check()

    @property
    def damaged(self):
        """Whether something in it led out of it."""
        return self.x.damaged != 0

    cdef int whole(self) except -1:
        """After something was read: that it did not lead out of the file."""
        if self.x.damaged:
            raise FormatError(f"{self.name}: was damaged while it was in use; open the trace again")
        return 0

    cdef int row_in(self, row) except -1:
        if not 0 <= row < self.rows:
            raise UsageError(f"{self.name}: has {self.rows} spans, no row {row}")
        return 0

    cdef int deepen(self) except -1:
        """Depths that the file does not hold, once they are asked for."""
        cdef uint32_t[::1] out
        cdef uint32_t r, above
        if self.x.deep != NULL or self.deepest < ATF_PLACE_DEEP:
            return 0
        made = numpy.empty(self.rows, dtype=numpy.uint32)
        out = made
        with nogil:
            for r in range(self.x.rows):
                above = atf_row_parent(&self.x, r)
                out[r] = 1 if above == ATF_NO_ROW else out[above] + 1
        if self.x.deep == NULL: # else another thread was quicker, and somebody may be reading what it made
            self.deep_array = made
            self.x.deep = &out[0]
        return 0

    cdef int number(self) except -1:
        cdef uint32_t i
        if not self.numbered:
            if not atf_idmap_init(&self.numbers):
                raise MemoryError
            for i in range(self.x.function_count):
                if not atf_idmap_put(&self.numbers, self.x.functions[i].function_id, i):
                    raise MemoryError
            self.numbered = True
        return 0

    def first_row(self, uint64_t time_ns, bint after=False):
        """The first row that begins at or after a time (`after`: strictly after); `rows`: none does. Supposes `in_order`."""
        with nogil:
            row = atf_row_from(&self.x, atf_seq_from(&self.x, time_ns, after))
        return row

    def row_of(self, uint64_t call_seq):
        """The row of the span whose call is at this index_seq; -1: there is none."""
        cdef uint32_t row = atf_row_from(&self.x, call_seq)
        return row if row < self.rows and self.x.call_seq[row] == call_seq else -1

    def at(self, uint64_t time_ns):
        """Of the spans that had begun and not ended at a time, both inclusive, the one that began last; -1: there is none."""
        cdef uint32_t row
        with nogil:
            row = atf_row_at(&self.x, time_ns)
        self.whole()
        return -1 if row == ATF_NO_ROW else row

    def path(self, row):
        """The callers of a span and itself, the root first: uint32 rows."""
        self.row_in(row)
        cdef uint32_t at = row
        found = []
        while at != ATF_NO_ROW:
            found.append(at)
            at = atf_row_parent(&self.x, at)
        self.whole()
        return numpy.array(found[::-1], dtype=numpy.uint32)

    def gather(self, const uint32_t[::1] rows):
        """What is known of some rows, as a dict of arrays in their order.

        start_ns, end_ns, duration_ns (wall), active_ns, self_ns, function_id: uint64. depth: uint32, 1 without a caller. status: uint8,
        position in spans.STATUS. call_seq, end_seq: uint32, NO_SEQ where nothing ended it. parent: int64 row, -1: none.
        number: uint32, position in `functions`.
        """
        cdef Py_ssize_t n = rows.shape[0], i
        cdef uint32_t row, p
        cdef uint64_t start, duration
        cdef atf_spans *x = &self.x
        names = ("start_ns", "end_ns", "duration_ns", "active_ns", "self_ns", "function_id")
        result = {name: numpy.empty(n, dtype=numpy.uint64) for name in names}
        result |= {name: numpy.empty(n, dtype=numpy.uint32) for name in ("depth", "call_seq", "end_seq", "number")}
        result["status"], result["parent"] = numpy.empty(n, dtype=numpy.uint8), numpy.empty(n, dtype=numpy.int64)
        cdef uint64_t[::1] starts = result["start_ns"], ends = result["end_ns"], durations = result["duration_ns"]
        cdef uint64_t[::1] actives = result["active_ns"], selves = result["self_ns"], ids = result["function_id"]
        cdef uint32_t[::1] depths = result["depth"], calls = result["call_seq"], end_seqs = result["end_seq"], numbers = result["number"]
        cdef uint8_t[::1] statuses = result["status"]
        cdef int64_t[::1] parents = result["parent"]
        self.number()
        self.deepen()
        with nogil:
            for i in range(n):
                row = rows[i]
                if row >= x.rows:
                    break
                start, duration, p = atf_row_start(x, row), atf_row_duration(x, row), atf_row_parent(x, row)
                starts[i], ends[i], durations[i] = start, start + duration, duration
                actives[i], selves[i], ids[i] = atf_row_active(x, row), atf_row_self(x, row), atf_row_function_id(x, row)
                depths[i], calls[i], end_seqs[i], statuses[i] = atf_row_depth(x, row), x.call_seq[row], x.end_seq[row], atf_row_status(x, row)
                parents[i] = -1 if p == ATF_NO_ROW else <int64_t>p
                numbers[i] = atf_idmap_get(&self.numbers, ids[i])
                if numbers[i] >= x.function_count:
                    x.damaged = 1
            else:
                i = n
        self.whole()
        if i < n:
            self.row_in(rows[i])
        return result

    def starts(self, const uint32_t[::1] rows):
        """start_ns of some rows: uint64."""
        cdef Py_ssize_t n = rows.shape[0], i
        result = numpy.empty(n, dtype=numpy.uint64)
        cdef uint64_t[::1] out = result
        for i in range(n):
            self.row_in(rows[i])
            out[i] = atf_row_start(&self.x, rows[i])
        self.whole()
        return result

    def children(self, row):
        """What a span called directly, in the order of the calls: uint32 rows."""
        self.row_in(row)
        cdef uint32_t of = row, child = row, taken, room = 256
        cdef uint32_t[::1] out
        pieces = []
        if self.x.children[of] == 0:
            return numpy.empty(0, dtype=numpy.uint32)
        if self.x.children[of] < ATF_CHILDREN_MANY:
            room = self.x.children[of]
        while True:
            piece = numpy.empty(room, dtype=numpy.uint32)
            out = piece
            with nogil:
                taken = atf_some_children(&self.x, of, &child, &out[0], room)
            pieces.append(piece[:taken])
            if taken < room or room == self.x.children[of]:
                break
            room = min(room * 2, <uint32_t>(1 << 20))
        self.whole()
        return numpy.concatenate(pieces)

    def child_counts(self, const uint32_t[::1] rows):
        """How many spans each row called directly: uint32."""
        cdef Py_ssize_t n = rows.shape[0], i
        cdef uint32_t first = ATF_NO_ROW, wanted = 0
        cdef atf_idmap map
        result = numpy.empty(n, dtype=numpy.uint32)
        cdef uint32_t[::1] out = result, counted
        cdef uint64_t[::1] marks
        for i in range(n):
            self.row_in(rows[i])
            out[i] = self.x.children[rows[i]]
        many = numpy.flatnonzero(result == ATF_CHILDREN_MANY)
        if len(many) == 0:
            return result
        if not atf_idmap_init(&map):
            raise MemoryError
        try:
            marks = numpy.zeros(self.rows // 64 + 1, dtype=numpy.uint64)
            for i in many:
                if atf_idmap_get(&map, rows[i]) != ATF_NO_ROW:
                    continue
                if not atf_idmap_put(&map, rows[i], wanted):
                    raise MemoryError
                marks[rows[i] // 64] |= <uint64_t>1 << (rows[i] % 64)
                first = min(first, rows[i])
                wanted += 1
            counted = numpy.zeros(wanted, dtype=numpy.uint32)
            with nogil:
                atf_count_children(&self.x, first, &marks[0], &map, &counted[0])
            for i in many:
                out[i] = counted[atf_idmap_get(&map, rows[i])]
        finally:
            atf_idmap_free(&map)
        return result
