/* What came from outside is looked at before it is followed: plans, and segments. */
#include "agent.h"
#include <string.h>

/* Words that the controller wrote, each with an odd weight by its place: one changed word changes the sum. */
static uint64_t sum_of(const atf_plan *p, uint64_t from, uint64_t bytes)
{
    const uint64_t *words = (const uint64_t *)((const char *)p + from);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes / 8; i++) sum += words[i] * (2 * (from / 8 + i) + 1);
    return sum;
}

int atf_plan_good(const atf_plan *p, uint64_t bytes)
{
    if (bytes < sizeof *p + 8 || bytes % 8 || p->magic != ATF_PLAN_MAGIC || p->version != ATF_PLAN_VERSION || p->bytes != bytes) return 0;
    uint64_t modules_end = sizeof *p + (uint64_t)p->module_count * sizeof(atf_plan_module);
    uint64_t functions_end = modules_end + (uint64_t)p->function_count * sizeof(atf_plan_function);
    if (p->modules_offset != sizeof *p || p->functions_offset != modules_end || p->texts_offset != functions_end || functions_end + 8 > bytes) return 0;
    uint64_t sum = 1 + sum_of(p, 0, offsetof(atf_plan, state)) + sum_of(p, functions_end, bytes - 8 - functions_end), said;
    for (uint64_t at = sizeof *p; at < modules_end; at += sizeof(atf_plan_module)) sum += sum_of(p, at, offsetof(atf_plan_module, load_bias));
    for (uint64_t at = modules_end; at < functions_end; at += sizeof(atf_plan_function)) sum += sum_of(p, at, offsetof(atf_plan_function, state));
    memcpy(&said, (const char *)p + bytes - 8, 8);
    if (sum != said || (bytes - 8 > functions_end && ((const char *)p)[bytes - 9] != 0)) return 0;
    for (uint32_t i = 0; i < p->module_count; i++) {
        const atf_plan_module *m = (const atf_plan_module *)((const char *)p + p->modules_offset) + i;
        if (m->path_offset < functions_end || m->path_offset >= bytes - 8 || m->build_id_bytes > sizeof m->build_id) return 0;
        if ((uint64_t)m->first_function + m->function_count > p->function_count) return 0;
    }
    return 1;
}

int atf_segment_good(const atf_segment_head *h, int kind, uint64_t bytes)
{
    static const uint64_t least[] = {[ATF_SEG_CONTROL] = sizeof(atf_control), [ATF_SEG_REGISTRY] = sizeof(atf_registry), [ATF_SEG_RINGS] = sizeof(atf_global_lane)};
    return bytes >= least[kind] && h->magic == ATF_SEGMENT_MAGIC && h->kind == kind && h->version == ATF_LAYOUT_VERSION && h->bytes <= bytes;
}

static int ring_good(const atf_ring *r, uint64_t unit, uint64_t bytes)
{
    return r->offset < bytes && r->capacity <= bytes / unit && r->offset + r->capacity * unit <= bytes;
}

/* Offsets come from another process: each must stay inside its segment. */
int atf_session_good(atf_registry *r, const atf_global_lane *g, uint64_t registry_bytes, uint64_t rings_bytes)
{
    if (r->slots_offset != sizeof *r || r->capacity < 1 || r->capacity > 4096 || r->slots_offset + r->capacity * sizeof(atf_slot) > registry_bytes) return 0;
    if (r->index_rings > ATF_MAX_RINGS || r->detail_rings > ATF_MAX_RINGS || r->spare_rings > ATF_MAX_SPARES) return 0;
    if (g->capacity == 0 || g->capacity & (g->capacity - 1) || g->capacity > rings_bytes / sizeof(atf_cell)) return 0;
    if (g->cells_offset > rings_bytes || g->cells_offset + g->capacity * sizeof(atf_cell) > rings_bytes) return 0;
    if (r->index_bytes > rings_bytes || r->spare_bytes > rings_bytes) return 0;
    for (uint32_t k = 0; k < r->spare_rings; k++)
        if (r->spares[k].offset > rings_bytes || r->spares[k].offset + r->spare_bytes > rings_bytes) return 0;
    for (uint32_t i = 0; i < r->capacity; i++) {
        const atf_slot *s = atf_slot_at(r, i);
        for (uint32_t k = 0; k < r->index_rings; k++)
            if (!ring_good(&s->index[k], sizeof(atf_event), rings_bytes) || s->index[0].offset + r->index_rings * r->index_bytes > rings_bytes) return 0;
        for (uint32_t k = 0; k < r->detail_rings; k++)
            if (!ring_good(&s->detail[k], 1, rings_bytes)) return 0;
    }
    return 1;
}
