"""The drain: one native thread that moves records from shared memory into files. See engine.h and source.h."""

import os
import time

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from atf._core.errors import OutputError, SessionError, UsageError
from atf._core.flight cimport BLOCK_BYTES, atf_asked, atf_asked_take, atf_flight, atf_flight_keep, atf_flight_mark, atf_flight_open, atf_functions_at, atf_named, atf_rules, atf_sighting
from atf._core.rows cimport overload_of, threads_of
from atf._core.shm cimport Segments, atf_control, atf_global_lane, atf_load_relaxed64, atf_registry

cdef extern from "engine.h" nogil:
    atf_engine *atf_engine_new()
    void atf_engine_lock(atf_engine *e)
    void atf_engine_unlock(atf_engine *e)
    void atf_engine_delete(atf_engine *e)
    int atf_engine_start(atf_engine *e)
    void atf_engine_join(atf_engine *e)
    void atf_engine_fork_waits(int wait)
    int atf_engine_add(atf_engine *e, atf_source *s)
    void atf_engine_finish(atf_engine *e, atf_source *s, int dead)
    void atf_engine_drop(atf_engine *e, atf_source *s)
    int atf_engine_look(atf_engine *e, atf_source *s, atf_source *numbers, atf_output **outputs, uint32_t *n)
    int atf_source_open(atf_source *s, atf_control *c, atf_registry *r, atf_global_lane *g, const char *dir, int resume)
    void atf_source_close(atf_source *s)
    void atf_engine_settle(atf_engine *e)
    void atf_engine_rules_changed(atf_engine *e)
    uint32_t atf_part_of(const atf_source *s)
    int atf_parts_open(atf_parts *p, const char *root, uint64_t max_bytes, uint64_t max_age_ns)
    void atf_left_free(atf_left *l)
    uint32_t lowest "__builtin_ctz"(uint32_t bits)
    uint32_t UNNAMED "ATF_UNNAMED"

KEEP = {"all": 0, "details": 1, "windows": 2}
RULES = {"symbol": 1, "exception": 2, "duration": 3, "mark": 4, "outside": 5, "asked": 6, "crash": 7}
RULES_MOST = 31
WINDOW = ("start_ns", "end_ns", "mark_ns", "marks", "rule", "version", "settled_ns")
SIGHTING = [(n, "u8") for n in ("source", "function_id", "timestamp_ns", "duration_ns")] + [(n, "u4") for n in ("tid", "depth", "kind", "reserved")]


cdef class Source:
    """One recorded process in the drain's hands: its segments and its directory."""
    cdef atf_source *source
    cdef atf_engine *engine  # NULL: in none
    cdef readonly Segments segments
    cdef readonly object path
    cdef readonly bint finished

    def __cinit__(self, Segments segments, path, bint resume=False, bint in_earlier=False):
        self.segments = segments
        self.path = os.fspath(path)
        self.source = <atf_source *>calloc(1, sizeof(atf_source))
        if self.source == NULL:
            raise MemoryError
        if not os.path.isdir(self.path):
            raise OutputError(f"{self.path}: no such directory; make it before its process is drained")
        error = atf_source_open(self.source, segments.control, segments.registry, segments.rings, os.fsencode(self.path), resume + (resume and in_earlier))
        if error:
            raise OutputError(f"{self.path}: {os.strerror(error)}")

    def __dealloc__(self):
        if self.source != NULL and self.engine == NULL:
            atf_source_close(self.source)
            free(self.source)

    @property
    def totals(self):
        """``{"events", "bytes", "writes", "disk_error", "refused", "passes", "write_ns", "lag_ns", "lag_most_ns", "gone"}`` so far; refused:
        threads whose files are there and cannot be gone on with (only with ``resume``): what their rings hold is still there. gone: records of threads without a row."""
        cdef atf_source numbers
        with nogil:
            atf_engine_look(self.engine, self.source, &numbers, NULL, NULL)
        error = os.strerror(numbers.disk_error) if numbers.disk_error else None
        return {"events": numbers.events, "bytes": numbers.bytes, "writes": numbers.writes, "disk_error": error, "refused": numbers.refused,
                "passes": numbers.m.passes, "write_ns": numbers.m.write_ns, "lag_ns": max(numbers.m.lag_ns, numbers.m.lag_second_ns),
                "lag_most_ns": numbers.m.lag_most_ns, "gone": numbers.m.gone}

    @property
    def key(self):
        """By which Drain.sightings tells it from others while it is drained."""
        return <uint64_t>self.source

    def name_functions(self, ids, masks, uint64_t until_ns):
        """Tell which rules speak of functions: for each id (uint64, shape (N,)) the bits of these rules (uint32), 0: none. Calls
        that came before their function was named are marked now. until_ns: every function that was called before this
        moment (CLOCK_BOOTTIME) has been named; nothing later is decided while there are rules about functions."""
        cdef const uint64_t[::1] of = ids
        cdef const uint32_t[::1] bits = masks
        cdef atf_flight *f = self.engine.flight if self.engine != NULL else NULL
        cdef atf_named *entry
        cdef uint32_t met
        cdef Py_ssize_t i
        if of.shape[0] != bits.shape[0]:
            raise ValueError("as many masks as ids")
        if f == NULL: return
        with nogil:
            atf_engine_lock(self.engine)
            for i in range(of.shape[0]):
                entry = atf_functions_at(&self.source.functions, of[i])
                if entry == NULL: continue
                met = bits[i] & f.policy.named & ~f.policy.timed
                if entry.rules & UNNAMED and met and entry.first_ns:
                    atf_flight_mark(f, entry.first_ns, lowest(met))
                    atf_flight_mark(f, entry.last_ns, lowest(met))
                entry.rules = bits[i]
            self.source.named_ns = max(self.source.named_ns, until_ns)
            atf_engine_unlock(self.engine)

    def overload(self):
        """How close lanes were to losing records: ``{"lanes", "periods", "unlisted"}``. lanes: those that were not always normal, how
        often they entered each state and in which they are. periods: of pressure and dropping, the newest ones, by when they began;
        thread None: the global lane; endNs None: it lasts. unlisted: periods that were too many to list."""
        return self.look()["overload"]

    def threads(self):
        """What stands in the files, per thread: a list of dicts ordered by thread number. In a recording with parts: in those of the
        part that is written now."""
        return self.look()["threads"]

    def look(self):
        """``{"part", "threads", "overload"}``, all of one moment; part: the number of the part that is written, 0: there are no parts."""
        cdef atf_source numbers
        cdef atf_output *outputs = NULL
        cdef uint32_t n = 0
        with nogil:
            error = atf_engine_look(self.engine, self.source, &numbers, &outputs, &n)
        if error:
            raise MemoryError
        try:
            return {"part": atf_part_of(&numbers), "threads": threads_of(outputs, n), "overload": overload_of(outputs, n, &numbers.pressure, &numbers.periods)}
        finally:
            free(outputs)


@cython.no_gc_clear  # its sources are let go of in an order: see __dealloc__
cdef class Drain:
    """One native thread for any number of recorded processes. It never takes the GIL."""
    cdef atf_engine *engine
    cdef list sources

    def __cinit__(self, flush_ns=None):
        self.engine = atf_engine_new()
        if self.engine == NULL:
            raise MemoryError
        if flush_ns is not None: self.engine.flush_ns = flush_ns
        self.sources = []

    def __dealloc__(self):
        if self.engine != NULL:
            for source in self.sources:
                (<Source>source).engine = NULL
            with nogil:
                atf_engine_delete(self.engine)

    def flight(self, keep, uint64_t pre_ns, uint64_t post_ns, uint64_t history_bytes):
        """Keep only what lies in windows around marks. Before the first process is added.

        keep: ``details`` (every event, details inside windows), ``windows`` (events too). pre_ns, post_ns: how far a window
        reaches around a mark. history_bytes: memory for what is not decided yet, of all threads together.
        """
        if self.engine.flight != NULL or self.sources:
            raise SessionError("what is kept is decided before a drain begins")
        if history_bytes < 16 * BLOCK_BYTES:
            raise UsageError(f"{history_bytes} bytes of history: at least {16 * BLOCK_BYTES}")
        cdef atf_flight *f = <atf_flight *>calloc(1, sizeof(atf_flight))
        if f == NULL:
            raise MemoryError
        cdef int error = atf_flight_open(f, KEEP[keep], pre_ns, post_ns, history_bytes)
        if error:
            free(f)
            raise SessionError(f"no {history_bytes} bytes of memory for the history: {os.strerror(error)}")
        self.engine.flight = f

    cdef atf_flight *_flight(self) except NULL:
        if self.engine.flight == NULL:
            raise SessionError("this drain keeps everything: there are no windows")
        return self.engine.flight

    def rules(self, rules):
        """Replace the policy: ``[(kind, text, threshold_ns)]``, kinds as in RULES. Returns its version. Functions must be named
        again for it (Source.name_functions); calls in progress are not timed by the new rules."""
        cdef atf_flight *f = self._flight()
        cdef atf_rules made
        cdef uint32_t i
        cdef bytes text
        if len(rules) > RULES_MOST:
            raise UsageError(f"{len(rules)} triggers: at most {RULES_MOST}")
        memset(&made, 0, sizeof(atf_rules))
        made.n = <uint32_t>len(rules)
        for i in range(made.n):
            kind, said, threshold_ns = rules[i]
            text = said.encode()
            if len(text) >= <Py_ssize_t>sizeof(made.rules[i].text):
                raise UsageError(f"{said!r}: at most {sizeof(made.rules[i].text) - 1} bytes")
            made.rules[i].kind = RULES[kind]
            made.rules[i].threshold_ns = threshold_ns
            memcpy(made.rules[i].text, <const char *>text, len(text))
            if kind in ("symbol", "duration"):
                made.named |= 1u << i
                if kind == "duration": made.timed |= 1u << i
            elif kind == "asked":
                made.asked |= 1u << i
            elif kind != "outside":
                made.other |= 1u << i
        with nogil:
            atf_engine_lock(self.engine)
            made.version = f.policy.version + 1
            f.policy = made
            atf_engine_rules_changed(self.engine)
            atf_engine_unlock(self.engine)
        return made.version

    def mark(self, ns=None, uint32_t rule=0):
        """Keep what lies around a moment (CLOCK_BOOTTIME, ns; default now)."""
        cdef atf_flight *f = self._flight()
        cdef uint64_t at = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if ns is None else ns
        with nogil:
            atf_engine_lock(self.engine)
            atf_flight_mark(f, at, rule)
            atf_engine_unlock(self.engine)

    def keep(self, uint64_t start_ns, uint64_t end_ns, uint32_t rule=0):
        """Keep what lies between two moments, both included."""
        cdef atf_flight *f = self._flight()
        if end_ns < start_ns:
            raise UsageError("a window ends after it begins")
        with nogil:
            atf_engine_lock(self.engine)
            atf_flight_keep(f, start_ns, end_ns, start_ns, rule)
            atf_engine_unlock(self.engine)

    def sightings(self, uint32_t most):
        """What "asked" rules are to be asked about, at most so many: bytes, of SIGHTING each; taken once, and nothing later is
        decided before answered() told how many were."""
        cdef atf_flight *f = self._flight()
        cdef uint32_t n
        cdef bytes made = PyBytes_FromStringAndSize(NULL, most * sizeof(atf_sighting))
        cdef atf_sighting *to = <atf_sighting *>PyBytes_AS_STRING(made)
        with nogil:
            atf_engine_lock(self.engine)
            n = atf_asked_take(&f.asked, to, most)
            atf_engine_unlock(self.engine)
        return made[: n * sizeof(atf_sighting)]

    def answered(self, uint64_t n):
        """So many more sightings were asked about and their marks made."""
        cdef atf_flight *f = self._flight()
        with nogil:
            atf_engine_lock(self.engine)
            f.asked.answered = min(f.asked.answered + n, f.asked.taken)
            atf_engine_unlock(self.engine)

    @property
    def asked(self):
        """``(seen, missed)``: events that "asked" rules were to be asked about, and those that could not be."""
        cdef atf_flight *f = self._flight()
        return f.asked.put, f.asked.missed

    def settle(self):
        """See everything that is committed now, and complete the windows that are over."""
        with nogil:
            atf_engine_settle(self.engine)

    def windows(self):
        """The windows so far, in order: a list of dicts; settled_ns is None while one is not in the files whole."""
        cdef atf_flight *f = self._flight()
        cdef uint32_t i
        found = []
        with nogil:
            atf_engine_lock(self.engine)
        for i in range(f.windows.n):
            found.append((f.windows.list[i].start_ns, f.windows.list[i].end_ns, f.windows.list[i].mark_ns, f.windows.list[i].marks,
                          f.windows.list[i].rule, f.windows.list[i].version, f.windows.list[i].settled_ns))
        atf_engine_unlock(self.engine)
        return [{**dict(zip(WINDOW, one)), "settled_ns": one[6] or None} for one in found]

    @property
    def history(self):
        """``{"bytes", "used", "most", "cut_items", "marks"}`` of the memory for what is not decided yet."""
        cdef atf_flight *f = self._flight()
        return {"bytes": f.store.blocks * BLOCK_BYTES, "used": f.store.used * BLOCK_BYTES, "most": f.store.most * BLOCK_BYTES,
                "cut_items": f.cut_items, "marks": f.marks}

    def parts(self, root, uint64_t max_bytes, uint64_t max_age_ns):
        """Write the recording in parts: a new one begins when one has max_bytes of records or is max_age_ns old (0: no limit). Before the
        first process is added; processes have their directories in ``<root>/part_0001``."""
        if self.engine.flight != NULL or self.engine.parts != NULL or self.sources:
            raise SessionError("parts are for drains that keep everything, and decided before one begins")
        cdef atf_parts *p = <atf_parts *>calloc(1, sizeof(atf_parts))
        if p == NULL:
            raise MemoryError
        if atf_parts_open(p, os.fsencode(root), max_bytes, max_age_ns):
            free(p)
            raise OutputError(f"{root}: the path is too long")
        self.engine.parts = p

    def left(self):
        """What parts left since this was asked last, oldest first: ``[{"source", "part", "ended_ns", "threads", "overload"}]``, one of
        each process of a part; source: its key."""
        cdef atf_left *l
        found = []
        if self.engine.parts == NULL: return found
        with nogil:
            atf_engine_lock(self.engine)
            l = self.engine.parts.left
            self.engine.parts.left = NULL
            self.engine.parts.waiting = 0
            self.engine.parts.last = &self.engine.parts.left
            atf_engine_unlock(self.engine)
        while l != NULL:
            found.append({"source": <uint64_t>l.source, "part": l.part, "ended_ns": l.ended_ns, "threads": threads_of(l.outputs, l.n),
                          "overload": overload_of(l.outputs, l.n, &l.pressure, &l.periods)})
            after = l.next
            atf_left_free(l)
            l = after
        return found

    def turn(self):
        """End the part that is written now at the next pass, if it has records."""
        if self.engine.parts == NULL:
            raise SessionError("this recording has no parts")
        with nogil:
            atf_engine_lock(self.engine)
            self.engine.parts.asked = 1
            atf_engine_unlock(self.engine)

    @property
    def part(self):
        """The number of the part that is written now; 0: there are no parts."""
        return self.engine.parts.number if self.engine.parts != NULL else 0

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
            raise OutputError(f"{source.path}: {os.strerror(error)}")
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
    def cycles(self):
        """Passes over all processes so far."""
        return atf_load_relaxed64(&self.engine.cycles)

    @property
    def cpu_ns(self):
        """CPU time the thread has used, ns."""
        return atf_load_relaxed64(&self.engine.cpu_ns)

    @property
    def let_by(self):
        """Passes that went by while somebody waited for what only the drain's thread holds: the most of one who waited."""
        return atf_load_relaxed64(&self.engine.turns.let_by)

    @property
    def running(self):
        return bool(self.engine.running)
