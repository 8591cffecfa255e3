/* One recorded process: its threads in turn, its global lane, its slots. See source.h and lane.h. */
#include "flight.h"
#include "lane.h"
#include "parts.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- global lane */
/* The slot of a thread that no pass has visited yet. Its slot is LIVE before its first cell is published. */
static void find_slot(atf_source *s, atf_output *o)
{
    for (uint32_t i = 0; i < s->registry->capacity && o->slot == UINT32_MAX; i++) {
        atf_slot *slot = atf_slot_at(s->registry, i);
        uint32_t state = atf_load_acquire32(&slot->state); /* pairs with register and leave_slot */
        if ((state == ATF_SLOT_LIVE || state == ATF_SLOT_EXITED) && slot->number == o->number) o->slot = i;
    }
}

/* Everything that is published there. 0: stopped before a cell that is claimed but not yet written. */
int atf_source_drain_global(atf_source *s)
{
    atf_global_lane *g = s->global;
    uint64_t at = atf_load_relaxed64(&g->consumed), began = at, tail = atf_load_acquire64(&g->tail);
    int complete = 1;
    for (; at < tail; at++) {
        atf_cell *cell = atf_cell_at(g, at);
        if (atf_load_acquire64(&cell->turn) != at + 1) { /* pairs with the producer's release of turn */
            complete = 0;
            if (!s->dead) break;
            continue; /* its writer was killed in the middle */
        }
        if (at == began && cell->event.event_kind) atf_source_lag(s, cell->event.timestamp_ns);
        atf_output *o = atf_source_output(s, cell->number, cell->tid);
        if (o && !o->finished && !o->refused) {
            if (o->slot == UINT32_MAX && (cell->seq > o->expected || cell->event.detail_seq != ATF_NO_DETAIL)) find_slot(s, o);
            if (cell->seq > o->expected) atf_output_drain(s, o, cell->seq, 1, 1, UINT32_MAX);
            if (cell->event.event_kind == 0) { /* a thread without a slot ended after so many records */
                atf_output_ns(s, o, cell->event.timestamp_ns);
                atf_output_finish(s, o, cell->seq);
            } else if (cell->seq >= o->expected) {
                atf_output_put(s, o, cell->seq, &cell->event);
            }
        }
        atf_store_release64(&cell->turn, at + g->capacity); /* pairs with the producer's acquire of turn */
        atf_store_relaxed64(&g->consumed, at + 1);
    }
    if (s->dead) atf_store_relaxed64(&g->consumed, tail);
    return complete || s->dead;
}

/* ---------------------------------------------------------------- outputs */
/* Where the output of a thread stands in the list, or belongs. */
static uint32_t place_of(const atf_source *s, uint32_t number)
{
    uint32_t low = 0, high = s->n_outputs;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (s->outputs[mid]->number < number) low = mid + 1;
        else high = mid;
    }
    return low;
}

static atf_output *known(const atf_source *s, uint32_t number)
{
    uint32_t at = place_of(s, number);
    return at < s->n_outputs && s->outputs[at]->number == number ? s->outputs[at] : NULL;
}

static atf_output *insert(atf_source *s, uint32_t number, uint32_t tid)
{
    if (s->n_outputs == s->outputs_room) {
        uint32_t room = s->outputs_room ? 2 * s->outputs_room : 64;
        atf_output **grown = realloc(s->outputs, room * sizeof *grown);
        if (!grown) return NULL;
        s->outputs = grown;
        s->outputs_room = room;
    }
    atf_output *o = calloc(1, sizeof *o);
    if (!o) return NULL;
    o->number = number;
    o->tid = tid;
    o->slot = UINT32_MAX;
    o->w.index_fd = o->w.detail_fd = -1;
    uint32_t at = place_of(s, number);
    memmove(s->outputs + at + 1, s->outputs + at, (s->n_outputs - at) * sizeof *s->outputs);
    s->outputs[at] = o;
    s->n_outputs++;
    return o;
}

void atf_output_free(atf_output *o)
{
    atf_writer_drop(&o->w);
    free(o->watch);
    free(o->calls);
    free(o->progress.calls);
    free(o);
}

/* Files that a dead recorder left: 0 they go on, -1 they cannot, 1 there are none. When it died on the way into a part, the thread's
 * last records are in the part before. */
static int resume(atf_source *s, atf_output *o)
{
    uint64_t gaps;
    char dir[sizeof s->dir];
    strcpy(dir, s->dir);
    int r = atf_writer_resume(&o->w, dir, o->number, o->lost, &gaps);
    if (r > 0 && s->resume > 1 && atf_part_before(dir)) r = atf_writer_resume(&o->w, dir, o->number, o->lost, &gaps);
    if (r > 0) return r;
    o->in_earlier = strcmp(dir, s->dir) != 0;
    o->expected = o->w.events - gaps; /* what the file says, also of one that cannot be gone on with */
    for (uint32_t k = 0; k < 8; k++) o->expected += o->lost[k];
    o->from = o->lost[ATF_GAP_EARLIER] + o->w.carried;
    o->m.rate_from = o->expected;
    o->m.filtered = o->lost[ATF_GAP_UNKEPT];
    o->m.gaps = gaps;
    o->m.details_seen = o->w.details;
    if (r == 0) {
        o->last_ns = o->w.time_end_ns + (o->from && o->w.events == 1 + o->w.carried); /* as in open_first */
        o->opened = 1;
    } else {
        s->disk_error = o->w.error;
        s->refused++;
        o->refused = 1;
    }
    return r;
}

/* A file of a later part begins with what came before it: how many records, and the calls that are in progress. */
static int open_first(atf_source *s, atf_output *o)
{
    const atf_progress *p = &o->progress;
    uint32_t told = p->exits ? p->n : 0, n = 0;
    atf_event *first = NULL;
    if (told > o->from) told = (uint32_t)o->from; /* what the disk refused has not been told at all */
    if (o->from && (first = malloc((told + 1) * sizeof *first)) != NULL) {
        first[n++] = (atf_event){o->last_ns, o->from - told, o->tid, ATF_GAP, ATF_GAP_EARLIER, ATF_NO_DETAIL};
        for (uint32_t i = 0; i < told; i++) first[n++] = (atf_event){o->last_ns, p->calls[i].id, o->tid, ATF_CALL, p->calls[i].depth, ATF_NO_DETAIL};
    } else if (o->from) return ENOMEM;
    int refused = atf_writer_open(&o->w, s->dir, o->number, o->tid, first, n);
    free(first);
    if (refused) return o->w.error;
    if (s->part_bytes) *s->part_bytes += 128 + n * sizeof *first;
    if (n) {
        o->lost[ATF_GAP_EARLIER] = o->from - told;
        o->m.gaps++;
        o->last_ns++; /* a record of this part is later than what is told again: a recovery counts on it */
    }
    o->opened = 1;
    return 0;
}

atf_output *atf_source_output(atf_source *s, uint32_t number, uint32_t tid)
{
    atf_output *o = known(s, number);
    int later = s->flight && s->flight->keep == ATF_KEEP_WINDOWS; /* its files are made when something is kept */
    if (o && (o->w.index_fd >= 0 || o->finished || o->refused || later)) return o;
    if (!o) {
        o = insert(s, number, tid);
        if (!o || (s->resume && resume(s, o) <= 0) || later) return o;
    }
    int error = open_first(s, o);
    if (error) s->disk_error = error;
    return o;
}

/* From here on the numbers are the next part's: their sums over all parts are the thread's. */
void atf_output_next_part(atf_source *s, atf_output *o, uint64_t from_ns)
{
    const uint64_t slot[3] = {o->m.taken_back, o->m.details_refused, o->m.blocked_ns};
    for (uint32_t k = 0; k < 3; k++) o->slot_from[k] += slot[k];
    o->from = o->expected - o->pending_lost; /* a later GAP tells these */
    o->m = (atf_thread_metrics){.rate = o->m.rate, .rate_from = o->m.rate_from};
    memset(o->lost, 0, sizeof o->lost);
    o->details_lost = o->orphans = o->details_gone = o->details_unkept = 0;
    o->opened = 0;
    if (from_ns > o->last_ns) o->last_ns = from_ns;
    for (uint32_t k = 0; k < 2; k++) {
        o->pressure[k].lost = 0;
        atf_pressure_part(&o->pressure[k], &s->periods, o->number, k, atf_clock_ns(CLOCK_BOOTTIME));
    }
    atf_writer_drop(&o->w);
    o->w = (atf_writer){.index_fd = -1, .detail_fd = -1, .tid = o->tid};
}

/* ---------------------------------------------------------------- the process */
int atf_source_open(atf_source *s, atf_control *c, atf_registry *r, atf_global_lane *g, const char *dir, int resume)
{
    memset(s, 0, sizeof *s);
    s->control = c;
    s->registry = r;
    s->global = g;
    s->resume = (uint32_t)resume;
    s->detail_ring = ATF_NO_RING;
    if (snprintf(s->dir, sizeof s->dir, "%s", dir) >= (int)sizeof s->dir) return ENAMETOOLONG;
    s->seen = calloc(r->capacity, sizeof *s->seen);
    s->stage = malloc(ATF_STAGE_EVENTS * sizeof(atf_event));
    s->stage_details = malloc(ATF_STAGE_BYTES);
    if (!s->seen || !s->stage || !s->stage_details) return ENOMEM;
    if (resume) /* a drain that was killed left its marks; it does not exist any more */
        for (uint32_t i = 0; i < r->capacity; i++) {
            atf_slot *slot = atf_slot_at(r, i);
            atf_lane_revive(atf_index_lane(r, slot));
            atf_lane_revive(atf_detail_lane(r, slot));
        }
    return 0;
}

void atf_source_close(atf_source *s)
{
    for (uint32_t i = 0; i < s->n_outputs; i++) atf_output_free(s->outputs[i]);
    free(s->outputs);
    atf_functions_clear(&s->functions);
    free(s->seen);
    free(s->stage);
    free(s->stage_details);
    memset(s, 0, sizeof *s);
}

/* ---------------------------------------------------------------- numbers */
void atf_source_lag(atf_source *s, uint64_t oldest_ticks)
{
    uint64_t now = atf_ticks(s->control->clock_type), ticks = now > oldest_ticks ? now - oldest_ticks : 0;
    uint64_t ns = (uint64_t)((unsigned __int128)ticks * 1000000000u / s->control->ticks_per_second);
    if (ns > s->m.lag_second_ns) s->m.lag_second_ns = ns;
    if (ns > s->m.lag_most_ns) s->m.lag_most_ns = ns;
}

static void take_from_slot(atf_output *o, const atf_slot *slot)
{
    o->m.taken_back = atf_load_relaxed64(&slot->taken_back) - o->slot_from[0];
    o->m.details_refused = atf_load_relaxed64(&slot->details_lost) - o->slot_from[1];
    o->m.blocked_ns = atf_load_relaxed64(&slot->blocked_ns) - o->slot_from[2];
}

void atf_source_measure(atf_source *s)
{
    for (uint32_t i = 0; i < s->n_outputs; i++)
        if (s->outputs[i]->slot != UINT32_MAX) take_from_slot(s->outputs[i], atf_slot_at(s->registry, s->outputs[i]->slot));
}

/* Once a second: rates, and the lag of the second that ends. */
static void next_second(atf_source *s, uint64_t now_ns)
{
    uint64_t past = now_ns - s->m.second_from;
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        atf_output *o = s->outputs[i];
        o->m.rate = s->m.second_from ? (uint64_t)((unsigned __int128)(o->expected - o->m.rate_from) * 1000000000u / past) : 0;
        o->m.rate_from = o->expected;
    }
    s->m.lag_ns = s->m.lag_second_ns;
    s->m.lag_second_ns = 0;
    s->m.second_from = now_ns;
}

static void beat(atf_source *s)
{
    atf_control *c = s->control;
    uint64_t now = atf_ticks(c->clock_type);
    if (now >= s->next_anchor_ticks) {
        atf_anchor_put(c, atf_anchor_now(c->clock_type));
        s->next_anchor_ticks = now + c->ticks_per_second / 10;
        atf_timescale_load(&s->scale, c);
    }
    atf_count64(&c->drain_passes, 1);
    s->m.passes++;
    atf_store_relaxed64(&c->drain_heartbeat_ticks, now); /* read relaxed by producers: only its age matters */
    if (atf_cas_acq_rel32(&c->mode, ATF_MODE_GLOBAL, ATF_MODE_PER_THREAD)) atf_add_relaxed64(&c->mode_transitions, 1);
}

/* A slot whose thread is over and drained goes back to the pool; the release pairs with claim_slot's acquire. */
static void release_slot(atf_source *s, atf_slot *slot, atf_output *o)
{
    if (o) {
        atf_output_finish(s, o, atf_load_relaxed64(&slot->next_seq));
        take_from_slot(o, slot);
    }
    atf_lane_release(atf_index_lane(s->registry, slot));
    atf_lane_release(atf_detail_lane(s->registry, slot));
    atf_store_release32(&slot->state, ATF_SLOT_FREE);
}

static void look_global(atf_source *s, int over)
{
    atf_global_lane *g = s->global;
    uint64_t used = atf_load_relaxed64(&g->tail) - atf_load_relaxed64(&g->consumed), dropped = atf_load_relaxed64(&g->dropped);
    if (!used && dropped == s->pressure.lost && s->pressure.state == ATF_LANE_NORMAL) return; /* nearly always */
    uint64_t ns = atf_clock_ns(CLOCK_BOOTTIME), there = used < g->capacity ? g->capacity - used : 0;
    if (over) atf_pressure_end(&s->pressure, &s->periods, ATF_NO_THREAD, ATF_LANE_GLOBAL, dropped, 0, ns);
    else atf_pressure_look(&s->pressure, &s->periods, ATF_NO_THREAD, ATF_LANE_GLOBAL, there, g->capacity, dropped, 0, ns);
}

uint64_t atf_source_pass(atf_source *s, int peek, uint64_t budget_ns)
{
    uint64_t now_ns = atf_clock_ns(CLOCK_MONOTONIC), before = s->events, end = budget_ns ? now_ns + budget_ns : UINT64_MAX;
    const atf_turns *turns = budget_ns ? s->turns : NULL;
    beat(s);
    if (now_ns - s->m.second_from >= ATF_RATE_NS) next_second(s, now_ns);
    s->pressed = s->behind = 0;
    look_global(s, 0);
    if (atf_load_relaxed64(&s->global->tail) != atf_load_relaxed64(&s->global->consumed)) {
        for (uint32_t i = 0; i < s->n_outputs; i++) /* what stands there was written because rings were full, and they are read first */
            atf_output_look(s, s->outputs[i], 0);
        atf_source_drain_global(s);
    }
    uint32_t n = s->registry->capacity, quantum = s->registry->index_rings + 1;
    s->start = (s->start + 1) % n; /* after a pass that ended early: with the next thread */
    for (uint32_t k = 0, start = s->start; k < n; k++) {
        uint32_t i = (start + k) % n;
        atf_slot *slot = atf_slot_at(s->registry, i);
        uint32_t state = atf_load_acquire32(&slot->state); /* pairs with register and leave_slot */
        if (state != ATF_SLOT_LIVE && state != ATF_SLOT_EXITED) continue;
        uint32_t attention = atf_load_acquire32(&slot->attention);
        if (attention == s->seen[i] && !peek && state != ATF_SLOT_EXITED) continue;
        if (s->events != before && atf_source_full(s)) break; /* the rest is the next part's, which begins now */
        if (s->events != before && (atf_turns_wanted(turns) || atf_clock_ns(CLOCK_MONOTONIC) >= end)) {
            s->behind = 1;
            break;
        }
        s->start = i;
        s->seen[i] = attention;
        atf_output *o = atf_source_output(s, slot->number, slot->tid);
        if (!o || o->refused) continue;
        o->slot = i;
        o->entered = atf_load_relaxed32(&slot->entered);
        atf_slot_name_get(slot, o->name);
        atf_lane index = atf_index_lane(s->registry, slot);
        uint32_t full = atf_lane_full(&index);
        if (full > o->m.most_full) o->m.most_full = full;
        atf_output_look(s, o, 0);
        if (state == ATF_SLOT_EXITED) {
            /* The thread is over, so its cells are all published: once they are consumed, what is missing is lost. */
            if (atf_load_acquire64(&s->global->tail) != atf_load_relaxed64(&s->global->consumed) && !atf_source_drain_global(s)) continue;
            uint64_t last;
            do { /* its ACTIVE ring is read as it stands */
                last = o->expected;
                atf_output_drain(s, o, UINT64_MAX, 1, 1, UINT32_MAX);
            } while (o->expected != last);
            release_slot(s, slot, o);
            o->slot = UINT32_MAX;
            continue;
        }
        atf_lane lane = atf_detail_lane(s->registry, slot);
        uint32_t details = atf_lane_full(&lane); /* a full detail ring needs the events that refer to it: see atf_link_sweep */
        uint32_t rings = 0, most = quantum;
        do { /* ring by ring, so that whoever waits for the lock waits for one only */
            uint32_t read = atf_output_drain(s, o, UINT64_MAX, peek || details, 0, 1);
            if (!read) break;
            rings += read;
            if (atf_turns_wanted(turns)) most = rings;
        } while (rings < most && !atf_source_full(s));
        if (details) atf_link_sweep(s, o);
        if (rings == most || atf_source_full(s)) {
            s->behind |= rings == most;
            s->seen[i] = attention - 1; /* there may be more */
        }
        s->pressed |= 2 * rings > s->registry->index_rings || 2 * details > s->registry->detail_rings;
    }
    return s->events - before;
}

void atf_source_finish(atf_source *s)
{
    uint64_t wrote;
    s->next_anchor_ticks = 0;
    s->part_most = 0; /* what is left ends in this part */
    do wrote = atf_source_pass(s, 1, 0);
    while (wrote || s->behind);
    for (uint32_t i = 0; i < s->registry->capacity; i++) {
        atf_slot *slot = atf_slot_at(s->registry, i);
        if (atf_load_acquire32(&slot->state) != ATF_SLOT_LIVE) continue;
        atf_output *o = known(s, slot->number);
        if (o) atf_output_finish(s, o, atf_load_relaxed64(&slot->next_seq));
    }
    for (uint32_t i = 0; i < s->n_outputs; i++)
        if (!s->outputs[i]->finished) atf_output_finish(s, s->outputs[i], 0);
    look_global(s, 1);
    atf_source_measure(s);
    for (uint32_t i = 0; i < s->n_outputs; i++)
        s->outputs[i]->slot = UINT32_MAX; /* the segments may go now */
}

void atf_source_rest(atf_source *s)
{
    free(s->stage);
    free(s->stage_details);
    free(s->seen);
    s->stage = NULL;
    s->stage_details = NULL;
    s->seen = NULL;
}
