/* A session on the heap, laid out as shm.format lays it out, for C harnesses without Python. */
#ifndef ATF_TEST_SESSION_H
#define ATF_TEST_SESSION_H
#include "timescale.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct session {
    atf_control *control;
    atf_registry *registry;
    atf_global_lane *lane;
} session;

static inline void *zeroed(uint64_t bytes)
{
    void *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!p) exit(2);
    return memset(p, 0, bytes);
}

static inline session session_new(const atf_geometry *g, uint32_t policy, uint64_t block_deadline_ns)
{
    session s = {zeroed(sizeof(atf_control)), zeroed(atf_registry_bytes(g)), zeroed(atf_rings_bytes(g))};
    atf_control *c = s.control;
    c->clock_type = atf_clock_detect();
    c->policy = policy;
    c->block_deadline_ns = block_deadline_ns;
    c->drain_expected = 1;
    atf_anchor a = atf_anchor_now(c->clock_type), b;
    do b = atf_anchor_now(c->clock_type);
    while (b.boottime_ns - a.boottime_ns < 1000000);
    c->ticks_per_second = (uint64_t)((double)(b.ticks - a.ticks) * 1e9 / (double)(b.boottime_ns - a.boottime_ns));
    atf_anchor_put(c, b);
    atf_registry *r = s.registry;
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
    s.lane->capacity = g->global_cells;
    s.lane->cells_offset = sizeof(atf_global_lane);
    for (uint64_t i = 0; i < g->global_cells; i++) atf_cell_at(s.lane, i)->turn = i;
    for (uint32_t i = 0; i < g->slots; i++) {
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
    c->registry_ready = 1;
    atf_store_release32(&c->state, ATF_STATE_RECORDING);
    return s;
}

static inline void session_free(session *s)
{
    free(s->control);
    free(s->registry);
    free(s->lane);
}
#endif
