"""The drain: one native thread that moves records from shared memory into files. See engine.h and source.h."""

import os

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from atf._core.errors import OutputError, SessionError
from atf._core.shm cimport Segments, atf_control, atf_global_lane, atf_load_relaxed64, atf_registry

cdef extern from "engine.h" nogil:
    ctypedef struct atf_writer:
        uint64_t events, details, detail_bytes, time_start_ns, time_end_ns
    ctypedef struct atf_output:
        uint32_t number, tid, entered, finished
        uint64_t expected, pending_lost
        uint64_t lost[5]
        uint64_t details_lost, orphans
        atf_writer w
        char name[48]
    ctypedef struct atf_source:
        atf_output **outputs
        uint32_t n_outputs
        int disk_error
        uint32_t refused
        uint64_t events, bytes, writes
    ctypedef struct atf_engine:
        uint64_t cpu_ns, flush_ns
        int running
    atf_engine *atf_engine_new()
    void atf_engine_delete(atf_engine *e)
    int atf_engine_start(atf_engine *e)
    void atf_engine_join(atf_engine *e)
    void atf_engine_fork_waits(int wait)
    int atf_engine_add(atf_engine *e, atf_source *s)
    void atf_engine_finish(atf_engine *e, atf_source *s, int dead)
    void atf_engine_drop(atf_engine *e, atf_source *s)
    int atf_engine_look(atf_engine *e, const atf_source *s, atf_source *numbers, atf_output **outputs, uint32_t *n)
    int atf_source_open(atf_source *s, atf_control *c, atf_registry *r, atf_global_lane *g, const char *dir, int resume)
    void atf_source_close(atf_source *s)

REASONS = {1: "exhausted", 2: "killed", 3: "disk full", 4: "rate limited"}


cdef class Source:
    """One recorded process in the drain's hands: its segments and its directory."""
    cdef atf_source *source
    cdef atf_engine *engine  # NULL: in none
    cdef readonly Segments segments
    cdef readonly object path
    cdef readonly bint finished

    def __cinit__(self, Segments segments, path, bint resume=False):
        self.segments = segments
        self.path = os.fspath(path)
        self.source = <atf_source *>calloc(1, sizeof(atf_source))
        if self.source == NULL:
            raise MemoryError
        encoded = os.fsencode(self.path)
        if not os.path.isdir(self.path):
            raise OutputError(f"{self.path}: no such directory; make it before its process is drained")
        error = atf_source_open(self.source, segments.control, segments.registry, segments.rings, encoded, resume)
        if error:
            raise OutputError(f"{self.path}: {os.strerror(error)}")

    def __dealloc__(self):
        if self.source != NULL and self.engine == NULL:
            atf_source_close(self.source)
            free(self.source)

    @property
    def totals(self):
        """``{"events", "bytes", "writes", "disk_error", "refused"}`` so far; refused: threads whose files are there and cannot be
        gone on with (only with ``resume``): what their rings hold is still there."""
        cdef atf_source numbers
        with nogil:
            atf_engine_look(self.engine, self.source, &numbers, NULL, NULL)
        error = os.strerror(numbers.disk_error) if numbers.disk_error else None
        return {"events": numbers.events, "bytes": numbers.bytes, "writes": numbers.writes, "disk_error": error, "refused": numbers.refused}

    def threads(self):
        """What stands in the files, per thread: a list of dicts ordered by thread number."""
        cdef atf_source numbers
        cdef atf_output *outputs = NULL
        cdef uint32_t n = 0, i
        cdef int error
        with nogil:
            error = atf_engine_look(self.engine, self.source, &numbers, &outputs, &n)
        if error:
            raise MemoryError
        try:
            return [_thread(&outputs[i]) for i in range(n)]
        finally:
            free(outputs)


cdef dict _thread(const atf_output *o):
    cdef uint32_t k
    lost = {REASONS[k]: o.lost[k] for k in range(1, 5) if o.lost[k]}
    if o.pending_lost:
        lost["disk full"] = lost.get("disk full", 0) + o.pending_lost
    return {
        "number": o.number, "tid": o.tid, "name": (<bytes>o.name).decode("utf-8", "replace"), "entered": o.entered,
        "events": o.w.events, "details": o.w.details, "detail_bytes": o.w.detail_bytes, "lost": lost,
        "details_lost": o.details_lost, "time_start_ns": o.w.time_start_ns, "time_end_ns": o.w.time_end_ns,
        "finished": bool(o.finished),
    }


cdef class Drain:
    """One native thread for any number of recorded processes. It never takes the GIL."""
    cdef atf_engine *engine
    cdef list sources

    def __cinit__(self, flush_ns=None):
        self.engine = atf_engine_new()
        if self.engine == NULL:
            raise MemoryError
        if flush_ns is not None:
            self.engine.flush_ns = flush_ns
        self.sources = []

    def __dealloc__(self):
        if self.engine != NULL:
            for source in self.sources:
                (<Source>source).engine = NULL
            with nogil:
                atf_engine_delete(self.engine)

    def start(self):
        """Start the thread (again, after a fork); nothing when it runs."""
        cdef int error = atf_engine_start(self.engine)
        if error:
            raise SessionError(f"the drain's thread could not be started: {os.strerror(error)}")

    def join(self):
        """Stop the thread and wait for it; what it had not read stays in the rings."""
        with nogil:
            atf_engine_join(self.engine)

    @staticmethod
    def fork_waits(bint wait):
        """Before and after a fork by Python: the thread that fork() stopped is started by start() if no others run."""
        atf_engine_fork_waits(wait)

    def add(self, Source source):
        """Begin to drain a process."""
        cdef int error
        source.segments.drained_by(os.getpid())
        with nogil:
            error = atf_engine_add(self.engine, source.source)
        if error:
            raise MemoryError
        source.engine = self.engine
        self.sources.append(source)

    def finish(self, Source source, bint dead=False):
        """Read what is committed, complete the files, and let the source go. ``dead``: its process is gone."""
        if source.finished:
            return
        with nogil:
            atf_engine_finish(self.engine, source.source, dead)
        source.finished = True
        source.engine = NULL
        if source in self.sources:
            self.sources.remove(source)

    def drop(self, Source source):
        """Let a source go as it is: its files stay unfinished (in a forked child: they are the parent's)."""
        with nogil:
            atf_engine_drop(self.engine, source.source)
        source.engine = NULL
        self.sources.remove(source)

    @property
    def cpu_ns(self):
        """CPU time the thread has used, ns."""
        return atf_load_relaxed64(&self.engine.cpu_ns)

    @property
    def running(self):
        return bool(self.engine.running)
