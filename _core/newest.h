/* A bounded lane that keeps exactly the newest events of any number of threads, in the memory of one process. Producers never wait,
 * neither for each other nor for a reader; what is older than the newest `capacity` is gone. Never includes Python.h.
 *
 * An event is written into slots that nobody else sees, gets its position, and goes into the cell position % capacity by one exchange.
 * A producer that finds a younger event there came a whole lap late: its own is not among the newest any more.
 *
 * What an exchange took out may still be read by somebody. A reader writes into its `reading` word what it is about to read, then looks at
 * the cell again; a producer changes the cell, then looks at the `reading` words. All four are seq_cst, so either the reader sees that
 * the cell has changed, or the producer sees that the chain is being read and leaves it in `retired` for whoever comes
 * later. A reader that never comes back keeps one chain from being used again, and nobody from writing. */
#ifndef ATF_NEWEST_H
#define ATF_NEWEST_H
#include "layout.h"
#include "slots.h"
#include <sched.h>

#define ATF_READERS 8

typedef struct atf_newest {
    uint64_t capacity; /* events; constant */
    uint64_t *cells;   /* lap + 1 (low 32 bits) << 32 | first slot; 0: none yet */
    uint64_t tail ATF_ALIGNED;    /* producers': the next position */
    uint64_t first ATF_ALIGNED;   /* what is below was cleared */
    uint64_t pushed_out;          /* by newer ones, up to the last clear */
    uint64_t refused;             /* there was no memory for them */
    uint64_t reading[ATF_READERS] ATF_ALIGNED; /* the chain that a reader is at, or 0 */
    uint64_t readers[ATF_READERS] ATF_ALIGNED; /* process id of whoever has that word; 0, or of a parent before a fork: nobody */
    uint64_t retired ATF_ALIGNED; /* first of the chains that were being read when they were taken out */
    atf_slots slots ATF_ALIGNED;
} atf_newest;

/* 0: no memory. */
static inline int atf_newest_open(atf_newest *l, uint64_t capacity)
{
    memset(l, 0, sizeof *l);
    l->capacity = capacity;
    return capacity <= SIZE_MAX / sizeof *l->cells && (l->cells = calloc(capacity, sizeof *l->cells)) != NULL;
}

static inline void atf_newest_close(atf_newest *l)
{
    atf_slots_close(&l->slots);
    free(l->cells);
}

/* ---------------------------------------------------------------- producers */
static inline int atf_newest_is_read(const atf_newest *l, uint32_t chain)
{
    for (int i = 0; i < ATF_READERS; i++)
        if (atf_load_seq_cst64(&l->reading[i]) == chain) return 1; /* pairs with atf_newest_hold and _release */
    return 0;
}

static inline void atf_newest_retire(atf_newest *l, uint32_t chain)
{
    if (ATF_LIKELY(!atf_newest_is_read(l, chain))) {
        atf_slots_give(&l->slots, chain);
        return;
    }
    uint64_t first;
    do {
        first = atf_load_relaxed64(&l->retired);
        atf_store_relaxed32(&atf_slot256_at(&l->slots, chain)->link, (uint32_t)first);
    } while (!atf_cas_acq_rel64(&l->retired, first, chain)); /* pairs with the swap in atf_newest_sweep */
}

/* Looks once more at what was being read. */
static inline void atf_newest_sweep(atf_newest *l)
{
    uint32_t chain = (uint32_t)atf_swap_acq_rel64(&l->retired, 0);
    while (chain) {
        uint32_t next = atf_load_relaxed32(&atf_slot256_at(&l->slots, chain)->link);
        atf_newest_retire(l, chain);
        chain = next;
    }
}

/* Whether lap a is younger than lap b; both are the low halves of a number, less than 2^31 apart. */
static inline int atf_lap_after(uint64_t a, uint64_t b) { return (int32_t)((uint32_t)a - (uint32_t)b) > 0; }

/* Head and body as one event; head_bytes at most ATF_SLOT_ROOM. 0: no memory, counted. */
static inline int atf_newest_put(atf_newest *l, const void *head, uint32_t head_bytes, const void *body, uint32_t body_bytes)
{
    uint32_t chain = atf_slots_fill(&l->slots, head, head_bytes, body, body_bytes);
    if (ATF_UNLIKELY(!chain)) {
        atf_add_relaxed64(&l->refused, 1);
        return 0;
    }
    uint64_t position = atf_add_relaxed64(&l->tail, 1), lap = position / l->capacity; /* relaxed: the cell publishes */
    uint64_t *cell = &l->cells[position % l->capacity];
    uint64_t mine = (uint64_t)(uint32_t)(lap + 1) << 32 | chain, there;
    atf_slot256_at(&l->slots, chain)->position = position;
    ATF_BETWEEN();
    do {
        there = atf_load_relaxed64(cell);
        if (there && atf_lap_after(there >> 32, lap + 1)) {
            atf_slots_give(&l->slots, chain);
            return 1;
        }
    } while (!atf_cas_seq_cst64(cell, there, mine)); /* its release pairs with the acquire in atf_newest_hold */
    if (there) atf_newest_retire(l, (uint32_t)there);
    if (ATF_UNLIKELY(atf_load_relaxed64(&l->retired) != 0)) atf_newest_sweep(l);
    return 1;
}

/* ---------------------------------------------------------------- readers */
/* A `reading` word of one's own; waits while all are taken. */
static inline int atf_newest_enter(atf_newest *l, uint32_t pid)
{
    for (;; sched_yield())
        for (int i = 0; i < ATF_READERS; i++) {
            uint64_t who = atf_load_relaxed64(&l->readers[i]);
            if (who != pid && atf_cas_acq_rel64(&l->readers[i], who, pid)) return i;
        }
}

/* The event at this position, which stays as it is until the next hold or the release. 0: not there; *older tells whether
 * it is not there any more, else its producer is still at it. */
static inline uint32_t atf_newest_hold(atf_newest *l, int reader, uint64_t position, int *older)
{
    const uint64_t *cell = &l->cells[position % l->capacity], lap = position / l->capacity + 1;
    for (;;) {
        uint64_t word = atf_load_acquire64(cell);
        ATF_BETWEEN();
        if (!word || (uint32_t)(word >> 32) != (uint32_t)lap) {
            *older = word && atf_lap_after(word >> 32, lap);
            return 0;
        }
        atf_store_seq_cst64(&l->reading[reader], (uint32_t)word); /* its release: what was held before has been read */
        if (atf_load_seq_cst64(cell) == word) return (uint32_t)word;
    }
}

static inline void atf_newest_release(atf_newest *l, int reader)
{
    atf_store_seq_cst64(&l->reading[reader], 0); /* pairs with atf_newest_is_read: all was read */
    if (atf_load_relaxed64(&l->retired) != 0) atf_newest_sweep(l);
    atf_store_release64(&l->readers[reader], 0); /* pairs with the claim in atf_newest_enter */
}

/* Positions [from, to) that the lane has now, or will have in a moment. */
static inline void atf_newest_range(const atf_newest *l, uint64_t *from, uint64_t *to)
{
    uint64_t first = atf_load_acquire64(&l->first), tail = atf_load_acquire64(&l->tail);
    *from = tail > l->capacity && tail - l->capacity > first ? tail - l->capacity : first;
    *to = tail;
}

/* Forgets all up to now. */
static inline void atf_newest_clear(atf_newest *l)
{
    uint64_t first, tail;
    do {
        first = atf_load_acquire64(&l->first);
        tail = atf_load_acquire64(&l->tail);
        if (tail < first) tail = first;
    } while (!atf_cas_acq_rel64(&l->first, first, tail));
    if (tail - first > l->capacity) atf_add_relaxed64(&l->pushed_out, tail - first - l->capacity);
}

/* How many newer ones pushed out, since the lane was made. */
static inline uint64_t atf_newest_pushed_out(const atf_newest *l)
{
    uint64_t first = atf_load_acquire64(&l->first), tail = atf_load_acquire64(&l->tail), since = tail - first;
    return atf_load_relaxed64(&l->pushed_out) + (since > l->capacity ? since - l->capacity : 0);
}

/* Copies of events. At each offset into `bytes`: the length (uint32_t), four bytes of nothing, the position (uint64_t), the event. */
typedef struct atf_copies {
    uint8_t *bytes;
    uint64_t used, room;
    uint64_t *offsets; /* newest first */
    uint64_t events;
} atf_copies;

static inline void atf_copies_free(atf_copies *c)
{
    free(c->bytes);
    free(c->offsets);
}

static inline int atf_copies_append(atf_copies *c, const atf_slots *s, uint32_t chain)
{
    const atf_slot256 *one = atf_slot256_at(s, chain);
    uint64_t whole = (16 + (uint64_t)one->bytes + 7) / 8 * 8;
    if (c->used + whole > c->room) {
        uint64_t room = (c->used + whole) * 2;
        uint8_t *bytes = realloc(c->bytes, room);
        if (!bytes) return 0;
        c->bytes = bytes;
        c->room = room;
    }
    uint8_t *at = c->bytes + c->used;
    memcpy(at, &one->bytes, 4);
    memcpy(at + 8, &one->position, 8);
    atf_slots_copy(s, chain, at + 16);
    c->offsets[c->events++] = c->used;
    c->used += whole;
    return 1;
}

/* What the lane holds now. Newest first: when one is gone, all older ones are, so no hole is left between two that were copied; but an event
 * whose producer is still at it is not among them. 0: no memory. Free the copies either way. */
static inline int atf_newest_copy(atf_newest *l, uint32_t pid, atf_copies *c)
{
    memset(c, 0, sizeof *c);
    uint64_t from, to;
    atf_newest_range(l, &from, &to);
    if (to > from && !(c->offsets = malloc((to - from) * sizeof *c->offsets))) return 0;
    int reader = atf_newest_enter(l, pid), whole = 1, older = 0;
    for (uint64_t position = to; whole && position > from && !older;) {
        uint32_t chain = atf_newest_hold(l, reader, --position, &older);
        if (chain) whole = atf_copies_append(c, &l->slots, chain);
    }
    atf_newest_release(l, reader);
    return whole;
}
#endif
