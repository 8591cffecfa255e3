/* Where nobody drains, a thread that ended leaves its slot to a later one: what it wrote stays readable until no other slot is free.
 * Never includes Python.h. */
#ifndef ATF_RECYCLE_H
#define ATF_RECYCLE_H
#include "lane.h"

/* Makes the rings of a thread that ended FREE, all of them or, when a reader holds one, none. Nobody writes there, and FREE rings
 * of a CLAIMED slot are nobody else's. The acquires pair with the reader's give-back: it read before we write. */
static inline int atf_slot_empty(const atf_registry *r, atf_slot *s)
{
    atf_ring *rings[2 * ATF_MAX_RINGS];
    uint32_t was[2 * ATF_MAX_RINGS], n = 0, done = 0;
    for (uint32_t i = 0; i < r->index_rings; i++) rings[n++] = &s->index[i];
    for (uint32_t i = 0; i < r->detail_rings; i++) rings[n++] = &s->detail[i];
    for (; done < n; done++) {
        uint32_t state = was[done] = atf_load_acquire32(&rings[done]->state);
        int left = state == ATF_RING_FREE || state == ATF_RING_FULL || state == ATF_RING_ACTIVE;
        if (!left || !atf_cas_acq_rel32(&rings[done]->state, state, ATF_RING_FREE)) break;
    }
    if (done == n) return 1;
    while (done--) atf_store_release32(&rings[done]->state, was[done]);
    return 0;
}

/* The slot of the thread that ended longest ago, CLAIMED and empty; NULL: every thread lives, or readers are about. */
static inline atf_slot *atf_slot_recycle(atf_registry *r)
{
    uint64_t after = 0;
    for (;;) {
        atf_slot *found = NULL;
        for (uint32_t i = 0; i < r->capacity; i++) {
            atf_slot *s = atf_slot_at(r, i);
            if (atf_load_acquire32(&s->state) != ATF_SLOT_EXITED || atf_load_relaxed64(&s->exited_ticks) < after) continue; /* pairs with leave_slot */
            if (!found || atf_load_relaxed64(&s->exited_ticks) < atf_load_relaxed64(&found->exited_ticks)) found = s;
        }
        if (!found) return NULL;
        if (!atf_cas_acq_rel32(&found->state, ATF_SLOT_EXITED, ATF_SLOT_CLAIMED)) continue;
        if (atf_slot_empty(r, found)) {
            atf_bygone *b = &r->bygones[atf_add_acq_rel32(&r->bygone, 1) % ATF_BYGONES];
            atf_store_relaxed64(&b->numbers, (uint64_t)atf_load_relaxed32(&found->number) << 32 | atf_load_relaxed32(&found->tid));
            atf_store_relaxed64(&b->records, atf_load_relaxed64(&found->next_seq));
            atf_store_relaxed64(&b->begun_ticks, atf_load_relaxed64(&found->begun_ticks));
            atf_store_relaxed64(&b->exited_ticks, atf_load_relaxed64(&found->exited_ticks));
            return found;
        }
        after = atf_load_relaxed64(&found->exited_ticks) + 1;
        atf_store_release32(&found->state, ATF_SLOT_EXITED); /* as it was */
    }
}
#endif
