"""Numbers the call paths of spans, without the GIL: a path is the path of the caller and one label more."""

import numpy

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from atf._core.errors import UsageError

cdef extern from "paths.h" nogil:
    ctypedef struct atf_paths:
        uint32_t *parent
        uint32_t *label
        uint32_t count
    int atf_paths_init(atf_paths *p)
    void atf_paths_free(atf_paths *p)
    int atf_paths_add(
        atf_paths *p, const int64_t *parent, const uint32_t *key, uint64_t count, const uint32_t *label, uint64_t labels,
        uint32_t root, uint32_t *path, uint64_t first)


cdef class Paths:
    """Call paths by number. 0 is the empty path; a path's number is larger than its parent's. For one thread at a time.

    Numbers follow the order in which paths are first met, so the same rows give the same numbers.
    """

    cdef atf_paths paths

    def __cinit__(self):
        if not atf_paths_init(&self.paths):
            raise MemoryError

    def __dealloc__(self):
        atf_paths_free(&self.paths)

    def __len__(self):
        return self.paths.count

    def add(self, const int64_t[::1] parent, const uint32_t[::1] key, const uint32_t[::1] label, uint32_t[::1] into,
            uint64_t first=0, uint32_t root=0):
        """Writes the path numbers of some rows into into[first:first + len(parent)]; those of all rows before must stand there.

        parent: the row of each row's caller, a smaller one, or -1: the row goes on from path `root`. key: a number for each row,
        of which `label` says the label, e.g. a function key.
        """
        cdef uint64_t count = parent.shape[0], labels = label.shape[0]
        cdef int done
        if <uint64_t>key.shape[0] != count or first + count > <uint64_t>into.shape[0] or root >= self.paths.count:
            raise UsageError("parent and key must be of one length, into long enough, and root a path")
        if count == 0:
            return
        if labels == 0:
            raise UsageError("there are rows, but no labels")
        with nogil:
            done = atf_paths_add(&self.paths, &parent[0], &key[0], count, &label[0], labels, root, &into[0], first)
        if done == 0:
            raise MemoryError
        if done < 0:
            raise UsageError("a row's caller must stand before it, and each key have a label")

    def columns(self):
        """(parent, label): of each path, uint32 arrays of shape (len,). The empty path's are 0."""
        parent = numpy.empty(self.paths.count, dtype=numpy.uint32)
        label = numpy.empty(self.paths.count, dtype=numpy.uint32)
        cdef uint32_t[::1] view
        view = parent
        memcpy(&view[0], self.paths.parent, self.paths.count * sizeof(uint32_t))
        view = label
        memcpy(&view[0], self.paths.label, self.paths.count * sizeof(uint32_t))
        return parent, label


def roll_up(const uint32_t[::1] parent, uint64_t[::1] values, bint largest=False):
    """Adds each path's value to its parent's, from the longest path to path 0, in place; largest: the larger of both instead."""
    cdef Py_ssize_t n = parent.shape[0], i
    if values.shape[0] != n:
        raise UsageError("one value a path")
    with nogil:
        for i in range(n - 1, 0, -1):
            if parent[i] >= i:
                continue
            if not largest:
                values[parent[i]] += values[i]
            elif values[i] > values[parent[i]]:
                values[parent[i]] = values[i]
