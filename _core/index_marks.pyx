"""Which spans of a thread pass a filter: one bit a span, and what is picked or summed among them, without the GIL."""

import numpy

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from atf._core.errors import UsageError
from atf._core.idmap cimport atf_idmap
from atf._core.index cimport atf_span_function, atf_spans, ThreadIndex, ATF_NO_ROW

cdef extern from "index_marks.h" nogil:
    ctypedef struct atf_span_filter:
        uint64_t start_from_ns, start_until_ns, end_from_ns, end_until_ns, min_ns, max_ns
        uint32_t min_depth, max_depth, statuses, first, last
    void atf_filter_ready(const atf_spans *x, atf_span_filter *f)
    void atf_mark_rows(atf_spans *x, const atf_span_filter *f, uint32_t first, uint32_t last, uint64_t *marks)
    void atf_mark_function(atf_spans *x, const atf_span_filter *f, uint32_t number, uint64_t *marks)
    ctypedef struct atf_pick:
        uint64_t value
        uint32_t row
    ctypedef struct atf_top:
        atf_pick *picks
        uint32_t count, keep
        int by_self, descending, bounded, edged
        atf_pick bound, edge
    void atf_top_thin(atf_top *t)
    void atf_top_some(atf_spans *x, const uint64_t *marks, uint64_t first, uint64_t last, atf_top *t)
    void atf_marks_count(const uint64_t *marks, uint64_t words, uint32_t *before)
    uint32_t atf_marks_rank(const uint64_t *marks, const uint32_t *before, uint32_t row)
    uint32_t atf_marks_nth(const uint64_t *marks, const uint32_t *before, uint64_t words, uint32_t n)

cdef extern from "index_walk.h" nogil:
    ctypedef struct atf_sums:
        uint64_t *count
        uint64_t *total_ns
        uint64_t *active_ns
        uint64_t *self_ns
        uint64_t *min_ns
        uint64_t *max_ns
        uint64_t *exceptions
        const uint32_t *group
        const atf_idmap *numbers
        const uint32_t *number
        uint32_t *on_path
        uint32_t *path
        uint32_t *path_group
        uint32_t length
    void atf_number_rows(atf_spans *x, uint32_t *out)
    void atf_sum_some(atf_spans *x, const uint64_t *marks, uint64_t first, uint64_t last, atf_sums *s)
    uint64_t atf_row_active(atf_spans *x, uint32_t row)
    ctypedef struct atf_run:
        atf_spans *x
        const uint32_t *rows
        const uint64_t *marks
        const uint32_t *before
        uint64_t words
        uint32_t first, last
    uint64_t atf_rank(atf_run *runs, uint32_t count, uint64_t rank)

cdef extern from *:
    int ctz "__builtin_ctzll"(unsigned long long word) noexcept nogil

SUMS = ("count", "total_ns", "active_ns", "self_ns", "min_ns", "max_ns", "exceptions")

cdef uint64_t STEP = 1 << 15 # words of 64 marks between two looks at `check`


cdef class Marks:
    """The spans of a ThreadIndex that pass a filter. len(): how many."""

    cdef readonly ThreadIndex index
    cdef object array, before_array
    cdef uint64_t *words
    cdef uint32_t *before # marks before every eighth word
    cdef uint64_t word_count
    cdef uint32_t count

    def __init__(
        self, ThreadIndex index, functions=None, *, uint64_t start_from_ns=0, uint64_t start_until_ns=0xFFFFFFFFFFFFFFFF,
        uint64_t end_from_ns=0, uint64_t end_until_ns=0xFFFFFFFFFFFFFFFF, uint64_t min_ns=0, uint64_t max_ns=0xFFFFFFFFFFFFFFFF,
        uint32_t min_depth=0, uint32_t max_depth=0xFFFFFFFF, uint32_t statuses=0x1F, check=None,
    ):
        """All bounds are inclusive; duration is wall time, depth 1 has no caller.

        functions: positions in `index.functions`, or None: all. statuses: bit s for position s in spans.STATUS. check: called between steps.
        """
        cdef atf_span_filter f
        cdef atf_spans *x = &index.x
        cdef uint64_t first, last
        cdef uint32_t number
        cdef uint64_t[::1] words
        cdef uint32_t[::1] before
        self.index = index
        self.word_count = (<uint64_t>index.rows + 511) // 512 * 8 + 8
        self.array = words = numpy.zeros(self.word_count, dtype=numpy.uint64)
        self.before_array = before = numpy.zeros(self.word_count // 8 + 1, dtype=numpy.uint32)
        self.words, self.before = &words[0], &before[0]
        memset(&f, 0, sizeof(f))
        f.start_from_ns, f.start_until_ns, f.end_from_ns, f.end_until_ns = start_from_ns, start_until_ns, end_from_ns, end_until_ns
        f.min_ns, f.max_ns, f.min_depth, f.max_depth, f.statuses = min_ns, max_ns, min_depth, max_depth, statuses
        index.deepen()
        with nogil:
            atf_filter_ready(x, &f)
        if functions is None:
            first = f.first
            while first < f.last:
                last = min(<uint64_t>f.last, (first // 64 + STEP) * 64)
                with nogil:
                    atf_mark_rows(x, &f, <uint32_t>first, <uint32_t>last, self.words)
                first = last
                if check is not None:
                    check()
        else:
            for each in functions:
                if not 0 <= each < x.function_count:
                    raise UsageError(f"{index.name}: has {x.function_count} functions, no number {each}")
                number = each
                with nogil:
                    atf_mark_function(x, &f, number, self.words)
                if check is not None:
                    check()
        index.whole()
        with nogil:
            atf_marks_count(self.words, self.word_count, self.before)
        self.count = self.before[self.word_count // 8]

    def __len__(self):
        return self.count

    def __contains__(self, row):
        return 0 <= row < self.index.rows and self.words[<uint32_t>row // 64] >> (<uint32_t>row % 64) & 1 != 0

    def rank(self, row):
        """How many of the marked rows are smaller than a row."""
        cdef uint32_t bound = min(row, self.index.rows)
        return atf_marks_rank(self.words, self.before, bound)

    def take(self, rank, room):
        """The marked rows from the given rank on, at most `room`: uint32, rising."""
        cdef uint64_t first = min(max(rank, 0), self.count), n = min(max(room, 0), self.count - first), i = 0, left, word
        result = numpy.empty(n, dtype=numpy.uint32)
        cdef uint32_t[::1] out = result
        if n == 0:
            return result
        cdef uint32_t row
        with nogil:
            row = atf_marks_nth(self.words, self.before, self.word_count, <uint32_t>first)
            word = row // 64
            left = self.words[word] & (~<uint64_t>0 << (row % 64))
            while i < n:
                while left == 0:
                    word += 1
                    left = self.words[word]
                out[i] = <uint32_t>(64 * word) + <uint32_t>ctz(left)
                left &= left - 1
                i += 1
        return result

    def top(self, room, *, bint by_self=False, bint descending=True, bound=None, edge=None, check=None):
        """The first `room` by duration or self time, equal ones by row: (values, rows), uint64 and uint32, in that order.

        Descending is exactly the reverse. bound: (value, row), and only what comes after it in the order; a row of -1 or of
        `index.rows` stands before or behind all rows of its value. edge: no value that comes after this one is wanted.
        """
        cdef atf_top t
        cdef uint64_t first = 0, last, i
        memset(&t, 0, sizeof(t))
        t.keep, t.by_self, t.descending = <uint32_t>min(max(room, 0), self.count, 1 << 30), by_self, descending
        if bound is not None:
            value, row = bound
            if row < 0: # behind the last row of the value before
                value, row = value - 1, 0xFFFFFFFF
            if value >= 0:
                t.bounded, t.bound.value, t.bound.row = True, value, row
            elif descending:
                t.keep = 0
        if edge is not None and 0 < edge < 0xFFFFFFFFFFFFFFFF: # as a row between this value and the one beyond it
            t.edged, t.edge.value, t.edge.row = True, edge - 1 if descending else edge + 1, ATF_NO_ROW if descending else 0
        t.picks = <atf_pick *>malloc((2 * <uint64_t>t.keep + 1) * sizeof(atf_pick))
        if t.picks == NULL:
            raise MemoryError
        try:
            while first < self.word_count:
                last = min(self.word_count, first + STEP)
                with nogil:
                    atf_top_some(&self.index.x, self.words, first, last, &t)
                first = last
                if check is not None:
                    check()
            self.index.whole()
            with nogil:
                atf_top_thin(&t)
            values, rows = numpy.empty(t.count, dtype=numpy.uint64), numpy.empty(t.count, dtype=numpy.uint32)
            if t.count:
                spread(&t, values, rows)
        finally:
            free(t.picks)
        order = numpy.lexsort((rows, values))
        order = order[::-1] if descending else order
        return values[order], rows[order]

    def actives(self, functions=None):
        """Active times of the marked spans, of some functions (positions in `index.functions`) or of all: uint64, in no order."""
        cdef const atf_span_function *f
        cdef uint64_t n = 0
        cdef uint32_t i, row
        cdef atf_spans *x = &self.index.x
        cdef uint64_t[::1] out
        cdef const uint32_t[::1] rows
        if functions is None:
            rows = self.take(0, self.count)
            result = numpy.empty(self.count, dtype=numpy.uint64)
            out = result
            with nogil:
                for i in range(<uint32_t>rows.shape[0]):
                    out[i] = atf_row_active(x, rows[i])
            self.index.whole()
            return result
        pieces = [numpy.empty(0, dtype=numpy.uint64)]
        for each in functions:
            if not 0 <= each < x.function_count:
                raise UsageError(f"{self.index.name}: has {x.function_count} functions, no number {each}")
            f = &x.functions[<uint32_t>each]
            piece = numpy.empty(f.count, dtype=numpy.uint64)
            out = piece
            n = 0
            with nogil:
                for i in range(f.count):
                    row = x.by_start[f.first + i]
                    if row >= x.rows:
                        x.damaged = 1
                    elif self.words[row // 64] >> (row % 64) & 1:
                        out[n] = atf_row_active(x, row)
                        n += 1
            pieces.append(piece[:n])
        self.index.whole()
        return numpy.concatenate(pieces)

    def sums(self, const uint32_t[::1] group, uint32_t groups, into=None, check=None):
        """Adds the marked spans up by group: a dict of the arrays SUMS, uint64 of shape (groups,); `into`: such a dict to add to.

        group: the group of each function of the index. Times are active times; total_ns leaves out spans that have a
        marked span of the same group above them.
        """
        cdef atf_sums s
        cdef uint64_t[::1] view
        cdef uint32_t[::1] on_path, path, path_group, number
        cdef uint64_t first = 0, last
        cdef Py_ssize_t i
        result = {name: numpy.zeros(groups, dtype=numpy.uint64) for name in SUMS} if into is None else into
        if <uint64_t>group.shape[0] != self.index.x.function_count or any(len(result[name]) != groups for name in SUMS):
            raise UsageError("group: give one group for each function of the index, below their number")
        for i in range(group.shape[0]):
            if group[i] >= groups:
                raise UsageError("group: give one group for each function of the index, below their number")
        if self.count == 0:
            return result
        memset(&s, 0, sizeof(s))
        view = result["count"]; s.count = &view[0]
        view = result["total_ns"]; s.total_ns = &view[0]
        view = result["active_ns"]; s.active_ns = &view[0]
        view = result["self_ns"]; s.self_ns = &view[0]
        view = result["min_ns"]; s.min_ns = &view[0]
        view = result["max_ns"]; s.max_ns = &view[0]
        view = result["exceptions"]; s.exceptions = &view[0]
        on_path = numpy.zeros(groups, dtype=numpy.uint32)
        path = numpy.empty(<uint64_t>self.index.deepest + 1, dtype=numpy.uint32)
        path_group = numpy.empty(<uint64_t>self.index.deepest + 1, dtype=numpy.uint32)
        self.index.number()
        self.index.deepen()
        s.group, s.numbers, s.on_path, s.path, s.path_group = &group[0], &self.index.numbers, &on_path[0], &path[0], &path_group[0]
        if self.count > self.index.rows // 8: # then one walk over all is less than a look at each
            number = numpy.zeros(self.index.rows, dtype=numpy.uint32)
            s.number = &number[0]
            with nogil:
                atf_number_rows(&self.index.x, &number[0])
        while first < self.word_count:
            last = min(self.word_count, first + STEP // 8)
            with nogil:
                atf_sum_some(&self.index.x, self.words, first, last, &s)
            first = last
            self.index.whole()
            if check is not None:
                check()
        return result


cdef int spread(atf_top *t, uint64_t[::1] values, uint32_t[::1] rows) except -1:
    cdef uint32_t i
    for i in range(t.count):
        values[i], rows[i] = t.picks[i].value, t.picks[i].row
    return 0


def ranks(functions, percents):
    """Durations by nearest rank over all spans of some functions: for p, the one at place ceil(p / 100 * count) of the rising order.

    functions: [(ThreadIndex, position in its `functions`)]. percents: whole numbers from 1 to 100. A list; zeros without a span.
    """
    cdef ThreadIndex index
    cdef uint32_t n = 0, position
    cdef uint64_t total = 0, at, found
    parts = list(functions)
    cdef atf_run *runs = <atf_run *>malloc((len(parts) + 1) * sizeof(atf_run))
    if runs == NULL:
        raise MemoryError
    try:
        for index, where in parts:
            if not 0 <= where < index.x.function_count:
                raise UsageError(f"{index.name}: has {index.x.function_count} functions, no number {where}")
            position = where
            memset(&runs[n], 0, sizeof(atf_run))
            runs[n].x, runs[n].rows = &index.x, index.x.by_duration + index.x.functions[position].first
            runs[n].last = index.x.functions[position].count
            total += runs[n].last
            n += 1
        result = []
        for percent in percents:
            found = 0
            if total:
                at = (percent * total + 99) // 100 - 1
                with nogil:
                    found = atf_rank(runs, n, at)
            result.append(found)
        for index, _ in parts:
            index.whole()
        return result
    finally:
        free(runs)


def start_at(parts, uint64_t rank):
    """The start_ns of the marked span of a rank (from 0) in the order of start, over several threads whose `in_order` is true.

    parts: [(Marks, first, last)]: only its ranks [first, last) count. UsageError: there are not so many.
    """
    cdef Marks marks
    cdef uint32_t n = 0
    cdef uint64_t total = 0, found
    given = list(parts)
    cdef atf_run *runs = <atf_run *>malloc((len(given) + 1) * sizeof(atf_run))
    if runs == NULL:
        raise MemoryError
    try:
        for marks, first, last in given:
            if not 0 <= first <= last <= marks.count:
                raise UsageError(f"{marks.index.name}: has {marks.count} marked spans, no ranks {first} to {last}")
            memset(&runs[n], 0, sizeof(atf_run))
            runs[n].x, runs[n].marks, runs[n].before, runs[n].words = &marks.index.x, marks.words, marks.before, marks.word_count
            runs[n].first, runs[n].last = first, last
            total += runs[n].last - runs[n].first
            n += 1
        if rank >= total:
            raise UsageError(f"there are {total} spans, none of rank {rank}")
        with nogil:
            found = atf_rank(runs, n, rank)
        for marks, _, _ in given:
            marks.index.whole()
        return found
    finally:
        free(runs)
