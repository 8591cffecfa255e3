"""A stretch of time cut out of a process's rings, which stay as they are. See slice.h."""

import os

from libc.stdint cimport uint32_t, uint64_t

from atf._core.errors import OutputError
from atf._core.shm cimport Segments, atf_control, atf_global_lane, atf_load_acquire32, atf_load_relaxed64, atf_registry, atf_slot, atf_slot_at, ATF_SLOT_LIVE

cdef extern from "slice.h" nogil:
    ctypedef struct atf_cut_thread:
        uint32_t number, tid, entered
        uint64_t events, gaps, details, detail_bytes, overwritten, missing, details_lost, time_start_ns, time_end_ns
        char name[48]
    ctypedef struct atf_cut:
        atf_cut_thread *threads
        uint32_t n, n_functions, functions_room
        uint64_t *functions
    ctypedef struct atf_cutter:
        pass
    void atf_cutter_open(atf_cutter *k, atf_control *c, atf_registry *r, atf_global_lane *g, int dead)
    void atf_cutter_lead(atf_cutter *k)
    uint64_t atf_cutter_now(atf_cutter *k)
    void atf_cutter_follow(atf_cutter *k)
    void atf_cutter_tidy(atf_cutter *k)
    int atf_cut_take(atf_cutter *k, atf_cut *cut, uint64_t start_ns, uint64_t end_ns, uint64_t last_ns)
    void atf_cut_free(atf_cut *cut)
    int atf_cut_write(const atf_cut *cut, const char *dir, const void *manifest, uint64_t manifest_bytes, uint64_t *bytes)

cdef enum:
    MOST_AT_ONCE = 1 << 16  # events: for fewer other threads wait, since it takes longer to get the interpreter back
THREAD = ("number", "tid", "name", "entered", "events", "gaps", "details", "overwritten", "missing", "details_lost", "time_start_ns", "time_end_ns")


cdef class Cut:
    """What was copied. It is in memory until it is written, or let go of."""
    cdef atf_cut cut

    def __dealloc__(self):
        atf_cut_free(&self.cut)

    @property
    def threads(self):
        cdef uint32_t i
        cdef atf_cut_thread *t
        found = []
        for i in range(self.cut.n):
            t = &self.cut.threads[i]
            found.append((t.number, t.tid, (<bytes>t.name).decode("utf-8", "replace"), t.entered, t.events, t.gaps, t.details, t.overwritten, t.missing,
                          t.details_lost, t.time_start_ns, t.time_end_ns))
        return found

    @property
    def functions(self):
        cdef uint32_t i
        return [self.cut.functions[i] for i in range(self.cut.functions_room) if self.cut.functions[i]]

    def write(self, path, bytes manifest):
        cdef uint64_t size = 0, events = 0, length = len(manifest)
        cdef uint32_t i
        cdef int error
        cdef bytes encoded = os.fsencode(path)
        cdef const char *directory = encoded
        cdef const char *text = manifest
        for i in range(self.cut.n):
            events += self.cut.threads[i].events
        if events < MOST_AT_ONCE:
            error = atf_cut_write(&self.cut, directory, text, length, &size)
        else:
            with nogil:
                error = atf_cut_write(&self.cut, directory, text, length, &size)
        if error:
            raise OutputError(f"{path}: the trace cannot be written: {os.strerror(error)}")
        return size


cdef class Cutter:
    """Cuts stretches out of the rings of one process: of this one, or of another."""
    cdef atf_cutter k
    cdef Segments segments
    cdef bint own

    def __cinit__(self, Segments segments, bint own=True, bint dead=False):
        self.segments = segments
        self.own = own
        atf_cutter_open(&self.k, segments.control, segments.registry, segments.rings, dead)
        if own:
            atf_cutter_lead(&self.k)

    def now_ns(self):
        atf_cutter_tidy(&self.k)
        return atf_cutter_now(&self.k)

    def cut(self, uint64_t start_ns, uint64_t end_ns, uint64_t last_ns=0):
        cdef Cut made = Cut()
        if not self.own:
            atf_cutter_follow(&self.k)
        if atf_cut_take(&self.k, &made.cut, start_ns, end_ns, last_ns):
            raise MemoryError
        return made
