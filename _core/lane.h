/* A lane: the rings of one thread, in which its records stand in order. Its own rings, and for as long as the drain does not follow,
 * spare rings that it borrows from its process. Never includes Python.h.
 *
 * The producer borrows when none of its own is FREE; the drain hands a spare ring back as soon as it has read it. So memory for a
 * burst is there once for all threads, and what of it is never needed is never touched: of those that are free, the one
 * with the lowest number is borrowed first. A ring's number in a lane: below ATF_MAX_RINGS its own, then the spare ones. */
#ifndef ATF_LANE_H
#define ATF_LANE_H
#include "ring.h"

#define ATF_NO_RING UINT32_MAX

typedef struct atf_lane {
    atf_registry *registry;
    atf_ring *own;
    uint32_t n;         /* own rings */
    uint32_t unit;      /* bytes of what the lane counts in: events, or bytes */
    uint64_t *borrowed; /* in the slot: bit k is spare ring k */
} atf_lane;

static inline atf_lane atf_index_lane(atf_registry *r, atf_slot *s)
{
    return (atf_lane){r, s->index, r->index_rings, sizeof(atf_event), &s->index_spares};
}
static inline atf_lane atf_detail_lane(atf_registry *r, atf_slot *s)
{
    return (atf_lane){r, s->detail, r->detail_rings, 1, &s->detail_spares};
}

static inline atf_ring *atf_lane_ring(const atf_lane *l, uint32_t i)
{
    return i < ATF_MAX_RINGS ? &l->own[i] : &l->registry->spares[i - ATF_MAX_RINGS];
}

/* The ring after number i, among the lane's own and those of `borrowed`; ATF_NO_RING begins and ends. */
static inline uint32_t atf_lane_after(const atf_lane *l, uint64_t borrowed, uint32_t i)
{
    if (i == ATF_NO_RING && l->n) return 0;
    if (i + 1 < l->n) return i + 1;
    uint64_t rest = borrowed;
    if (i >= ATF_MAX_RINGS && i != ATF_NO_RING) rest &= i - ATF_MAX_RINGS == 63 ? 0 : UINT64_MAX << (i - ATF_MAX_RINGS + 1);
    return rest ? ATF_MAX_RINGS + (uint32_t)__builtin_ctzll(rest) : ATF_NO_RING;
}
#define ATF_EACH_RING(l, borrowed, i) for (uint32_t i = atf_lane_after(l, borrowed, ATF_NO_RING); i != ATF_NO_RING; i = atf_lane_after(l, borrowed, i))

/* ---- producer side ---- */

/* The first own ring that is FREE: while the drain follows, the same few are in use and stay in the caches. */
static inline uint32_t atf_lane_find_free(const atf_lane *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (atf_ring_is_free(&l->own[i])) return i;
    return ATF_NO_RING;
}

/* How many of `there` spare rings a lane may still borrow. The last eighth is for lanes that have less than an eighth themselves: a
 * thread that floods leaves room for the bursts of others. */
static inline uint32_t atf_lane_may_borrow(const atf_lane *l, uint64_t there)
{
    uint32_t left = (uint32_t)__builtin_popcountll(there), kept = l->registry->spare_rings / 8;
    uint32_t first = left > kept ? left - kept : 0, has = (uint32_t)__builtin_popcountll(atf_load_relaxed64(l->borrowed)) + first;
    uint32_t rest = has < kept ? kept - has : 0;
    return first + (rest < left - first ? rest : left - first);
}

/* The acquire of the claim pairs with the release in atf_lane_free: the drain's reads happen before our writes. The lane's bit
 * is set before the ring is ACTIVE, so that the drain finds every ring that was handed over. */
static inline uint32_t atf_lane_borrow(const atf_lane *l)
{
    atf_registry *r = l->registry;
    uint64_t there;
    while ((there = atf_load_relaxed64(&r->spares_free)) != 0) {
        if (!atf_lane_may_borrow(l, there)) break;
        if (!atf_cas_acq_rel64(&r->spares_free, there, there & (there - 1))) continue;
        uint32_t k = (uint32_t)__builtin_ctzll(there);
        uint64_t lent = r->spare_rings - (uint64_t)__builtin_popcountll(there) + 1;
        if (lent > atf_load_relaxed64(&r->spares_most)) atf_store_relaxed64(&r->spares_most, lent);
        r->spares[k].capacity = r->spare_bytes / l->unit;
        atf_or_acq_rel64(l->borrowed, 1ull << k);
        return ATF_MAX_RINGS + k;
    }
    return ATF_NO_RING;
}

/* The oldest FULL ring that no reader holds: what drop-oldest takes. */
static inline uint32_t atf_lane_oldest_full(const atf_lane *l)
{
    uint32_t oldest = ATF_NO_RING;
    uint64_t borrowed = atf_load_acquire64(l->borrowed), first = UINT64_MAX;
    ATF_EACH_RING (l, borrowed, i) {
        atf_ring *r = atf_lane_ring(l, i);
        if (atf_load_acquire32(&r->state) != ATF_RING_FULL || atf_load_relaxed64(&r->first_seq) >= first) continue;
        oldest = i;
        first = atf_load_relaxed64(&r->first_seq);
    }
    return oldest;
}

/* Takes this FULL ring of the lane back. 0: the drain holds it, or it is the lane's no longer: since it was looked for, the drain has read
 * it and another lane has borrowed and filled it. That came after our bit was cleared, which the acquire of the take-back makes
 * visible. It stays that lane's, as it was. */
static inline int atf_lane_take(const atf_lane *l, uint32_t i)
{
    atf_ring *r = atf_lane_ring(l, i);
    if (!atf_ring_take_back(r)) return 0;
    if (i < ATF_MAX_RINGS || atf_load_relaxed64(l->borrowed) >> (i - ATF_MAX_RINGS) & 1) return 1;
    atf_ring_give_back(r);
    return 0;
}

/* Drop-oldest. Fails when the drain holds all that are FULL. */
static inline uint32_t atf_lane_take_oldest(const atf_lane *l)
{
    uint32_t oldest;
    do oldest = atf_lane_oldest_full(l);
    while (oldest != ATF_NO_RING && !atf_lane_take(l, oldest));
    return oldest;
}

/* ---- drain side ---- */

static inline uint32_t atf_lane_full(const atf_lane *l)
{
    uint32_t n = 0;
    uint64_t borrowed = atf_load_acquire64(l->borrowed);
    ATF_EACH_RING (l, borrowed, i) n += atf_load_acquire32(&atf_lane_ring(l, i)->state) == ATF_RING_FULL;
    return n;
}

/* Rings that the producer could have now, and how many these and those in use are. */
static inline uint32_t atf_lane_available(const atf_lane *l, uint32_t *total)
{
    uint32_t spare = atf_lane_may_borrow(l, atf_load_relaxed64(&l->registry->spares_free)), n = spare;
    for (uint32_t i = 0; i < l->n; i++) n += atf_load_acquire32(&l->own[i].state) == ATF_RING_FREE;
    *total = l->n + spare + (uint32_t)__builtin_popcountll(atf_load_relaxed64(l->borrowed));
    return n;
}

/* All read: an own ring is FREE, a spare one goes back. First out of the lane, then to those that may be borrowed. */
static inline void atf_lane_free(const atf_lane *l, uint32_t i)
{
    atf_ring *r = atf_lane_ring(l, i);
    if (i < ATF_MAX_RINGS) {
        atf_ring_free(r);
        return;
    }
    uint64_t bit = 1ull << (i - ATF_MAX_RINGS);
    atf_and_acq_rel64(l->borrowed, ~bit);
    atf_ring_free(r);
    atf_or_acq_rel64(&l->registry->spares_free, bit); /* pairs with the claim in atf_lane_borrow */
}

/* Its thread is over and all is read. */
static inline void atf_lane_release(atf_lane l)
{
    uint64_t borrowed = atf_load_acquire64(l.borrowed);
    ATF_EACH_RING (&l, borrowed, i) atf_lane_free(&l, i);
}

/* A drain that was killed left its marks. Those of its progress may be half written: from the start is right too, what is in
 * the files is skipped. */
static inline void atf_lane_revive(atf_lane l)
{
    uint64_t borrowed = atf_load_acquire64(l.borrowed);
    ATF_EACH_RING (&l, borrowed, i) {
        atf_ring *r = atf_lane_ring(&l, i);
        r->drained = 0;
        r->drained_details = 0;
        if (atf_load_acquire32(&r->state) == ATF_RING_DRAINING) atf_ring_give_back(r);
        else atf_ring_unpeek(r);
    }
}

/* Claims the oldest FULL ring, or with `peek` the ACTIVE one when there is no FULL one.
 *
 * A ring may become FULL behind the scan while a younger one is seen FULL in front of it. The claim's acquire
 * makes that older ring's word visible, and that it was borrowed, so the choice is checked again after it. */
static inline uint32_t atf_lane_oldest(const atf_lane *l, int peek, int *claimed)
{
    for (;;) {
        uint32_t full = ATF_NO_RING, active = ATF_NO_RING;
        uint64_t borrowed = atf_load_acquire64(l->borrowed), first = UINT64_MAX;
        ATF_EACH_RING (l, borrowed, i) {
            atf_ring *r = atf_lane_ring(l, i);
            uint32_t state = atf_load_acquire32(&r->state);
            if (state == ATF_RING_ACTIVE) active = i;
            if (state != ATF_RING_FULL || atf_load_relaxed64(&r->first_seq) >= first) continue;
            full = i;
            first = atf_load_relaxed64(&r->first_seq);
        }
        *claimed = full != ATF_NO_RING;
        if (!*claimed && (active == ATF_NO_RING || !peek)) return ATF_NO_RING;
        uint32_t pick = *claimed ? full : active;
        atf_ring *chosen = atf_lane_ring(l, pick);
        if (!(*claimed ? atf_ring_claim(chosen) : atf_ring_peek(chosen))) continue;
        first = chosen->first_seq;
        borrowed = atf_load_acquire64(l->borrowed);
        int older = 0;
        ATF_EACH_RING (l, borrowed, i) {
            atf_ring *r = atf_lane_ring(l, i);
            if (i != pick && atf_load_acquire32(&r->state) == ATF_RING_FULL && atf_load_relaxed64(&r->first_seq) < first) older = 1;
        }
        if (!older) return pick;
        if (*claimed) atf_ring_give_back(chosen);
        else atf_ring_unpeek(chosen);
    }
}
#endif
