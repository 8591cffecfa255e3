"""The structs of layout.h that Cython code touches, for cimport."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from "layout.h" nogil:
    enum:
        ATF_SEGMENT_MAGIC, ATF_LAYOUT_VERSION, ATF_MAX_RINGS, ATF_MAX_SPARES, ATF_SEG_CONTROL, ATF_SEG_REGISTRY, ATF_SEG_RINGS
        ATF_STATE_NEW, ATF_STATE_RECORDING, ATF_STATE_STOPPED, ATF_MODE_GLOBAL, ATF_MODE_PER_THREAD, ATF_DROP_OLDEST, ATF_BLOCK, ATF_CLOCK_GETTIME
        ATF_SLOT_FREE, ATF_SLOT_CLAIMED, ATF_SLOT_LIVE, ATF_SLOT_EXITED, ATF_NAME_MODULE, ATF_NAME_FUNCTION
    ctypedef struct atf_segment_head:
        uint32_t magic
        uint16_t version, kind
        uint32_t owner_pid
        uint64_t owner_start, bytes
    ctypedef struct atf_anchor:
        uint64_t ticks, boottime_ns, unix_ns
    ctypedef struct atf_control:
        atf_segment_head head
        uint32_t clock_type, policy, drain_expected, level
        uint64_t block_deadline_ns, ticks_per_second
        uint32_t gate, state, mode, registry_ready, registry_version, registry_epoch, level_wanted
        uint64_t drain_heartbeat_ticks, drain_passes
        uint32_t drain_pid
        uint64_t mode_transitions, fallback_events, slotless_threads, capture_ticks, anchor_count
    ctypedef struct atf_ring:
        uint32_t state
        uint64_t first_seq, drained, offset, capacity, head
    ctypedef struct atf_slot:
        uint32_t state, pid, tid, number, entered, attention
        uint64_t next_seq, lost_newest, details_lost, taken_back, blocked_ns, index_spares, detail_spares
        atf_ring index[8]
        atf_ring detail[8]
    ctypedef struct atf_registry:
        atf_segment_head head
        uint32_t capacity, index_rings, detail_rings, spare_rings
        uint64_t index_bytes, detail_bytes, spare_bytes, slots_offset, names_offset, names_capacity
        uint32_t thread_counter
        uint64_t names_tail, names_lost, spares_free, spares_most
        atf_ring spares[64]
    ctypedef struct atf_name:
        uint32_t length, kind
        uint64_t id
        uint32_t line, text_bytes
    ctypedef struct atf_cell:
        uint64_t turn
    ctypedef struct atf_global_lane:
        atf_segment_head head
        uint64_t capacity, cells_offset, tail, consumed, dropped
    ctypedef struct atf_geometry:
        uint32_t slots, index_rings, detail_rings, spare_rings
        uint64_t index_bytes, detail_bytes, spare_bytes, global_cells, names_bytes
    void atf_slot_name_get(const atf_slot *s, char *text)
    void atf_slot_name_put(atf_slot *s, const char *text, size_t bytes)
    atf_slot *atf_slot_at(atf_registry *r, uint32_t i)
    atf_cell *atf_cell_at(atf_global_lane *g, uint64_t position)
    uint64_t atf_registry_bytes(const atf_geometry *g)
    uint64_t atf_rings_bytes(const atf_geometry *g)
    uint64_t atf_spares_start(const atf_geometry *g)
    uint64_t atf_slot_ring_bytes(const atf_geometry *g)

cdef extern from "timescale.h" nogil:
    uint32_t atf_clock_detect()
    uint64_t atf_ticks(uint32_t clock_type)
    atf_anchor atf_anchor_now(uint32_t clock_type)
    void atf_anchor_put(atf_control *c, atf_anchor a)

cdef extern from "atomics.h" nogil:
    uint32_t atf_load_acquire32(const uint32_t *p)
    void atf_store_relaxed32(uint32_t *p, uint32_t v)
    void atf_store_release32(uint32_t *p, uint32_t v)
    uint32_t atf_add_acq_rel32(uint32_t *p, uint32_t v)
    uint64_t atf_load_acquire64(const uint64_t *p)
    uint64_t atf_load_relaxed64(const uint64_t *p)

cdef class Segments:
    """The three mapped segments of one recorded process, checked. Holds their buffers."""
    cdef object owners
    cdef atf_control *control
    cdef atf_registry *registry
    cdef atf_global_lane *rings
