/* The reading half of slice.h: rings and the global lane. */
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
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the copy is read before the words that tell whether it is whole */
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

typedef struct stretch {
    uint64_t start_ns, end_ns;
    uint64_t last_ns;    /* not 0: start_ns is not known before the newest record is */
} stretch;

static atf_run *copy_run(const atf_event *events, uint64_t first, uint64_t n)
{
    atf_run *run = malloc(sizeof *run + n * sizeof *events);
    if (!run) return NULL;
    run->next = NULL;
    run->first = first;
    run->n = n;
    memcpy(run->events, events, n * sizeof *events);
    return run;
}

/* Copies a thread's records of the stretch out of its rings, oldest first in *runs. Returns how many records of the thread
 * stood in rings that are overwritten, when the stretch may reach back to these, else 0. */
static uint64_t read_events(atf_cutter *k, atf_cut *cut, atf_slot *slot, uint32_t number, stretch *w, atf_run **runs)
{
    atf_lane lane = atf_index_lane(k->registry, slot);
    uint64_t before = UINT64_MAX, first = 0;
    for (int tries = 0; tries < TRIES;) {
        uint32_t i = newest(k, &lane, slot, before, &first);
        if (i == ATF_NO_RING) return before == UINT64_MAX ? 0 : before;
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
        atf_run *run = high > low ? copy_run(events + low, first + low, high - low) : NULL;
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
        if (low) return 0; /* the stretch begins in this ring */
        before = first;
    }
    return before == UINT64_MAX ? 0 : before;
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

static void read_details(atf_cutter *k, atf_cut *cut, atf_slot *slot, uint32_t number, uint64_t least, uint64_t most, atf_detail_run **runs)
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

/* ---------------------------------------------------------------- the global lane
 * What threads without a slot wrote. Published cells stay as they are for as long as nobody consumes them. */
void atf_cutter_tidy(atf_cutter *k)
{
    atf_global_lane *g = k->global;
    uint64_t at = atf_load_relaxed64(&g->consumed), tail = atf_load_acquire64(&g->tail);
    if (tail - at < g->capacity / 2) return;
    for (uint64_t end = at + g->capacity / 4; at < end; at++) {
        atf_cell *cell = atf_cell_at(g, at);
        if (atf_load_acquire64(&cell->turn) != at + 1) return;  /* pairs with the producer's release of turn: it is being written */
        atf_store_release64(&cell->turn, at + g->capacity);     /* pairs with the producer's acquire of turn */
        atf_store_relaxed64(&g->consumed, at + 1);
    }
}

static int cell_at(const atf_global_lane *g, uint64_t at, atf_cell *to)
{
    const atf_cell *cell = (const atf_cell *)((const char *)g + g->cells_offset) + (at & (g->capacity - 1));
    if (atf_load_acquire64(&cell->turn) != at + 1) return 0; /* pairs with the producer's release of turn */
    *to = *cell;
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* of another process: its owner may have tidied meanwhile */
    return atf_load_relaxed64(&cell->turn) == at + 1 && to->event.event_kind != 0;
}

/* Puts a thread's cells between its runs. Returns whether there are any. */
static int read_cells(atf_cutter *k, atf_cut *cut, uint32_t number, uint32_t *tid, const stretch *w, atf_run **runs)
{
    atf_global_lane *g = k->global;
    atf_cell cell;
    int found = 0;
    uint64_t tail = atf_load_acquire64(&g->tail);
    for (uint64_t at = atf_load_relaxed64(&g->consumed); at < tail; at++) {
        if (!cell_at(g, at, &cell) || cell.number != number) continue;
        uint64_t ns = atf_to_ns(&k->scale, cell.event.timestamp_ns);
        if (ns < w->start_ns || ns > w->end_ns) continue;
        cell.event.detail_seq = ATF_NO_DETAIL;
        atf_run *run = copy_run(&cell.event, cell.seq, 1), **place = runs;
        if (!run) {
            cut->no_memory = 1;
            return found;
        }
        while (*place && (*place)->first < cell.seq) place = &(*place)->next;
        run->next = *place;
        *place = run;
        *tid = cell.tid;
        found = 1;
    }
    return found;
}

/* ---------------------------------------------------------------- threads */
static atf_cut_thread *add(atf_cut *cut, uint32_t number)
{
    if (cut->n == cut->room) {
        uint32_t room = cut->room ? 2 * cut->room : 8;
        atf_cut_thread *grown = realloc(cut->threads, room * sizeof *grown);
        if (!grown) {
            cut->no_memory = 1;
            return NULL;
        }
        cut->threads = grown;
        cut->room = room;
    }
    uint32_t at = cut->n++;
    for (; at && cut->threads[at - 1].number > number; at--) cut->threads[at] = cut->threads[at - 1];
    memset(&cut->threads[at], 0, sizeof *cut->threads);
    cut->threads[at].number = number;
    return &cut->threads[at];
}

static void free_runs(atf_run *runs, atf_detail_run *details)
{
    for (atf_run *r; (r = runs);) {
        runs = r->next;
        free(r);
    }
    for (atf_detail_run *d; (d = details);) {
        details = d->next;
        free(d);
    }
}

static void take_thread(atf_cutter *k, atf_cut *cut, atf_slot *slot, stretch w)
{
    uint32_t number = atf_load_relaxed32(&slot->number), tid = slot->tid;
    atf_run *runs = NULL;
    atf_detail_run *details = NULL;
    uint64_t gone = read_events(k, cut, slot, number, &w, &runs), least = UINT64_MAX, most = 0;
    if (atf_load_acquire64(&k->global->tail) != atf_load_relaxed64(&k->global->consumed)) read_cells(k, cut, number, &tid, &w, &runs);
    for (const atf_run *r = runs; r; r = r->next)
        for (uint64_t i = 0; i < r->n; i++) {
            uint64_t detail = r->events[i].detail_seq;
            if (detail == ATF_NO_DETAIL) continue;
            if (detail < least) least = detail;
            if (detail > most) most = detail;
        }
    if (least <= most && k->registry->detail_rings) read_details(k, cut, slot, number, least, most, &details);
    atf_cut_thread *t = runs || gone ? add(cut, number) : NULL;
    if (t) {
        t->tid = tid;
        t->overwritten = gone != 0; /* at least one: nobody knows how many of them lay before the stretch */
        t->entered = runs && runs->first == 0 ? atf_load_relaxed32(&slot->entered) : 0;
        atf_slot_name_get(slot, t->name);
        if (atf_cut_join(k, cut, t, runs, details, w.start_ns) != 0) cut->no_memory = 1;
    }
    free_runs(runs, details);
}

/* Threads that have no slot, whose records stand in the global lane alone. */
static void take_slotless(atf_cutter *k, atf_cut *cut, const stretch *w)
{
    atf_global_lane *g = k->global;
    atf_cell cell;
    uint64_t tail = atf_load_acquire64(&g->tail);
    for (uint64_t at = atf_load_relaxed64(&g->consumed); at < tail && !cut->no_memory; at++) {
        if (!cell_at(g, at, &cell)) continue;
        uint32_t known = 0;
        for (uint32_t i = 0; i < cut->n && !known; i++) known = cut->threads[i].number == cell.number;
        atf_run *runs = NULL;
        uint32_t tid = cell.tid;
        if (known || !read_cells(k, cut, cell.number, &tid, w, &runs)) continue;
        atf_cut_thread *t = add(cut, cell.number);
        if (t) {
            t->tid = tid;
            if (atf_cut_join(k, cut, t, runs, NULL, w->start_ns) != 0) cut->no_memory = 1;
        }
        free_runs(runs, NULL);
    }
}

/* The time of a thread's newest record, 0: it has none. */
static uint64_t newest_ns(atf_cutter *k, atf_slot *slot)
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

/* A trace has one thread at least: the first there is, with an empty file. */
static void take_nothing(atf_cutter *k, atf_cut *cut, uint64_t ns)
{
    atf_cut_thread *t = add(cut, 0);
    if (!t) return;
    t->tid = k->control->head.owner_pid;
    for (uint32_t i = 0; i < k->registry->capacity; i++) {
        const atf_slot *slot = atf_slot_at(k->registry, i);
        uint32_t state = atf_load_acquire32(&slot->state);
        if (state != ATF_SLOT_LIVE && state != ATF_SLOT_EXITED) continue;
        t->number = atf_load_relaxed32(&slot->number);
        t->tid = slot->tid;
        atf_slot_name_get(slot, t->name);
        break;
    }
    if (atf_cut_join(k, cut, t, NULL, NULL, ns) != 0) cut->no_memory = 1;
}

int atf_cut_take(atf_cutter *k, atf_cut *cut, uint64_t start_ns, uint64_t end_ns, uint64_t last_ns)
{
    stretch all = {start_ns, end_ns, 0};
    memset(cut, 0, sizeof *cut);
    if (last_ns) {
        uint64_t last = 0;
        for (uint32_t i = 0; i < k->registry->capacity; i++) {
            uint64_t ns = newest_ns(k, atf_slot_at(k->registry, i));
            if (ns > last) last = ns;
        }
        all.start_ns = last > last_ns ? last - last_ns : 0;
    }
    for (uint32_t i = 0; i < k->registry->capacity && !cut->no_memory; i++) {
        atf_slot *slot = atf_slot_at(k->registry, i);
        uint32_t state = atf_load_acquire32(&slot->state); /* pairs with claim_slot and leave_slot */
        if (state != ATF_SLOT_LIVE && state != ATF_SLOT_EXITED) continue;
        stretch one = all;
        if (state == ATF_SLOT_LIVE) one.last_ns = last_ns;
        take_thread(k, cut, slot, one);
    }
    if (atf_load_acquire64(&k->global->tail) != atf_load_relaxed64(&k->global->consumed)) take_slotless(k, cut, &all);
    if (!cut->n) take_nothing(k, cut, all.start_ns);
    if (!cut->no_memory) return 0;
    atf_cut_free(cut);
    return -1;
}

void atf_cut_free(atf_cut *cut)
{
    for (uint32_t i = 0; i < cut->n; i++) {
        free(cut->threads[i].index);
        free(cut->threads[i].detail);
    }
    free(cut->threads);
    free(cut->functions);
    memset(cut, 0, sizeof *cut);
}
