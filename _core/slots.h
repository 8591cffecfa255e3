/* A pool of equal slots for bytes of any length: what does not fit one slot goes on in the next. Any thread takes, any gives back,
 * none waits. Memory grows with the most that was ever in use and is let go with the pool. Never includes Python.h.
 *
 * A slot is its number, from 1; 0 is none. Its memory stays a slot for as long as the pool lives, so whoever holds an old number
 * may still look at `link`: the count in the top half of `spare` tells that it came too late. */
#ifndef ATF_SLOTS_H
#define ATF_SLOTS_H
#include "atomics.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#ifndef ATF_BETWEEN
#define ATF_BETWEEN() ((void)0) /* where another thread may come in between; a harness lets one */
#endif

#define ATF_SLAB_FIRST 1024u /* slots of the first slab; each further one has twice as many */
#define ATF_SLABS 21
#define ATF_SLOT_ROOM 232u

typedef struct atf_slot256 {
    uint32_t next;  /* of the chain; its owner's, constant while others may read it */
    uint32_t link;  /* in `spare`, or in a list of those waiting to be spare; atomic */
    uint32_t bytes; /* of the whole chain; in its first slot */
    uint32_t reserved;
    uint64_t position; /* its owner's */
    uint8_t room[ATF_SLOT_ROOM];
} atf_slot256;
_Static_assert(sizeof(atf_slot256) == 256, "a slot is 256 bytes");

typedef struct atf_slots {
    uint64_t spare; /* count of changes << 32 | first spare slot */
    uint64_t made;  /* slots that were ever given out */
    uint64_t slabs[ATF_SLABS]; /* addresses; each is set once */
} atf_slots;

static inline atf_slot256 *atf_slot256_at(const atf_slots *s, uint32_t slot)
{
    uint32_t n = slot - 1 + ATF_SLAB_FIRST, k = 31u - (uint32_t)__builtin_clz(n / ATF_SLAB_FIRST);
    /* The acquire pairs with the publication in atf_slots_grow. */
    return (atf_slot256 *)(uintptr_t)atf_load_acquire64(&s->slabs[k]) + (n - (ATF_SLAB_FIRST << k));
}

/* The slab of this slot is there. 0: no memory. */
static inline int atf_slots_grow(atf_slots *s, uint32_t slot)
{
    uint32_t k = 31u - (uint32_t)__builtin_clz((slot - 1 + ATF_SLAB_FIRST) / ATF_SLAB_FIRST);
    if (k >= ATF_SLABS) return 0;
    if (ATF_LIKELY(atf_load_acquire64(&s->slabs[k]) != 0)) return 1;
    void *slab = calloc((size_t)ATF_SLAB_FIRST << k, sizeof(atf_slot256));
    if (!slab) return 0;
    if (!atf_cas_acq_rel64(&s->slabs[k], 0, (uint64_t)(uintptr_t)slab)) free(slab); /* another was first */
    return 1;
}

/* 0: no memory. */
static inline uint32_t atf_slots_take(atf_slots *s)
{
    uint64_t spare;
    while ((uint32_t)(spare = atf_load_acquire64(&s->spare)) != 0) {
        uint32_t link = atf_load_relaxed32(&atf_slot256_at(s, (uint32_t)spare)->link);
        ATF_BETWEEN();
        /* The acquire pairs with the release in atf_slots_give: whoever had it is done with it. */
        if (atf_cas_acq_rel64(&s->spare, spare, ((spare >> 32) + 1) << 32 | link)) return (uint32_t)spare;
    }
    uint64_t made;
    do {
        made = atf_load_relaxed64(&s->made);
        if (made >= UINT32_MAX - ATF_SLAB_FIRST || !atf_slots_grow(s, (uint32_t)made + 1)) return 0;
    } while (!atf_cas_acq_rel64(&s->made, made, made + 1));
    return (uint32_t)made + 1;
}

/* A whole chain. */
static inline void atf_slots_give(atf_slots *s, uint32_t slot)
{
    while (slot) {
        atf_slot256 *one = atf_slot256_at(s, slot);
        uint32_t next = one->next;
        uint64_t spare;
        do {
            spare = atf_load_relaxed64(&s->spare);
            atf_store_relaxed32(&one->link, (uint32_t)spare);
        } while (!atf_cas_acq_rel64(&s->spare, spare, ((spare >> 32) + 1) << 32 | slot));
        slot = next;
    }
}

/* A chain with these bytes, one after the other; nobody else sees it yet. 0: no memory. */
static inline uint32_t atf_slots_fill(atf_slots *s, const void *head, uint32_t head_bytes, const void *body, uint32_t body_bytes)
{
    uint32_t first = atf_slots_take(s);
    if (!first) return 0;
    atf_slot256 *one = atf_slot256_at(s, first);
    one->bytes = head_bytes + body_bytes;
    one->next = 0;
    memcpy(one->room, head, head_bytes); /* a head is at most a slot */
    uint32_t used = head_bytes;
    for (const uint8_t *from = body; body_bytes;) {
        if (used == ATF_SLOT_ROOM) {
            uint32_t more = atf_slots_take(s);
            if (!more) {
                atf_slots_give(s, first);
                return 0;
            }
            one->next = more;
            one = atf_slot256_at(s, more);
            one->next = used = 0;
        }
        uint32_t n = body_bytes < ATF_SLOT_ROOM - used ? body_bytes : ATF_SLOT_ROOM - used;
        memcpy(one->room + used, from, n);
        used += n, from += n, body_bytes -= n;
    }
    return first;
}

static inline void atf_slots_copy(const atf_slots *s, uint32_t slot, uint8_t *out)
{
    const atf_slot256 *one = atf_slot256_at(s, slot);
    for (uint32_t left = one->bytes; left;) {
        uint32_t n = left < ATF_SLOT_ROOM ? left : ATF_SLOT_ROOM;
        memcpy(out, one->room, n);
        out += n, left -= n;
        if (left) one = atf_slot256_at(s, one->next);
    }
}

static inline void atf_slots_close(atf_slots *s)
{
    for (int k = 0; k < ATF_SLABS; k++) free((void *)(uintptr_t)s->slabs[k]);
}
#endif
