/* See slice.h: the threads, the global lane, and what is gone. */
#include "slice.h"
#include "lane.h"
#include <stdlib.h>
#include <string.h>

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
        atf_store_relaxed64(&g->tidied_ticks, cell->event.timestamp_ns); /* about the newest: threads publish in nearly this order */
        atf_store_release64(&cell->turn, at + g->capacity);     /* pairs with the producer's acquire of turn */
        atf_store_relaxed64(&g->consumed, at + 1);
    }
}

static int cell_at(const atf_global_lane *g, uint64_t at, atf_cell *to)
{
    const atf_cell *cell = (const atf_cell *)((const char *)g + g->cells_offset) + (at & (g->capacity - 1));
    if (atf_load_acquire64(&cell->turn) != at + 1) return 0; /* pairs with the producer's release of turn */
    *to = *cell;
    atf_fence_acquire(); /* of another process: its owner may have tidied meanwhile */
    return atf_load_relaxed64(&cell->turn) == at + 1 && to->event.event_kind != 0;
}

/* Puts a thread's cells between its runs. Returns whether there are any. *next: number behind the last one before the stretch. */
static int read_cells(atf_cutter *k, atf_cut *cut, uint32_t number, uint32_t *tid, const atf_stretch *w, atf_run **runs, uint64_t *next)
{
    atf_global_lane *g = k->global;
    atf_cell cell;
    int found = 0;
    uint64_t tail = atf_load_acquire64(&g->tail);
    for (uint64_t at = atf_load_relaxed64(&g->consumed); at < tail; at++) {
        if (!cell_at(g, at, &cell) || cell.number != number) continue;
        uint64_t ns = atf_to_ns(&k->scale, cell.event.timestamp_ns);
        if (ns < w->start_ns && cell.seq >= *next) *next = cell.seq + 1;
        if (ns < w->start_ns || ns > w->end_ns) continue;
        cell.event.detail_seq = ATF_NO_DETAIL;
        atf_run *run = atf_cut_run(&cell.event, cell.seq, 1), **place = runs;
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

static int has(const atf_cut *cut, uint32_t number)
{
    for (uint32_t i = 0; i < cut->n; i++)
        if (cut->threads[i].number == number) return 1;
    return 0;
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

/* ---------------------------------------------------------------- what is gone
 * Of records below number `first`, which are not there, how many lay in the stretch: at least so many, and 0 only when none did. Marks tell
 * when each of the last rings that were taken back ended; the one in which the stretch begins counts as one record, and one in which it
 * ends as none. When a producer went on so fast meanwhile that no mark reaches back to `first`, nobody knows, and that is 1 as well.
 * more: record `first` is in the stretch. */
static uint64_t gone_from_rings(atf_cutter *k, const atf_slot *slot, const atf_stretch *w, uint64_t first, int more, uint64_t *until)
{
    atf_fence_acquire(); /* the rings were looked at before: what is gone from there has its mark */
    uint64_t taken = atf_load_acquire64(&slot->taken_back); /* pairs with the release in take_oldest */
    uint64_t i = taken >= ATF_MARKS ? taken - ATF_MARKS + 1 : 0, least = 0, end = first, begun = atf_load_relaxed64(&slot->begun_ticks);
    int found = begun && atf_to_ns(&k->scale, begun) >= w->start_ns; /* all of them are later */
    if (found && atf_to_ns(&k->scale, begun) > w->end_ns) return 0;
    int inside = more;
    for (; i <= taken; i++) { /* the last is of a ring that is being taken; while none is, of one from long ago */
        const atf_mark *m = &slot->gone[i % ATF_MARKS];
        uint64_t seq = atf_load_relaxed64(&m->seq), ns = atf_to_ns(&k->scale, atf_load_relaxed64(&m->ticks));
        if (seq > first || (i == taken && seq != first)) continue;
        *until = seq;
        if (ns < w->start_ns) continue;
        if (!found) least = seq - 1;
        found = 1;
        if (ns <= w->end_ns) end = more ? first : seq, inside = 1;
    }
    if (!found) return taken >= ATF_MARKS && !*until;
    return inside && end > least ? end - least : 1;
}

/* The same for what stood in the global lane: when it was tidied away is known, of what it refused nothing is. */
static uint64_t gone_from_lane(atf_cutter *k, const atf_stretch *w)
{
    uint64_t tidied = atf_load_relaxed64(&k->global->tidied_ticks);
    return atf_load_relaxed64(&k->global->dropped) || (tidied && atf_to_ns(&k->scale, tidied) >= w->start_ns);
}

static uint64_t gone_of(atf_cutter *k, const atf_slot *slot, const atf_stretch *w, uint64_t in_rings, const atf_run *runs, uint64_t next)
{
    uint64_t first = runs ? runs->first : in_rings, until = 0, gone = 0;
    if (!in_rings || !first || first == UINT64_MAX || first == next) return 0;
    if (slot) gone = gone_from_rings(k, slot, w, first, runs != NULL, &until);
    return gone || until == first ? gone : gone_from_lane(k, w);
}

/* Threads whose slots others have: nothing of them is left but when they lived, and how many records they wrote. */
static void take_bygones(atf_cutter *k, atf_cut *cut, const atf_stretch *w)
{
    uint32_t n = atf_load_acquire32(&k->registry->bygone);
    for (uint32_t i = n > ATF_BYGONES ? n - ATF_BYGONES : 0; i < n; i++) {
        const atf_bygone *b = &k->registry->bygones[i % ATF_BYGONES];
        uint64_t numbers = atf_load_relaxed64(&b->numbers), records = atf_load_relaxed64(&b->records);
        uint64_t known = atf_load_relaxed64(&b->begun_ticks), begun = known ? atf_to_ns(&k->scale, known) : 0, exited = atf_to_ns(&k->scale, atf_load_relaxed64(&b->exited_ticks));
        if (!records || exited < w->start_ns || begun > w->end_ns || has(cut, (uint32_t)(numbers >> 32))) continue;
        atf_cut_thread *t = add(cut, (uint32_t)(numbers >> 32));
        if (!t) return;
        t->tid = (uint32_t)numbers;
        t->overwritten = known && begun >= w->start_ns && exited <= w->end_ns ? records : 1;
        if (atf_cut_join(k, cut, t, NULL, NULL, begun > w->start_ns ? begun : w->start_ns) != 0) cut->no_memory = 1;
    }
}

/* ---------------------------------------------------------------- all together */
static void take_thread(atf_cutter *k, atf_cut *cut, atf_slot *slot, atf_stretch w)
{
    uint32_t number = atf_load_relaxed32(&slot->number), tid = atf_load_relaxed32(&slot->tid);
    atf_run *runs = NULL;
    atf_detail_run *details = NULL;
    uint64_t in_rings = atf_cut_events(k, cut, slot, number, &w, &runs), least = UINT64_MAX, most = 0, next = 0;
    if (atf_load_acquire64(&k->global->tail) != atf_load_relaxed64(&k->global->consumed)) read_cells(k, cut, number, &tid, &w, &runs, &next);
    uint64_t gone = gone_of(k, slot, &w, in_rings, runs, next);
    for (const atf_run *r = runs; r; r = r->next)
        for (uint64_t i = 0; i < r->n; i++) {
            uint64_t detail = r->events[i].detail_seq;
            if (detail == ATF_NO_DETAIL) continue;
            if (detail < least) least = detail;
            if (detail > most) most = detail;
        }
    if (least <= most && k->registry->detail_rings) atf_cut_details(k, cut, slot, number, least, most, &details);
    char name[sizeof ((atf_cut_thread *)NULL)->name];
    uint32_t entered = atf_load_relaxed32(&slot->entered);
    atf_slot_name_get(slot, name);
    atf_fence_acquire();
    int same = atf_load_relaxed32(&slot->number) == number; /* else another thread has the slot now */
    atf_cut_thread *t = runs || (gone && same) ? add(cut, number) : NULL;
    if (t) {
        t->tid = runs ? runs->events[0].thread_id : tid;
        t->overwritten = same ? gone : in_rings && runs->first && runs->first != next;
        t->entered = same && runs && runs->first == 0 ? entered : 0;
        if (same) memcpy(t->name, name, sizeof name);
        if (atf_cut_join(k, cut, t, runs, details, w.start_ns) != 0) cut->no_memory = 1;
    }
    free_runs(runs, details);
}

/* Threads that have no slot, whose records stand in the global lane alone. */
static void take_slotless(atf_cutter *k, atf_cut *cut, const atf_stretch *w)
{
    atf_global_lane *g = k->global;
    atf_cell cell;
    uint64_t tail = atf_load_acquire64(&g->tail);
    for (uint64_t at = atf_load_relaxed64(&g->consumed); at < tail && !cut->no_memory; at++) {
        if (!cell_at(g, at, &cell)) continue;
        uint64_t ns = atf_to_ns(&k->scale, cell.event.timestamp_ns);
        if (ns < w->start_ns || ns > w->end_ns) continue; /* else every cell of a thread would look for its others in vain */
        atf_run *runs = NULL;
        uint32_t tid = cell.tid;
        uint64_t next = 0;
        if (has(cut, cell.number) || !read_cells(k, cut, cell.number, &tid, w, &runs, &next)) continue;
        atf_cut_thread *t = add(cut, cell.number);
        if (t) {
            t->tid = tid;
            t->overwritten = gone_of(k, NULL, w, UINT64_MAX, runs, next);
            if (atf_cut_join(k, cut, t, runs, NULL, w->start_ns) != 0) cut->no_memory = 1;
        }
        free_runs(runs, NULL);
    }
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
        t->tid = atf_load_relaxed32(&slot->tid);
        atf_slot_name_get(slot, t->name);
        break;
    }
    if (atf_cut_join(k, cut, t, NULL, NULL, ns) != 0) cut->no_memory = 1;
}

int atf_cut_take(atf_cutter *k, atf_cut *cut, uint64_t start_ns, uint64_t end_ns, uint64_t last_ns)
{
    atf_stretch all = {start_ns, end_ns, 0};
    memset(cut, 0, sizeof *cut);
    if (last_ns) {
        uint64_t last = 0;
        for (uint32_t i = 0; i < k->registry->capacity; i++) {
            uint64_t ns = atf_cut_newest_ns(k, atf_slot_at(k->registry, i));
            if (ns > last) last = ns;
        }
        all.start_ns = last > last_ns ? last - last_ns : 0;
    }
    for (uint32_t i = 0; i < k->registry->capacity && !cut->no_memory; i++) {
        atf_slot *slot = atf_slot_at(k->registry, i);
        uint32_t state = atf_load_acquire32(&slot->state); /* pairs with claim_slot and leave_slot */
        if (state != ATF_SLOT_LIVE && state != ATF_SLOT_EXITED) continue;
        atf_stretch one = all;
        if (state == ATF_SLOT_LIVE) one.last_ns = last_ns;
        take_thread(k, cut, slot, one);
    }
    if (atf_load_acquire64(&k->global->tail) != atf_load_relaxed64(&k->global->consumed)) take_slotless(k, cut, &all);
    if (!cut->no_memory) take_bygones(k, cut, &all);
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
