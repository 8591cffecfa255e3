/* From rings to files: order, loss, and the links between events and details. See source.h and ring.h. */
#include "source.h"
#include "ring.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- staging */
/* Writes what is staged: details first, because a detail without its event is cut at recovery. */
static void flush(atf_source *s, atf_output *o)
{
    atf_writer *w = &o->w;
    if (!s->staged) return;
    uint64_t base = w->events, n = s->staged;
    if (s->staged_details) {
        const atf_detail_record *first = (const atf_detail_record *)s->stage_details;
        uint32_t last = (uint32_t)base;
        for (uint32_t i = 0; i < n; i++)
            if (s->stage[i].detail_seq != ATF_NO_DETAIL) last = (uint32_t)(base + i);
        if (atf_writer_details(w, s->stage_details, s->staged_bytes, s->staged_details, first->index_seq, last) != 0) {
            for (uint32_t i = 0; i < n; i++) s->stage[i].detail_seq = ATF_NO_DETAIL;
            o->details_lost += s->staged_details;
            s->staged_details = 0;
            s->staged_bytes = 0;
            s->disk_error = w->error;
        }
    }
    uint64_t written = atf_writer_events(w, s->stage, n);
    s->writes++;
    if (written < n) {
        s->disk_error = w->error;
        uint64_t bytes = s->staged_bytes, details = s->staged_details, keep = 0, at = 0;
        uint32_t last = w->last_detail_index;
        while (at < bytes) { /* details of the events that were written stay */
            const atf_detail_record *r = (const atf_detail_record *)(s->stage_details + at);
            if (r->index_seq >= base + written) break;
            last = r->index_seq;
            keep++;
            at += r->total_length;
        }
        if (keep < details) {
            atf_writer_cut_details(w, bytes - at, details - keep, last);
            o->details_lost += details - keep;
        }
        for (uint64_t i = written; i < n; i++) { /* the next GAP tells it, and what a refused GAP told */
            const atf_event *e = &s->stage[i];
            o->pending_lost += e->event_kind == ATF_GAP ? e->function_id : 1;
            if (e->event_kind == ATF_GAP) o->lost[e->call_depth] -= e->function_id;
        }
    } else if (w->error == 0) {
        s->disk_error = 0;
    }
    s->events += written;
    s->bytes += written * sizeof(atf_event) + s->staged_bytes;
    s->staged = s->staged_details = 0;
    s->staged_bytes = 0;
}

static void stage_gap(atf_source *s, atf_output *o, uint64_t count, uint32_t reason, uint64_t ns)
{
    if (s->staged == ATF_STAGE_EVENTS) flush(s, o);
    atf_event gap = {ns, count, o->tid, ATF_GAP, reason, ATF_NO_DETAIL};
    s->stage[s->staged++] = gap;
    o->lost[reason] += count;
}

/* Records [expected, seq) will not come. */
static void note_loss(atf_source *s, atf_output *o, uint64_t seq, uint64_t ns)
{
    if (o->pending_lost) {
        uint64_t n = o->pending_lost;
        o->pending_lost = 0;
        stage_gap(s, o, n, ATF_GAP_DISK_FULL, ns);
    }
    if (seq > o->expected) {
        stage_gap(s, o, seq - o->expected, ATF_GAP_EXHAUSTED, ns);
        o->expected = seq;
    }
}

static uint64_t to_ns(atf_source *s, atf_output *o, uint64_t ticks)
{
    uint64_t ns = atf_to_ns(&s->scale, ticks);
    if (ns < o->last_ns) ns = o->last_ns; /* never backwards within a thread */
    o->last_ns = ns;
    return ns;
}

static void stage_detail(atf_source *s, atf_output *o, atf_event *e)
{
    int must_flush = 0;
    const uint8_t *found = atf_link_find(s, o, e->detail_seq, &must_flush);
    if (!found) {
        o->details_lost++;
        e->detail_seq = ATF_NO_DETAIL;
        return;
    }
    atf_detail_record r;
    memcpy(&r, found, sizeof r);
    r.index_seq = (uint32_t)(o->w.events + s->staged);
    r.timestamp = e->timestamp_ns;
    memcpy(s->stage_details + s->staged_bytes, &r, sizeof r);
    memcpy(s->stage_details + s->staged_bytes + sizeof r, found + sizeof r, r.total_length - sizeof r);
    s->staged_bytes += r.total_length;
    e->detail_seq = (uint32_t)(o->w.details + s->staged_details++);
    s->detail_at += r.total_length; /* consumed */
    s->detail_number++;
}

static void stage_event(atf_source *s, atf_output *o, const atf_event *from)
{
    /* Room for the largest detail, and nothing staged that a ring is freed for. */
    if (s->staged == ATF_STAGE_EVENTS || s->staged_bytes > ATF_STAGE_BYTES - 65536) flush(s, o);
    if (from->detail_seq != ATF_NO_DETAIL) {
        int must_flush = 0;
        atf_link_find(s, o, from->detail_seq, &must_flush);
        if (must_flush) {
            flush(s, o);
            atf_link_close(s, o); /* frees the ring that was read to its end */
        }
    }
    atf_event *e = &s->stage[s->staged];
    *e = *from;
    e->timestamp_ns = to_ns(s, o, from->timestamp_ns);
    if (e->detail_seq != ATF_NO_DETAIL) stage_detail(s, o, e);
    s->staged++;
    o->expected++;
}

/* ---------------------------------------------------------------- one thread */
/* Records of an index ring below number `below`, from where the drain was. */
static void emit_ring(atf_source *s, atf_output *o, atf_ring *r, uint64_t below)
{
    uint64_t head = atf_ring_committed(r), first = r->first_seq, at = r->drained;
    if (below - first < head && below >= first) head = below - first;
    const atf_event *events = (const atf_event *)((const char *)s->global + r->offset);
    if (first + at < o->expected) at = o->expected - first < head ? o->expected - first : head; /* in the file already */
    while (at < head) {
        if (o->pending_lost || first + at > o->expected) note_loss(s, o, first + at, to_ns(s, o, events[at].timestamp_ns));
        uint64_t end = head;
        /* The plain case, without details, in one tight loop. */
        while (at < end && s->staged < ATF_STAGE_EVENTS && events[at].detail_seq == ATF_NO_DETAIL) {
            atf_event *e = &s->stage[s->staged++];
            *e = events[at++];
            e->timestamp_ns = to_ns(s, o, e->timestamp_ns);
            o->expected++;
        }
        if (at < end) stage_event(s, o, &events[at++]);
    }
    flush(s, o);
    r->drained = at;
}

void atf_output_drain(atf_source *s, atf_output *o, uint64_t below, int peek, int in_global)
{
    if (o->slot == UINT32_MAX || o->finished) return;
    atf_slot *slot = atf_slot_at(s->registry, o->slot);
    uint32_t n = s->registry->index_rings;
    /* At most one round of the pool a visit, so that a fast producer never starves the other threads. */
    for (uint32_t turn = 0; turn <= n && o->expected < below; turn++) {
        int claimed, i = atf_ring_oldest(slot->index, n, peek, &claimed);
        if (i < 0) break;
        atf_ring *r = &slot->index[i];
        int wait = 0, past = r->first_seq >= below;
        if (!past && r->first_seq > o->expected && !in_global &&
            atf_load_acquire64(&s->global->tail) != atf_load_relaxed64(&s->global->consumed)) {
            /* What is missing may stand in the global lane: it was published before this ring began. */
            if (claimed) atf_ring_give_back(r);
            else atf_ring_unpeek(r);
            atf_link_close(s, o); /* the cursor is one for all threads, and other threads' records stand there */
            if (atf_source_drain_global(s)) continue;
            if (!s->dead) return; /* a producer is about to publish there: next pass */
            continue;
        }
        if (!past) emit_ring(s, o, r, below);
        wait = r->drained < (claimed ? atf_ring_committed(r) : UINT64_MAX);
        if (!claimed) atf_ring_unpeek(r);
        else if (wait) atf_ring_give_back(r);
        else atf_ring_free(r);
        if (!claimed || past) break;
    }
    atf_link_close(s, o);
}

static void finish_output(atf_source *s, atf_output *o, uint64_t produced);

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
    uint64_t at = atf_load_relaxed64(&g->consumed), tail = atf_load_acquire64(&g->tail);
    int complete = 1;
    for (; at < tail; at++) {
        atf_cell *cell = atf_cell_at(g, at);
        if (atf_load_acquire64(&cell->turn) != at + 1) { /* pairs with the producer's release of turn */
            complete = 0;
            if (!s->dead) break;
            continue; /* its writer was killed in the middle */
        }
        atf_output *o = atf_source_output(s, cell->number, cell->tid);
        if (o && !o->finished) {
            if (o->slot == UINT32_MAX && (cell->seq > o->expected || cell->event.detail_seq != ATF_NO_DETAIL)) find_slot(s, o);
            if (cell->seq > o->expected) atf_output_drain(s, o, cell->seq, 1, 1);
            if (cell->event.event_kind == 0) { /* a thread without a slot ended after so many records */
                to_ns(s, o, cell->event.timestamp_ns);
                finish_output(s, o, cell->seq);
            } else if (cell->seq >= o->expected) {
                if (cell->seq > o->expected || o->pending_lost) note_loss(s, o, cell->seq, to_ns(s, o, cell->event.timestamp_ns));
                stage_event(s, o, &cell->event);
                flush(s, o);
                atf_link_close(s, o);
            }
        }
        atf_store_release64(&cell->turn, at + g->capacity); /* pairs with the producer's acquire of turn */
        atf_store_relaxed64(&g->consumed, at + 1);
    }
    if (s->dead) atf_store_relaxed64(&g->consumed, tail);
    return complete || s->dead;
}

/* ---------------------------------------------------------------- outputs */
atf_output *atf_source_output(atf_source *s, uint32_t number, uint32_t tid)
{
    if (number >= s->n_outputs) {
        uint32_t n = number + 64;
        atf_output **grown = realloc(s->outputs, n * sizeof *grown);
        if (!grown) return NULL;
        memset(grown + s->n_outputs, 0, (n - s->n_outputs) * sizeof *grown);
        s->outputs = grown;
        s->n_outputs = n;
    }
    atf_output *o = s->outputs[number];
    if (o && o->w.index_fd >= 0) return o;
    if (o && o->finished) return o;
    if (!o) {
        o = calloc(1, sizeof *o);
        if (!o) return NULL;
        o->number = number;
        o->tid = tid;
        o->slot = UINT32_MAX;
        o->w.index_fd = o->w.detail_fd = -1;
        s->outputs[number] = o;
        if (s->resume) {
            uint64_t lost, gaps;
            int r = atf_writer_resume(&o->w, s->dir, number, &lost, &gaps);
            if (r == 0) {
                o->expected = o->w.events - gaps + lost;
                o->last_ns = o->w.time_end_ns;
                o->lost[ATF_GAP_EXHAUSTED] = lost;
                return o;
            }
        }
    }
    if (atf_writer_open(&o->w, s->dir, number, tid) != 0) s->disk_error = o->w.error;
    return o;
}

static void finish_output(atf_source *s, atf_output *o, uint64_t produced)
{
    if (o->w.index_fd >= 0) {
        if (produced < o->expected) produced = o->expected;
        if (o->pending_lost || produced > o->expected) note_loss(s, o, produced, o->last_ns);
        flush(s, o);
        if (atf_writer_finish(&o->w) != 0) s->disk_error = o->w.error;
    }
    o->finished = 1;
}

/* ---------------------------------------------------------------- the process */
int atf_source_open(atf_source *s, atf_control *c, atf_registry *r, atf_global_lane *g, const char *dir, int resume)
{
    memset(s, 0, sizeof *s);
    s->control = c;
    s->registry = r;
    s->global = g;
    s->resume = (uint32_t)resume;
    s->detail_ring = ATF_MAX_RINGS;
    if (snprintf(s->dir, sizeof s->dir, "%s", dir) >= (int)sizeof s->dir) return ENAMETOOLONG;
    s->seen = calloc(r->capacity, sizeof *s->seen);
    s->stage = malloc(ATF_STAGE_EVENTS * sizeof(atf_event));
    s->stage_details = malloc(ATF_STAGE_BYTES);
    if (!s->seen || !s->stage || !s->stage_details) return ENOMEM;
    if (resume) /* a drain that was killed left its marks; it does not exist any more */
        for (uint32_t i = 0; i < r->capacity; i++) {
            atf_slot *slot = atf_slot_at(r, i);
            for (uint32_t k = 0; k < 2 * ATF_MAX_RINGS; k++) {
                atf_ring *ring = k < ATF_MAX_RINGS ? &slot->index[k] : &slot->detail[k - ATF_MAX_RINGS];
                /* The marks of its progress may be half written. From the start is right too: what is in the files is skipped. */
                ring->drained = 0;
                ring->drained_details = 0;
                if (atf_load_acquire32(&ring->state) == ATF_RING_DRAINING) atf_ring_give_back(ring);
                else atf_ring_unpeek(ring);
            }
        }
    return 0;
}

void atf_source_close(atf_source *s)
{
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        if (s->outputs[i]) atf_writer_drop(&s->outputs[i]->w);
        free(s->outputs[i]);
    }
    free(s->outputs);
    free(s->seen);
    free(s->stage);
    free(s->stage_details);
    memset(s, 0, sizeof *s);
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
    atf_store_relaxed64(&c->drain_heartbeat_ticks, now); /* read relaxed by producers: only its age matters */
    if (atf_cas_acq_rel32(&c->mode, ATF_MODE_GLOBAL, ATF_MODE_PER_THREAD)) atf_add_relaxed64(&c->mode_transitions, 1);
}

/* A slot whose thread is over and drained goes back to the pool; the release pairs with claim_slot's acquire. */
static void release_slot(atf_source *s, atf_slot *slot, atf_output *o)
{
    if (o) finish_output(s, o, atf_load_relaxed64(&slot->next_seq));
    for (uint32_t k = 0; k < ATF_MAX_RINGS; k++) {
        atf_ring_free(&slot->index[k]);
        atf_ring_free(&slot->detail[k]);
    }
    atf_store_release32(&slot->state, ATF_SLOT_FREE);
}

uint64_t atf_source_pass(atf_source *s, int peek)
{
    uint64_t before = s->events;
    beat(s);
    if (atf_load_relaxed64(&s->global->tail) != atf_load_relaxed64(&s->global->consumed)) atf_source_drain_global(s);
    uint32_t n = s->registry->capacity, start = (uint32_t)(s->control->drain_passes % n);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = (start + k) % n;
        atf_slot *slot = atf_slot_at(s->registry, i);
        uint32_t state = atf_load_acquire32(&slot->state); /* pairs with register and leave_slot */
        if (state != ATF_SLOT_LIVE && state != ATF_SLOT_EXITED) continue;
        uint32_t attention = atf_load_acquire32(&slot->attention);
        if (attention == s->seen[i] && !peek && state != ATF_SLOT_EXITED) continue;
        s->seen[i] = attention;
        atf_output *o = atf_source_output(s, slot->number, slot->tid);
        if (!o) continue;
        o->slot = i;
        o->entered = atf_load_relaxed32(&slot->entered);
        atf_slot_name_get(slot, o->name);
        if (state == ATF_SLOT_EXITED) {
            /* The thread is over, so its cells are all published: once they are consumed, what is missing is lost. */
            if (atf_load_acquire64(&s->global->tail) != atf_load_relaxed64(&s->global->consumed) && !atf_source_drain_global(s)) continue;
            uint64_t last;
            do { /* its ACTIVE ring is read as it stands */
                last = o->expected;
                atf_output_drain(s, o, UINT64_MAX, 1, 1);
            } while (o->expected != last);
            release_slot(s, slot, o);
            o->slot = UINT32_MAX;
            continue;
        }
        int details = 0; /* a full detail ring needs the events that refer to it: see atf_link_sweep */
        for (uint32_t d = 0; d < s->registry->detail_rings; d++) details |= atf_load_acquire32(&slot->detail[d].state) == ATF_RING_FULL;
        atf_output_drain(s, o, UINT64_MAX, peek || details, 0);
        if (details) atf_link_sweep(s, o);
    }
    return s->events - before;
}

void atf_source_finish(atf_source *s)
{
    uint64_t wrote;
    s->next_anchor_ticks = 0;
    do wrote = atf_source_pass(s, 1);
    while (wrote);
    for (uint32_t i = 0; i < s->registry->capacity; i++) {
        atf_slot *slot = atf_slot_at(s->registry, i);
        if (atf_load_acquire32(&slot->state) != ATF_SLOT_LIVE) continue;
        if (slot->number < s->n_outputs && s->outputs[slot->number]) finish_output(s, s->outputs[slot->number], atf_load_relaxed64(&slot->next_seq));
    }
    for (uint32_t i = 0; i < s->n_outputs; i++)
        if (s->outputs[i] && !s->outputs[i]->finished) finish_output(s, s->outputs[i], 0);
}
