/* The ownership word of a ring: every step that moves a ring from one owner to another, and nothing else.
 * Which ring of a lane takes the step is the business of lane.h. Never includes Python.h.
 *
 * Why nobody ever reads what another writes: a record is read only from a ring that the reader owns
 * (DRAINING), or from the committed prefix of a ring under PEEK. The producer appends behind that prefix,
 * and it rewrites a prefix only after FREE -> ACTIVE or FULL -> TAKEN -> ACTIVE; FREE is set by the drain
 * alone, and FULL -> TAKEN expects the word without PEEK. The other comments of this project point here. */
#ifndef ATF_RING_H
#define ATF_RING_H
#include "layout.h"

/* ---- producer side ---- */

/* The acquire pairs with the release in atf_ring_free: the drain's reads happen before our writes. */
static inline int atf_ring_is_free(const atf_ring *r) { return atf_load_acquire32(&r->state) == ATF_RING_FREE; }

/* From FREE or TAKEN, both ours. The release pairs with the acquire in atf_ring_peek. */
static inline void atf_ring_activate(atf_ring *r, uint64_t first_seq)
{
    atf_store_relaxed64(&r->first_seq, first_seq); /* relaxed: the drain may look at it while it chooses a ring */
    atf_store_relaxed64(&r->drained, 0);           /* relaxed: and at this one, to estimate what is unread */
    r->drained_details = 0;
    atf_store_relaxed64(&r->head, 0);
    atf_store_release32(&r->state, ATF_RING_ACTIVE);
}

/* ACTIVE -> FULL; an addition, because the drain may set or clear PEEK at the same time. Its release pairs
 * with the acquire in atf_ring_claim. */
static inline void atf_ring_hand_over(atf_ring *r) { atf_add_acq_rel32(&r->state, ATF_RING_FULL - ATF_RING_ACTIVE); }

/* Drop-oldest: FULL -> TAKEN. Fails when the drain owns the ring or peeks into it. */
static inline int atf_ring_take_back(atf_ring *r) { return atf_cas_acq_rel32(&r->state, ATF_RING_FULL, ATF_RING_TAKEN); }

/* ---- drain side ---- */

static inline int atf_ring_claim(atf_ring *r) { return atf_cas_acq_rel32(&r->state, ATF_RING_FULL, ATF_RING_DRAINING); }
static inline int atf_ring_peek(atf_ring *r) { return atf_cas_acq_rel32(&r->state, ATF_RING_ACTIVE, ATF_RING_ACTIVE | ATF_RING_PEEK); }
static inline void atf_ring_unpeek(atf_ring *r) { atf_and_acq_rel32(&r->state, ~ATF_RING_PEEK); }

/* All read: DRAINING -> FREE; pairs with atf_ring_is_free. */
static inline void atf_ring_free(atf_ring *r) { atf_store_release32(&r->state, ATF_RING_FREE); }

/* Read in part: DRAINING -> FULL, `drained` says how far; or not to be taken: TAKEN -> FULL. Pairs with atf_ring_claim and atf_ring_take_back. */
static inline void atf_ring_give_back(atf_ring *r) { atf_store_release32(&r->state, ATF_RING_FULL); }

/* What is committed; pairs with the producer's release store of the head. */
static inline uint64_t atf_ring_committed(const atf_ring *r) { return atf_load_acquire64(&r->head); }
#endif
