/* The rings' part of slice.h: a ring is held while its part is copied, from the newest one to the oldest. */
#include "slice.h"
#include "lane.h"
#include <stdlib.h>
#include <string.h>

#define TRIES 64
#define OTHERS_WAIT 500 /* of 20 us: for another reader, who holds a ring for microseconds unless its process is stopped */

/* ---------------------------------------------------------------- holding a ring */
enum held { NOT_HELD, CLAIMED, PEEKED, BARE };

/* A reader that does not come back, because its process is stopped, leaves a ring marked: it is read as it is, and let_go tells
 * whether it was the same all the time. */
static enum held hold(const atf_cutter *k, atf_ring *r)
{
    for (uint32_t waited = 0;; waited++) {
        uint32_t state = atf_load_acquire32(&r->state);
        if (state == ATF_RING_FREE) return NOT_HELD;
        if (k->dead) return BARE;
        if (state == ATF_RING_TAKEN) return NOT_HELD;
        if (state == ATF_RING_FULL && atf_ring_claim(r)) return CLAIMED;
        if (state == ATF_RING_ACTIVE && atf_ring_peek(r)) return PEEKED;
        if (state == ATF_RING_FULL || state == ATF_RING_ACTIVE) continue; /* it changed hands just now */
        if (waited >= OTHERS_WAIT) return BARE;
        struct timespec nap = {0, 20000};
        nanosleep(&nap, NULL);
    }
}

/* 1: what was read since hold() is what the ring held. */
static int let_go(const atf_cutter *k, atf_ring *r, enum held how, uint64_t first)
{
    if (how == CLAIMED) atf_ring_give_back(r);
    if (how == PEEKED) atf_ring_unpeek(r);
    if (how != BARE || k->dead) return 1;
    atf_fence_acquire(); /* the copy is read before the words that tell whether it is whole */
    uint32_t state = atf_load_relaxed32(&r->state);
    return state != ATF_RING_TAKEN && state != ATF_RING_FREE && atf_load_relaxed64(&r->first_seq) == first;
}

/* Of the rings that begin below number `before` the newest; ATF_NO_RING: none. */
static uint32_t newest(const atf_cutter *k, const atf_lane *l, const atf_slot *slot, uint64_t before, uint64_t *first)
{
    uint32_t found = ATF_NO_RING;
    uint64_t borrowed = atf_load_acquire64(l->borrowed);
    ATF_EACH_RING (l, borrowed, i) {
        atf_ring *r = atf_lane_ring(l, i);
        uint32_t state = atf_load_acquire32(&r->state);
        uint64_t begins = atf_load_relaxed64(&r->first_seq);
        if (state == ATF_RING_FREE || begins >= before || (found != ATF_NO_RING && begins <= *first)) continue;
        /* A producer that was killed on the way into a ring numbered it and had not emptied it. */
        if (state == ATF_RING_TAKEN && (!k->dead || begins == atf_load_relaxed64(&slot->next_seq))) continue;
        found = i;
        *first = begins;
    }
    return found;
}

/* ---------------------------------------------------------------- events */
/* The first of n records at or after a time. Times do not decrease within a thread. */
static uint64_t from(atf_cutter *k, const atf_event *events, uint64_t n, uint64_t ns)
{
    uint64_t low = 0, high = n;
    while (low < high) {
        uint64_t half = low + (high - low) / 2;
        if (atf_to_ns(&k->scale, events[half].timestamp_ns) < ns) low = half + 1;
        else high = half;
    }
    return low;
}

atf_run *atf_cut_run(const atf_event *events, uint64_t first, uint64_t n)
{
    atf_run *run = malloc(sizeof *run + n * sizeof *events);
    if (!run) return NULL;
    run->next = NULL;
    run->first = first;
    run->n = n;
    memcpy(run->events, events, n * sizeof *events);
    return run;
}

uint64_t atf_cut_events(atf_cutter *k, atf_cut *cut, atf_slot *slot, uint32_t number, atf_stretch *w, atf_run **runs)
{
    atf_lane lane = atf_index_lane(k->registry, slot);
    uint64_t before = UINT64_MAX, first = 0;
    for (int tries = 0; tries < TRIES;) {
        uint32_t i = newest(k, &lane, slot, before, &first);
        if (i == ATF_NO_RING) return before;
        atf_ring *r = atf_lane_ring(&lane, i);
        enum held how = hold(k, r);
        if (how == NOT_HELD || atf_load_relaxed64(&r->first_seq) != first || atf_load_relaxed32(&slot->number) != number) {
            if (how != NOT_HELD) let_go(k, r, how, first);
            tries++;
            continue;
        }
        const atf_event *events = (const atf_event *)((const char *)k->global + r->offset);
        uint64_t n = atf_ring_committed(r);
        if (n > r->capacity) n = r->capacity; /* another process's word */
        if (w->last_ns && n) {
            uint64_t ns = atf_to_ns(&k->scale, events[n - 1].timestamp_ns);
            w->start_ns = ns > w->last_ns ? ns - w->last_ns : 0;
            w->last_ns = 0;
        }
        uint64_t low = from(k, events, n, w->start_ns), high = w->end_ns == UINT64_MAX ? n : from(k, events, n, w->end_ns + 1);
        atf_run *run = high > low ? atf_cut_run(events + low, first + low, high - low) : NULL;
        if (!let_go(k, r, how, first)) {
            free(run);
            tries++;
            continue;
        }
        if (run) {
            run->next = *runs;
            *runs = run;
        } else if (high > low) {
            cut->no_memory = 1;
            return 0;
        }
        /* The stretch begins in this ring, or between it and the one after it, which was overwritten while this one was held. */
        if (low) return low == n && before != UINT64_MAX && first + n < before ? before : 0;
        before = first;
    }
    return before;
}

/* ---------------------------------------------------------------- details */
/* The details with the numbers [least, most] of one ring. Records are walked: only their lengths tell where the next one is. */
static atf_detail_run *copy_details(const uint8_t *base, uint64_t end, uint64_t number, uint64_t least, uint64_t most)
{
    uint64_t at = 0, begin = 0, n = 0, first = number;
    atf_detail_record r;
    for (; at + sizeof r <= end && number <= most; number++) {
        memcpy(&r, base + at, sizeof r);
        if (r.total_length < sizeof r || r.total_length > end - at) break;
        if (number < least) begin = at + r.total_length, first = number + 1;
        else n++;
        at += r.total_length;
    }
    atf_detail_run *run = malloc(sizeof *run + (n ? at - begin : 0));
    if (!run) return NULL;
    *run = (atf_detail_run){NULL, first, n, n ? at - begin : 0};
    memcpy(run->records, base + begin, run->bytes);
    return run;
}

void atf_cut_details(atf_cutter *k, atf_cut *cut, atf_slot *slot, uint32_t number, uint64_t least, uint64_t most, atf_detail_run **runs)
{
    atf_lane lane = atf_detail_lane(k->registry, slot);
    uint64_t before = most == UINT64_MAX ? most : most + 1, first = 0;
    for (int tries = 0; tries < TRIES;) {
        uint32_t i = newest(k, &lane, slot, before, &first);
        if (i == ATF_NO_RING) return;
        atf_ring *r = atf_lane_ring(&lane, i);
        enum held how = hold(k, r);
        if (how == NOT_HELD || atf_load_relaxed64(&r->first_seq) != first || atf_load_relaxed32(&slot->number) != number) {
            if (how != NOT_HELD) let_go(k, r, how, first);
            tries++;
            continue;
        }
        uint64_t end = atf_ring_committed(r);
        if (end > r->capacity) end = r->capacity;
        atf_detail_run *run = copy_details((const uint8_t *)k->global + r->offset, end, first, least, most);
        if (!let_go(k, r, how, first)) {
            free(run);
            tries++;
            continue;
        }
        if (!run) {
            cut->no_memory = 1;
            return;
        }
        run->next = *runs;
        *runs = run;
        if (first <= least) return;
        before = first;
    }
}

uint64_t atf_cut_newest_ns(atf_cutter *k, atf_slot *slot)
{
    atf_lane lane = atf_index_lane(k->registry, slot);
    uint64_t before = UINT64_MAX, first = 0, ns = 0;
    for (int tries = 0; tries < TRIES && !ns; tries++) {
        uint32_t i = newest(k, &lane, slot, before, &first);
        if (i == ATF_NO_RING) break;
        atf_ring *r = atf_lane_ring(&lane, i);
        enum held how = hold(k, r);
        if (how == NOT_HELD) continue;
        uint64_t n = atf_ring_committed(r);
        if (n && n <= r->capacity) ns = atf_to_ns(&k->scale, ((const atf_event *)((const char *)k->global + r->offset))[n - 1].timestamp_ns);
        else before = first;
        if (!let_go(k, r, how, first)) ns = 0;
    }
    return ns;
}
