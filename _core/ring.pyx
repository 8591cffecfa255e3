"""The rings by themselves: measurements of the record path, and a pool that is driven step by step.

This module holds its own copy of the record path and of the drain (producer.c, source.c, ...). Its session is not the
session of ``recorder``: what happens here neither sees nor disturbs a recording of this process. One at a time.
"""

import mmap
import os
import threading

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from atf._core import segment, shm
from atf._core.errors import OutputError, SessionError, UsageError
from atf._core.layout cimport ATF_INSTANT, ATF_NO_DETAIL
from atf._core.recorder cimport atf_current, atf_detail, atf_enter, atf_session_close, atf_session_open, atf_thread, atf_ticks, atf_write_at
from atf._core.shm cimport Segments, atf_control, atf_global_lane, atf_load_relaxed64, atf_registry, atf_slot_at

cdef extern from "format.h":
    enum:
        ATF_D_EVENT

cdef extern from "bench.h" nogil:
    ctypedef struct atf_bench_result:
        uint64_t records, elapsed_ns, producer_cpu_ns, consumer_cpu_ns
        uint32_t in_order
    int atf_bench_pair(uint64_t records, int with_clock, atf_bench_result *r)
    int atf_bench_produce(uint64_t records, uint32_t threads, atf_bench_result *r)

cdef extern from "engine.h" nogil:
    ctypedef struct atf_output:
        uint64_t expected
        uint64_t lost[8]
    ctypedef struct atf_source:
        atf_output **outputs
        uint32_t n_outputs
        int disk_error
    ctypedef struct atf_engine:
        uint64_t cpu_ns
    atf_engine *atf_engine_new()
    void atf_engine_delete(atf_engine *e)
    int atf_engine_start(atf_engine *e)
    int atf_engine_add(atf_engine *e, atf_source *s)
    void atf_engine_finish(atf_engine *e, atf_source *s, int dead)
    int atf_source_open(atf_source *s, atf_control *c, atf_registry *r, atf_global_lane *g, const char *dir, int resume)
    void atf_source_close(atf_source *s)
    uint64_t atf_source_pass(atf_source *s, int peek, uint64_t budget_ns)
    void atf_source_finish(atf_source *s)
    uint64_t atf_clock_ns(int clock)
    enum:
        CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID

_busy = threading.Lock()


class _Session:
    """Segments of our own, opened for this module's record path, removed at the end."""

    def __init__(self, policy, drain_expected, **options):
        if not _busy.acquire(blocking=False):
            raise SessionError("another measurement of atf._core.ring runs in this process: one at a time")
        try:
            self.set = segment.SegmentSet.create(options=options, policy=policy, drain_expected=drain_expected, block_deadline_ns=60_000_000_000)
            self.set.remove()  # they vanish with this process or with detach, whichever comes first
            _open(self.set.segments)
        except BaseException:
            _busy.release()
            raise

    def close(self):
        atf_session_close()
        self.set.detach()
        _busy.release()


cdef _open(Segments segments):
    atf_session_open(segments.control, segments.registry, segments.rings)


def _refused(int error):
    return SessionError(f"the threads of a measurement could not be started: {os.strerror(error)}")


def pair(uint64_t records, bint clock=True, index_bytes=2 << 20):
    """One producer and one consumer thread through a ring pool of four rings in System V memory, policy ``block``.

    Every record takes the way of every producer (the gate, then the record); ``clock`` gives each its own time, else
    all have the same. Returns ``{"records", "seconds", "producer_cpu_ns", "consumer_cpu_ns", "lost", "checksum_ok"}``;
    ``checksum_ok``: every record arrived once, in order and as it was written.
    """
    cdef atf_bench_result r
    cdef int error
    session = _Session("block", True, slots=1, detail_rings=0, index_bytes=index_bytes, global_cells=2, names_bytes=0)
    try:
        with nogil:
            error = atf_bench_pair(records, clock, &r)
    finally:
        session.close()
    if error:
        raise _refused(error)
    return {
        "records": r.records, "seconds": r.elapsed_ns / 1e9, "producer_cpu_ns": r.producer_cpu_ns, "consumer_cpu_ns": r.consumer_cpu_ns,
        "lost": <int64_t>(records - r.records), "checksum_ok": bool(r.in_order) and r.records == records,
    }


def record_cost(uint64_t records, index_bytes=1536 * 1024):
    """ns of one record with its timestamp, in a loop of one native thread whose rings are taken back again and again."""
    cdef atf_bench_result r
    cdef int error
    session = _Session("drop-oldest", False, slots=1, detail_rings=0, index_bytes=index_bytes, global_cells=2, names_bytes=0)
    try:
        with nogil:
            error = atf_bench_produce(records, 1, &r)
    finally:
        session.close()
    if error:
        raise _refused(error)
    return r.elapsed_ns / <double>records


def through_files(uint64_t records, path, policy="block", uint32_t threads=1, index_bytes=1536 * 1024):
    """``threads`` native producers write ``records`` together, through rings and drain into complete files below ``path``.

    Returns ``{"events", "seconds", "producer_cpu_ns", "drain_cpu_ns", "lost"}``: events are the records in the files;
    the time runs from the first record until every file has its footer. OutputError when ``path`` cannot be written.
    """
    cdef atf_bench_result r
    cdef atf_source *source
    cdef atf_engine *engine
    cdef Segments segments
    cdef uint64_t begin, cpu, drain_cpu, seconds_ns, written = 0, each = records // threads if threads else 0
    cdef uint32_t i, k
    cdef int error
    if not 1 <= threads <= 64 or not each:
        raise UsageError(f"{records} records of {threads} threads: 1 to 64 threads, a record each at least")
    os.makedirs(path, exist_ok=True)
    encoded = os.fsencode(path)
    cdef const char *directory = encoded
    session = _Session(policy, True, slots=threads, detail_rings=0, index_bytes=index_bytes, names_bytes=0)
    source = <atf_source *>calloc(1, sizeof(atf_source))
    engine = atf_engine_new()
    try:
        segments = session.set.segments
        if source == NULL or engine == NULL:
            raise MemoryError
        with nogil:
            error = atf_source_open(source, segments.control, segments.registry, segments.rings, directory, 0)
            if not error:
                error = atf_engine_add(engine, source)
            if not error:
                error = atf_engine_start(engine)
        if error:
            raise _refused(error)
        with nogil:
            begin = atf_clock_ns(CLOCK_MONOTONIC)
            error = atf_bench_produce(each, threads, &r)
            cpu = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID)
            atf_session_close()
            atf_engine_finish(engine, source, 0)
            seconds_ns = atf_clock_ns(CLOCK_MONOTONIC) - begin
            drain_cpu = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu + atf_load_relaxed64(&engine.cpu_ns)
        if error:
            raise _refused(error)
        if source.disk_error:
            raise OutputError(f"{path}: {os.strerror(source.disk_error)}")
        for i in range(source.n_outputs):
            if source.outputs[i] != NULL:
                written += source.outputs[i].expected
                for k in range(5):
                    written -= source.outputs[i].lost[k]
    finally:
        with nogil:
            if engine != NULL:
                atf_engine_delete(engine)
            if source != NULL:
                atf_source_close(source)
                free(source)
        session.close()
    return {
        "events": written, "seconds": seconds_ns / 1e9, "producer_cpu_ns": r.producer_cpu_ns, "drain_cpu_ns": drain_cpu,
        "lost": <int64_t>(each * threads - written),
    }


cdef extern from "pressure.h" nogil:
    ctypedef struct atf_pressure:
        uint32_t state
    uint32_t atf_pressure_step(atf_pressure *p, uint64_t free, uint64_t total, int lost, uint64_t ns)


cdef class Pressure:
    """The state of one lane, moved look by look."""
    cdef atf_pressure one

    def look(self, uint64_t free, uint64_t total, bint lost, uint64_t ns):
        """0 normal, 1 pressure, 2 dropping, 3 recovery, after a look at ns."""
        return atf_pressure_step(&self.one, free, total, lost, ns)


cdef class Pool:
    """A ring pool with its drain, on the heap, moved by hand: ``Pool(path, index_rings=2, index_bytes=4096, ...)``.

    The calling thread is the producer. Nothing happens between the calls, so what each of them does is determined. A
    ring of 4096 bytes has room for 128 records. SessionError when another Pool or measurement is open.
    """
    cdef Segments segments
    cdef atf_source source
    cdef bint opened, producing
    cdef readonly uint64_t produced
    cdef readonly uint64_t details  # given out, over all threads

    def __init__(self, path, *, index_rings=2, index_bytes=4096, detail_rings=2, detail_bytes=16384, spare_rings=0, spare_bytes=16384,
                 global_cells=16, policy="drop-oldest"):
        options = dict(slots=2, index_rings=index_rings, index_bytes=index_bytes, detail_rings=detail_rings, detail_bytes=detail_bytes,
                       spare_rings=spare_rings, spare_bytes=spare_bytes, global_cells=global_cells, names_bytes=0)
        if self.opened:
            raise SessionError("this pool is open already")
        if not _busy.acquire(blocking=False):
            raise SessionError("another pool or measurement of atf._core.ring is open in this process: close it first")
        self.opened = True
        buffers = [mmap.mmap(-1, size) for size in shm.sizes(**options)]
        shm.format(*buffers, pid=os.getpid(), start=0, policy=policy, block_deadline_ns=1000, **options)
        self.segments = Segments(*buffers)
        encoded = os.fsencode(path)
        error = atf_source_open(&self.source, self.segments.control, self.segments.registry, self.segments.rings, encoded, 0)
        if error:
            self.close()
            raise OutputError(f"{path}: {os.strerror(error)}")
        _open(self.segments)
        self.producing = True

    def produce(self, details, bint silent=False):
        """Write one record for every entry: None, or the payload bytes of its detail (0 to 8192).

        Records have kind INSTANT and their number in this thread as function id; the payload repeats its low byte.
        ``silent``: the drain has given no sign for long, else it has just now.
        """
        cdef atf_thread *t
        cdef uint8_t payload[8192]
        cdef uint32_t detail, k, size
        cdef uint64_t number, ticks
        if not self.producing:
            raise SessionError("this pool was finished: it takes no more records")
        for entry in details:
            self.segments.control.drain_heartbeat_ticks = 1 if silent else atf_ticks(self.segments.control.clock_type)
            t = atf_enter()
            number = t.seq_base + t.count
            ticks = atf_ticks(t.clock_type)
            detail = ATF_NO_DETAIL
            if entry is not None:
                size = entry
                if size > sizeof(payload):
                    raise UsageError(f"a detail of {size} bytes: at most {sizeof(payload)}")
                for k in range(size):
                    payload[k] = <uint8_t>number
                detail = atf_detail(t, ATF_D_EVENT, payload, size, ticks)
                self.details += detail != ATF_NO_DETAIL
            atf_write_at(t, ticks, ATF_INSTANT, number, t.depth, detail)
            self.produced += 1

    def leave(self):
        """The producing thread ends; the next record is the first of a new thread."""
        if self.producing:
            atf_session_close()
            _open(self.segments)

    def drain(self, bint peek=False):
        """One pass of the drain; ``peek``: rings that are not full too. Returns the records and GAPs written."""
        if not self.producing:
            raise SessionError("this pool was finished: there is nothing to drain")
        return atf_source_pass(&self.source, peek, 0)

    def finish(self):
        """The producing thread ends and all files are completed."""
        if self.producing:
            self.producing = False
            atf_session_close()
            atf_source_finish(&self.source)

    @property
    def stats(self):
        """``{"taken_back", "lane", "lane_dropped", "transitions", "spares_free"}``: rings taken back by the threads that have a
        slot, records that went to the global lane, records refused there, changes of the mode, spare rings that nobody has."""
        cdef uint32_t i
        taken = 0
        for i in range(self.segments.registry.capacity):
            taken += atf_slot_at(self.segments.registry, i).taken_back
        return {
            "taken_back": taken, "lane": self.segments.rings.tail, "lane_dropped": self.segments.rings.dropped,
            "transitions": self.segments.control.mode_transitions, "spares_free": bin(self.segments.registry.spares_free).count("1"),
        }

    def close(self):
        """Finish and let the memory go. May be called again."""
        if self.opened:
            self.finish()
            self.opened = False
            atf_source_close(&self.source)
            self.segments = None
            _busy.release()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()
