"""The three segments of a recorded process: how they are laid out, checked and looked at from Python.

Works on any writable buffers of the right sizes; where they come from is the business of ``segment``.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyObject_GetBuffer, Py_buffer, PyBuffer_Release
from libc.string cimport memset

from atf._core.errors import SegmentError, UsageError

cdef extern from "segments.h" nogil:
    ctypedef struct atf_settings:
        uint32_t pid, policy, drain_expected, level, clock_type, untouched
        uint64_t start, block_deadline_ns, ticks_per_second
    uint64_t atf_control_bytes()
    void atf_segments_format(atf_control *c, atf_registry *r, atf_global_lane *lane, const uint64_t *bytes, const atf_geometry *g, const atf_settings *s)

PAGE = 4096
STATES = {ATF_STATE_NEW: "new", ATF_STATE_RECORDING: "recording", ATF_STATE_STOPPED: "stopped"}
MODES = {ATF_MODE_GLOBAL: "global", ATF_MODE_PER_THREAD: "per thread"}
POLICIES = {"drop-oldest": ATF_DROP_OLDEST, "block": ATF_BLOCK}


cdef class _Owner:
    """Keeps one buffer mapped for as long as a pointer into it is used."""
    cdef Py_buffer view

    def __cinit__(self, source):
        PyObject_GetBuffer(source, &self.view, PyBUF_SIMPLE | PyBUF_WRITABLE)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef atf_geometry _geometry(int slots, int index_rings, int detail_rings, index_bytes, detail_bytes, int spare_rings, spare_bytes,
                            global_cells, names_bytes) except *:
    cdef atf_geometry g
    if not 1 <= slots <= 4096:
        raise UsageError(f"slots={slots}: 1 to 4096 threads can have rings of their own")
    if not 2 <= index_rings <= ATF_MAX_RINGS or not (detail_rings == 0 or 2 <= detail_rings <= ATF_MAX_RINGS):
        raise UsageError(f"a lane has 2 to {ATF_MAX_RINGS} rings, not {index_rings} and {detail_rings}")
    if index_bytes < PAGE or (detail_rings and detail_bytes < 4 * PAGE) or index_bytes > 1 << 30 or detail_bytes > 1 << 30:
        raise UsageError(f"a ring has 4 KiB (details: 16 KiB) to 1 GiB, not {index_bytes} and {detail_bytes} bytes")
    if not 0 <= spare_rings <= ATF_MAX_SPARES or (spare_rings and not 4 * PAGE <= spare_bytes <= 1 << 30):
        raise UsageError(f"a process has 0 to {ATF_MAX_SPARES} spare rings of 16 KiB to 1 GiB, not {spare_rings} of {spare_bytes} bytes")
    if global_cells < 2 or global_cells & (global_cells - 1):
        raise UsageError(f"global_cells={global_cells}: a power of two")
    memset(&g, 0, sizeof(g))
    g.slots = slots
    g.index_rings = index_rings
    g.detail_rings = detail_rings
    g.index_bytes = (index_bytes + PAGE - 1) // PAGE * PAGE
    g.detail_bytes = (detail_bytes + PAGE - 1) // PAGE * PAGE
    g.spare_rings = spare_rings
    g.spare_bytes = (spare_bytes + PAGE - 1) // PAGE * PAGE
    g.global_cells = global_cells
    g.names_bytes = (names_bytes + 7) // 8 * 8
    return g


def sizes(*, slots=64, index_rings=4, detail_rings=2, index_bytes=1536 * 1024, detail_bytes=1024 * 1024, spare_rings=0, spare_bytes=2 << 20,
          global_cells=16384, names_bytes=16 << 20):
    """Bytes of the three segments for these numbers: ``(control, registry, rings)``. Bytes of rings are those of one ring."""
    cdef atf_geometry g = _geometry(slots, index_rings, detail_rings, index_bytes, detail_bytes, spare_rings, spare_bytes, global_cells, names_bytes)
    return atf_control_bytes(), atf_registry_bytes(&g), atf_rings_bytes(&g)


cdef uint64_t _ticks_per_second(uint32_t clock_type) noexcept nogil:
    """First estimate over a millisecond, good to some 30 ppm; the drain's anchors replace it."""
    cdef atf_anchor a = atf_anchor_now(clock_type), b
    while True:
        b = atf_anchor_now(clock_type)
        if b.boottime_ns - a.boottime_ns > 1000000:
            return <uint64_t>((b.ticks - a.ticks) * 1e9 / (b.boottime_ns - a.boottime_ns))


def format(control, registry, rings, *, int pid, start, policy="drop-oldest", block_deadline_ns=5_000_000_000, drain_expected=True, int level=0,
           slots=64, index_rings=4, detail_rings=2, index_bytes=1536 * 1024, detail_bytes=1024 * 1024, spare_rings=0, spare_bytes=2 << 20,
           global_cells=16384, names_bytes=16 << 20, bint common_clock=False, bint touched=True):
    """Lay out three zeroed buffers for a new session of process ``pid`` (started at ``start`` clock ticks after boot).

    common_clock: CLOCK_BOOTTIME instead of the processor's counter, for a process that cannot read this one's (an emulated one).
    touched: a thread's ring memory is touched when it begins, else when it is needed.
    """
    cdef atf_geometry g = _geometry(slots, index_rings, detail_rings, index_bytes, detail_bytes, spare_rings, spare_bytes, global_cells, names_bytes)
    cdef _Owner a = _Owner(control), b = _Owner(registry), d = _Owner(rings)
    cdef atf_settings s
    cdef uint64_t[3] bytes_
    bytes_[0], bytes_[1], bytes_[2] = <uint64_t>a.view.len, <uint64_t>b.view.len, <uint64_t>d.view.len
    if bytes_[0] < sizeof(atf_control) or bytes_[1] < atf_registry_bytes(&g) or bytes_[2] < atf_rings_bytes(&g):
        raise SegmentError("a segment is smaller than its layout; create it with the sizes that sizes() gives")
    if policy not in POLICIES:
        raise UsageError(f"policy {policy!r}: choose one of {', '.join(POLICIES)}")
    memset(&s, 0, sizeof(s))
    s.pid, s.start = pid, start
    s.policy, s.block_deadline_ns = POLICIES[policy], block_deadline_ns
    s.drain_expected, s.level, s.untouched = drain_expected, level, not touched
    s.clock_type = ATF_CLOCK_GETTIME if common_clock else atf_clock_detect()
    s.ticks_per_second = _ticks_per_second(s.clock_type)
    atf_segments_format(<atf_control *>a.view.buf, <atf_registry *>b.view.buf, <atf_global_lane *>d.view.buf, bytes_, &g, &s)


cdef int _check_head(atf_segment_head *head, Py_ssize_t bytes, int kind, str what) except -1:
    if bytes < <Py_ssize_t>sizeof(atf_segment_head) or head.magic != ATF_SEGMENT_MAGIC or head.kind != kind:
        raise SegmentError(f"the {what} segment was not made by atf")
    if head.version != ATF_LAYOUT_VERSION:
        raise SegmentError(f"the {what} segment has layout version {head.version}, this atf knows {ATF_LAYOUT_VERSION}: use the same release on both sides")
    if <uint64_t>bytes < head.bytes:
        raise SegmentError(f"the {what} segment has {bytes} bytes and claims {head.bytes}")
    return 0


cdef class Segments:
    """Three mapped segments, checked: ``Segments(control, registry, rings)`` over writable buffers.

    Raises SegmentError for buffers that are not a session of this layout version.
    """

    def __init__(self, control, registry, rings):
        cdef _Owner a = _Owner(control), b = _Owner(registry), d = _Owner(rings)
        _check_head(<atf_segment_head *>a.view.buf, a.view.len, ATF_SEG_CONTROL, "control")
        _check_head(<atf_segment_head *>b.view.buf, b.view.len, ATF_SEG_REGISTRY, "registry")
        _check_head(<atf_segment_head *>d.view.buf, d.view.len, ATF_SEG_RINGS, "rings")
        self.control = <atf_control *>a.view.buf
        self.registry = <atf_registry *>b.view.buf
        self.rings = <atf_global_lane *>d.view.buf
        self._bounds(b.view.len, d.view.len)
        self.owners = (a, b, d)

    def _bounds(self, uint64_t registry_bytes, uint64_t rings_bytes):
        """Offsets come from another process: each must stay inside its segment before it is followed."""
        cdef atf_registry *r = self.registry
        cdef uint32_t i, k
        cdef atf_slot *slot
        bad = r.slots_offset != sizeof(atf_registry) or not 1 <= r.capacity <= 4096
        bad = bad or r.index_rings > ATF_MAX_RINGS or r.detail_rings > ATF_MAX_RINGS
        bad = bad or r.names_offset != r.slots_offset + r.capacity * sizeof(atf_slot) or r.names_offset + r.names_capacity > registry_bytes
        bad = bad or r.spare_rings > ATF_MAX_SPARES or (r.spare_rings and r.spare_bytes > rings_bytes)
        bad = bad or self.rings.capacity == 0 or self.rings.capacity & (self.rings.capacity - 1) != 0
        bad = bad or self.rings.cells_offset + self.rings.capacity * sizeof(atf_cell) > rings_bytes
        if not bad:
            for k in range(r.spare_rings):
                bad = bad or r.spares[k].offset + r.spare_bytes > rings_bytes
            for i in range(r.capacity):
                slot = atf_slot_at(r, i)
                for k in range(r.index_rings):
                    bad = bad or slot.index[k].offset + slot.index[k].capacity * 32 > rings_bytes
                for k in range(r.detail_rings):
                    bad = bad or slot.detail[k].offset + slot.detail[k].capacity > rings_bytes
        if bad:
            raise SegmentError("a segment's offsets lead outside of it: it is damaged")

    @property
    def info(self):
        """State of the session: a dict of plain values."""
        cdef atf_control *c = self.control
        return {
            "pid": c.head.owner_pid,
            "start": c.head.owner_start,
            "state": STATES.get(atf_load_acquire32(&c.state), "unknown"),
            "mode": MODES.get(atf_load_acquire32(&c.mode), "unknown"),
            "policy": "block" if c.policy == ATF_BLOCK else "drop-oldest",
            "level": c.level,
            "clock": "tsc" if c.clock_type == 0 else "clock_gettime",
            "ticks_per_second": c.ticks_per_second,
            "drain_pid": c.drain_pid,
            "drain_passes": atf_load_relaxed64(&c.drain_passes),
            "mode_transitions": atf_load_relaxed64(&c.mode_transitions),
            "fallback_events": atf_load_relaxed64(&c.fallback_events),
            "slotless_threads": atf_load_relaxed64(&c.slotless_threads),
            "global_dropped": atf_load_relaxed64(&self.rings.dropped),
            "spares_most": atf_load_relaxed64(&self.registry.spares_most),
            "threads_seen": atf_load_acquire32(&self.registry.thread_counter),
            "names_lost": self.registry.names_lost,
        }

    @property
    def anchors(self):
        """The newest reading of the clocks: ``(boottime_ns, unix_ns)``."""
        cdef atf_anchor a = atf_anchor_now(self.control.clock_type)
        return a.boottime_ns, a.unix_ns

    def stop(self):
        """Tell every producer, in whichever process, to record nothing more."""
        atf_store_release32(&self.control.state, ATF_STATE_STOPPED)
        atf_add_acq_rel32(&self.control.gate, 1)

    def set_level(self, uint32_t level):
        """Ask the producers for another level (bits of recorder.LEVEL_*): each thread changes at its next event."""
        atf_store_relaxed32(&self.control.level_wanted, level)
        atf_add_acq_rel32(&self.control.gate, 1) # after the store: pairs with the acquire load in atf_enter_slow

    @property
    def capture_ns(self):
        """Time that hooks spent on writing values down, of all threads; counted where a budget is set."""
        return <uint64_t>(atf_load_relaxed64(&self.control.capture_ticks) * 1e9 / self.control.ticks_per_second)

    @property
    def pending_bytes(self):
        """What the rings hold at most for the files, in bytes: all that is committed in rings that are not free."""
        cdef uint32_t i, k, state
        cdef uint64_t total = (self.rings.tail - self.rings.consumed) * 32, first
        cdef atf_slot *s
        for i in range(self.registry.capacity):
            s = atf_slot_at(self.registry, i)
            state = atf_load_acquire32(&s.state)
            if state != ATF_SLOT_LIVE and state != ATF_SLOT_EXITED:
                continue
            for k in range(self.registry.index_rings):
                total += atf_load_acquire64(&s.index[k].head) * 32 if atf_load_acquire32(&s.index[k].state) else 0
            for k in range(self.registry.detail_rings):
                total += atf_load_acquire64(&s.detail[k].head) if atf_load_acquire32(&s.detail[k].state) else 0
            for k in range(self.registry.spare_rings):
                first = <uint64_t>1 << k
                total += atf_load_acquire64(&self.registry.spares[k].head) * 32 if s.index_spares & first else 0
                total += atf_load_acquire64(&self.registry.spares[k].head) if s.detail_spares & first else 0
        return total

    def drained_by(self, int pid):
        """Note which process drains, for those who look for a stale session."""
        self.control.drain_pid = pid

    def slots(self):
        """The threads that have a slot now: a list of dicts."""
        cdef uint32_t i, state
        cdef atf_slot *s
        cdef char name[48]
        found = []
        for i in range(self.registry.capacity):
            s = atf_slot_at(self.registry, i)
            state = atf_load_acquire32(&s.state)
            if state == ATF_SLOT_LIVE or state == ATF_SLOT_EXITED:
                atf_slot_name_get(s, name)
                found.append({
                    "slot": i, "number": s.number, "tid": s.tid, "name": (<bytes>name).decode("utf-8", "replace"),
                    "exited": state == ATF_SLOT_EXITED, "taken_back": atf_load_relaxed64(&s.taken_back), "lost_newest": atf_load_relaxed64(&s.lost_newest),
                    "details_lost": atf_load_relaxed64(&s.details_lost), "blocked_ns": atf_load_relaxed64(&s.blocked_ns),
                })
        return found

    def name_threads(self, names):
        """Give live threads their names: ``{tid: name}``. Only for a thread that has none yet."""
        cdef uint32_t i
        cdef atf_slot *s
        cdef char name[48]
        for i in range(self.registry.capacity):
            s = atf_slot_at(self.registry, i)
            atf_slot_name_get(s, name)
            if atf_load_acquire32(&s.state) == ATF_SLOT_LIVE and name[0] == 0 and s.tid in names:
                text = names[s.tid].encode("utf-8", "replace")
                atf_slot_name_put(s, text, len(text))

    def names(self, uint64_t start=0):
        """Names put into the log since byte ``start``: ``(next_start, [(kind, id, line, name, file)])``; kind 1 module, 2 function."""
        cdef uint64_t tail = atf_load_acquire64(&self.registry.names_tail)
        cdef char *base = <char *>self.registry + self.registry.names_offset
        cdef atf_name *n
        found = []
        if tail > self.registry.names_capacity:
            tail = self.registry.names_capacity
        while start + sizeof(atf_name) <= tail:
            n = <atf_name *>(base + start)
            if n.length < sizeof(atf_name) or start + n.length > tail or n.text_bytes > n.length - sizeof(atf_name):
                break
            text = (<char *>n)[sizeof(atf_name):sizeof(atf_name) + n.text_bytes].split(b"\0")
            file = text[1] if len(text) > 1 else b""
            found.append((n.kind, n.id, n.line, text[0].decode("utf-8", "replace"), file.decode("utf-8", "replace")))
            start += n.length
        return start, found
