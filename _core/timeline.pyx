"""Draws the spans of a thread as lanes, one a depth, with at most two cells a pixel: bisects from pixel to pixel, without the GIL."""

import numpy

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from atf._core.errors import UsageError

cdef extern from "timeline.h" nogil:
    ctypedef struct atf_lane:
        const uint64_t *start_ns
        const uint64_t *end_ns
        const uint32_t *function
        const uint32_t *rows
        uint64_t first, last
        int ends_rise
    ctypedef struct atf_window:
        uint64_t start_ns, end_ns, cell_ns
    ctypedef struct atf_cells:
        uint64_t *start_ns
        uint64_t *end_ns
        uint64_t *count
        uint32_t *function
        uint32_t *row
    uint64_t atf_count_cells(const atf_lane *l, const atf_window *w, uint64_t most)
    uint64_t atf_draw(const atf_lane *l, const atf_window *w, const atf_cells *c)

_LATEST_NS = (1 << 63) - 1


cdef atf_window _window(uint64_t start_ns, uint64_t end_ns, uint64_t cell_ns):
    if end_ns > _LATEST_NS or start_ns > end_ns or cell_ns == 0 or cell_ns > _LATEST_NS:
        raise UsageError("start_ns must not be after end_ns, both below 2**63, and cell_ns at least 1")
    return atf_window(start_ns, end_ns, cell_ns)


cdef class Lanes:
    """The spans of one thread by depth.

    start_ns, end_ns: uint64, function: uint32, of each row. depth: of each row, 0 for the lane of the roots; at most 2**31.
    """

    cdef const uint64_t[::1] _start_ns, _end_ns
    cdef const uint32_t[::1] _function, _rows
    cdef const uint64_t[::1] _first
    cdef const uint8_t[::1] _ends_rise

    def __init__(self, start_ns, end_ns, function, depth):
        rows = len(start_ns)
        if len(end_ns) != rows or len(function) != rows or len(depth) != rows or rows > 0xFFFFFFFE:
            raise UsageError("start_ns, end_ns, function and depth must be of one length, below 2**32")
        lanes = int(depth.max()) + 1 if rows else 0
        if rows and (int(depth.min()) < 0 or lanes > 1 << 31):
            raise UsageError("a depth is from 0 to 2**31 - 1")
        depth = depth.astype(numpy.uint16 if lanes <= 1 << 16 else numpy.uint32)  # sorts faster
        order = numpy.argsort(depth, kind="stable").astype(numpy.uint32)
        first = numpy.zeros(lanes + 1, dtype=numpy.uint64)
        numpy.cumsum(numpy.bincount(depth, minlength=lanes), out=first[1:])
        lane = depth[order]
        before = max(rows - 1, 0)
        same = lane[1:] == lane[:before]

        def falls(values):
            """Lanes in which a value is smaller than the one before it."""
            sorted = values[order]
            return numpy.unique(lane[1:][(sorted[1:] < sorted[:before]) & same])

        for number in falls(start_ns).tolist():  # timestamps of a damaged file
            begin, end = int(first[number]), int(first[number + 1])
            order[begin:end] = order[begin:end][numpy.argsort(start_ns[order[begin:end]], kind="stable")]
        rise = numpy.ones(lanes, dtype=numpy.uint8)
        rise[falls(end_ns)] = 0
        self._start_ns, self._end_ns, self._function = start_ns, end_ns, function
        self._rows, self._first, self._ends_rise = order, first, rise

    def __len__(self):
        return self._ends_rise.shape[0]

    cdef atf_lane _lane(self, uint64_t depth) except *:
        if depth >= <uint64_t>self._ends_rise.shape[0]:
            raise UsageError(f"there is no lane {depth}")
        cdef atf_lane lane
        lane.start_ns, lane.end_ns = &self._start_ns[0], &self._end_ns[0]
        lane.function, lane.rows = &self._function[0], &self._rows[0]
        lane.first, lane.last = self._first[depth], self._first[depth + 1]
        lane.ends_rise = self._ends_rise[depth]
        return lane

    def count(self, uint64_t depth, uint64_t start_ns, uint64_t end_ns, uint64_t cell_ns, uint64_t most=0xFFFFFFFFFFFFFFFE):
        """An upper bound of how many cells `draw` gives, at most most + 1."""
        cdef atf_window window = _window(start_ns, end_ns, cell_ns)
        cdef atf_lane lane = self._lane(depth)
        cdef uint64_t found
        with nogil:
            found = atf_count_cells(&lane, &window, most)
        return found + 1

    def draw(self, uint64_t depth, uint64_t start_ns, uint64_t end_ns, uint64_t cell_ns):
        """The cells of a lane in the window, both ends inclusive, as {start_ns, end_ns, count: uint64, function, row: uint32}.

        The spans that begin in the same cell_ns, counted from start_ns, are one cell, and so are those that began before and
        reach into the window; where no spans overlap, one that takes cell_ns or more is a cell of its own. A cell lasts from the first start to the last end. row: its span, or of several the longest of those
        looked at. function: the one that took most of the time of those looked at. Where no spans overlap 32 at equal distances are
        looked at, else the longest of all and the functions of the first 32.
        """
        cdef atf_window window = _window(start_ns, end_ns, cell_ns)
        cdef atf_lane lane = self._lane(depth)
        cdef atf_cells cells
        cdef uint64_t[::1] start_view, end_view, count_view
        cdef uint32_t[::1] function_view, row_view
        cdef uint64_t room, found
        with nogil:
            room = atf_count_cells(&lane, &window, 0xFFFFFFFF) + 1
        result = {name: numpy.empty(room, dtype=numpy.uint64) for name in ("start_ns", "end_ns", "count")}
        result |= {name: numpy.empty(room, dtype=numpy.uint32) for name in ("function", "row")}
        start_view, end_view, count_view = result["start_ns"], result["end_ns"], result["count"]
        function_view, row_view = result["function"], result["row"]
        cells.start_ns, cells.end_ns, cells.count = &start_view[0], &end_view[0], &count_view[0]
        cells.function, cells.row = &function_view[0], &row_view[0]
        with nogil:
            found = atf_draw(&lane, &window, &cells)
        return {name: values[:found] for name, values in result.items()}
