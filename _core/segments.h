/* Lays three zeroed segments out for a new session: for a recorder, and for a forked child of a traced process, which makes its
 * own. Never includes Python.h. */
#ifndef ATF_SEGMENTS_H
#define ATF_SEGMENTS_H
#include "timescale.h"

typedef struct atf_settings {
    uint32_t pid, policy, drain_expected, level, clock_type;
    uint32_t untouched;  /* 1: ring memory is touched as it is needed, not when a thread begins */
    uint64_t start;      /* of the process, clock ticks since boot */
    uint64_t block_deadline_ns, ticks_per_second;
} atf_settings;

static inline uint64_t atf_control_bytes(void) { return (sizeof(atf_control) + 4095) / 4096 * 4096; }

static inline void atf_slot_format(atf_registry *r, const atf_geometry *g, uint32_t i)
{
    atf_slot *slot = atf_slot_at(r, i);
    uint64_t offset = atf_rings_start(g) + i * atf_slot_ring_bytes(g);
    for (uint32_t k = 0; k < g->index_rings; k++, offset += g->index_bytes) {
        slot->index[k].offset = offset;
        slot->index[k].capacity = g->index_bytes / sizeof(atf_event);
    }
    for (uint32_t k = 0; k < g->detail_rings; k++, offset += g->detail_bytes) {
        slot->detail[k].offset = offset;
        slot->detail[k].capacity = g->detail_bytes;
    }
}

/* bytes: of control, registry and rings, as they were made. The last store, of registry_ready, releases all before it. */
static inline void atf_segments_format(atf_control *c, atf_registry *r, atf_global_lane *lane, const uint64_t bytes[3], const atf_geometry *g, const atf_settings *s)
{
    atf_segment_head head = {ATF_SEGMENT_MAGIC, ATF_LAYOUT_VERSION, 0, s->pid, 0, s->start, 0};
    c->clock_type = s->clock_type;
    c->policy = s->policy;
    c->block_deadline_ns = s->block_deadline_ns;
    c->drain_expected = s->drain_expected;
    c->level = s->level;
    c->ticks_per_second = s->ticks_per_second;
    c->mode = ATF_MODE_GLOBAL;
    c->registry_version = ATF_LAYOUT_VERSION;
    c->registry_epoch = 1;
    atf_anchor_put(c, atf_anchor_now(c->clock_type));
    r->capacity = g->slots;
    r->index_rings = g->index_rings;
    r->detail_rings = g->detail_rings;
    r->index_bytes = g->index_bytes;
    r->detail_bytes = g->detail_bytes;
    r->spare_rings = g->spare_rings;
    r->spare_bytes = g->spare_bytes;
    for (uint32_t k = 0; k < g->spare_rings; k++) {
        r->spares[k].offset = atf_spares_start(g) + k * g->spare_bytes;
        r->spares_free |= 1ull << k;
    }
    r->slots_offset = sizeof(atf_registry);
    r->names_offset = r->slots_offset + g->slots * sizeof(atf_slot);
    r->names_capacity = g->names_bytes;
    lane->capacity = g->global_cells;
    lane->cells_offset = sizeof(atf_global_lane);
    for (uint64_t i = 0; i < g->global_cells; i++) atf_cell_at(lane, i)->turn = i;
    for (uint32_t i = 0; i < g->slots; i++) {
        atf_slot_format(r, g, i);
        atf_slot_at(r, i)->prefaulted = s->untouched;
    }
    head.kind = ATF_SEG_RINGS;
    head.bytes = bytes[2];
    lane->head = head;
    head.kind = ATF_SEG_REGISTRY;
    head.bytes = bytes[1];
    r->head = head;
    head.kind = ATF_SEG_CONTROL;
    head.bytes = bytes[0];
    c->head = head;
    c->state = ATF_STATE_RECORDING;
    atf_store_release32(&c->registry_ready, 1);
}
#endif
