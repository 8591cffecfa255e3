/* One thread from its rings to its files: order, loss, and the links between events and details. See source.h and lane.h. */
#include "clock.h"
#include "flight.h"
#include "lane.h"
#include <string.h>

/* ---------------------------------------------------------------- staging */
/* Writes what is staged: details first, because a detail without its event is cut at recovery. */
void atf_output_write(atf_source *s, atf_output *o)
{
    atf_writer *w = &o->w;
    uint64_t base = w->events, n = s->staged, began = atf_clock_ns(CLOCK_MONOTONIC);
    int refused = 0;
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
            s->disk_error = refused = w->error;
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
        if (s->flight && s->flight->keep == ATF_KEEP_DETAILS) {
            uint64_t cut = atf_history_cut(&s->flight->store, &o->history, base + written);
            o->details_lost += cut;
            o->m.details_held -= cut;
        }
        for (uint64_t i = written; i < n; i++) { /* the next GAP tells it, and what a refused GAP told */
            const atf_event *e = &s->stage[i];
            if (e->event_kind != ATF_GAP) {
                o->pending_lost++;
                continue;
            }
            o->m.gaps--;
            o->lost[e->call_depth] -= e->function_id;
            *(e->call_depth == ATF_GAP_UNKEPT ? &o->unkept : &o->pending_lost) += e->function_id;
        }
    } else if (w->error == 0 && !refused) {
        s->disk_error = 0;
    }
    s->events += written;
    s->part_events += written;
    s->bytes += written * sizeof(atf_event) + s->staged_bytes;
    if (s->part_bytes) *s->part_bytes += written * sizeof(atf_event) + s->staged_bytes;
    s->staged = s->staged_details = 0;
    s->staged_bytes = 0;
    s->m.write_ns += atf_clock_ns(CLOCK_MONOTONIC) - began;
}

static void flush(atf_source *s, atf_output *o)
{
    if (s->staged && s->flight) atf_flight_see(s, o);
    if (s->staged && s->parts) atf_progress_follow(&o->progress, s->stage, s->staged);
    if (s->staged) atf_output_write(s, o);
}

static void stage_gap(atf_source *s, atf_output *o, uint64_t count, uint32_t reason, uint64_t ns)
{
    if (s->staged == ATF_STAGE_EVENTS) flush(s, o);
    atf_event gap = {ns, count, o->tid, ATF_GAP, reason, ATF_NO_DETAIL};
    s->stage[s->staged++] = gap;
    o->lost[reason] += count;
    o->m.gaps++;
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

uint64_t atf_output_ns(atf_source *s, atf_output *o, uint64_t ticks)
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
    o->m.details_seen++;
    if (!found) {
        o->details_lost++;
        o->details_gone++;
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
    e->timestamp_ns = atf_output_ns(s, o, from->timestamp_ns);
    if (e->detail_seq != ATF_NO_DETAIL) stage_detail(s, o, e);
    s->staged++;
    o->expected++;
}

/* ---------------------------------------------------------------- one thread */
/* The plain case, events without details, as many as there are and as have room. Returns how many. */
static uint64_t stage_plain(atf_source *s, atf_output *o, const atf_event *from, uint64_t n)
{
    atf_event *to = s->stage + s->staged;
    uint64_t k = 0, last = o->last_ns;
    atf_line line = atf_timescale_line(&s->scale); /* a loop of its own, whose state stays in registers */
    if (n > ATF_STAGE_EVENTS - s->staged) n = ATF_STAGE_EVENTS - s->staged;
    for (; k < n && from[k].detail_seq == ATF_NO_DETAIL; k++) {
        uint64_t at = from[k].timestamp_ns, ticks = at - line.from, ns;
        if (ATF_LIKELY(ticks < line.ticks)) ns = line.ns + (uint64_t)(((unsigned __int128)ticks * line.slope) >> 32);
        else {
            ns = atf_to_ns(&s->scale, at);
            line = atf_timescale_line(&s->scale);
        }
        last = ns > last ? ns : last; /* as in atf_output_ns */
        to[k] = from[k];
        to[k].timestamp_ns = last;
    }
    o->last_ns = last;
    o->expected += k;
    s->staged += (uint32_t)k;
    return k;
}

/* Records of an index ring below number `below`, from where the drain was. */
static void emit_ring(atf_source *s, atf_output *o, atf_ring *r, uint64_t below)
{
    uint64_t head = atf_ring_committed(r), first = r->first_seq, at = r->drained;
    if (below - first < head && below >= first) head = below - first;
    const atf_event *events = (const atf_event *)((const char *)s->global + r->offset);
    if (first + at < o->expected) at = o->expected - first < head ? o->expected - first : head; /* in the file already */
    if (at < head) atf_source_lag(s, events[at].timestamp_ns);
    while (at < head) {
        if (o->pending_lost || first + at > o->expected) note_loss(s, o, first + at, atf_output_ns(s, o, events[at].timestamp_ns));
        at += stage_plain(s, o, events + at, head - at);
        if (at < head) stage_event(s, o, &events[at++]);
    }
    flush(s, o);
    r->drained = at;
}

uint32_t atf_output_drain(atf_source *s, atf_output *o, uint64_t below, int peek, int in_global, uint32_t quantum)
{
    if (o->slot == UINT32_MAX || o->finished) return 0;
    atf_lane lane = atf_index_lane(s->registry, atf_slot_at(s->registry, o->slot));
    uint32_t turn = 0;
    for (; turn < quantum && o->expected < below; turn++) {
        int claimed;
        if (turn && quantum != UINT32_MAX && atf_source_full(s)) break; /* the rest is the next part's */
        uint32_t i = atf_lane_oldest(&lane, peek, &claimed);
        if (i == ATF_NO_RING) break;
        atf_store_relaxed64(&s->control->drain_heartbeat_ticks, atf_ticks(s->control->clock_type)); /* a ring can take milliseconds */
        atf_ring *r = atf_lane_ring(&lane, i);
        int wait = 0, past = r->first_seq >= below;
        if (!past && r->first_seq > o->expected && !in_global &&
            atf_load_acquire64(&s->global->tail) != atf_load_relaxed64(&s->global->consumed)) {
            /* What is missing may stand in the global lane: it was published before this ring began. */
            if (claimed) atf_ring_give_back(r);
            else atf_ring_unpeek(r);
            atf_link_close(s, o); /* the cursor is one for all threads, and other threads' records stand there */
            if (atf_source_drain_global(s)) continue;
            if (!s->dead) return turn; /* a producer is about to publish there: next pass */
            continue;
        }
        if (!past) emit_ring(s, o, r, below);
        wait = r->drained < (claimed ? atf_ring_committed(r) : UINT64_MAX);
        if (!claimed) atf_ring_unpeek(r);
        else if (wait) atf_ring_give_back(r);
        else {
            atf_lane_free(&lane, i);
            o->m.swaps++;
        }
        if (!claimed || past) break;
    }
    atf_link_close(s, o);
    return turn;
}

void atf_output_put(atf_source *s, atf_output *o, uint64_t seq, const atf_event *e)
{
    if (seq > o->expected || o->pending_lost) note_loss(s, o, seq, atf_output_ns(s, o, e->timestamp_ns));
    stage_event(s, o, e);
    flush(s, o);
    atf_link_close(s, o);
}

void atf_output_look(atf_source *s, atf_output *o, int over)
{
    if (o->slot == UINT32_MAX || o->finished) return;
    atf_slot *slot = atf_slot_at(s->registry, o->slot);
    atf_lane lanes[2] = {atf_index_lane(s->registry, slot), atf_detail_lane(s->registry, slot)};
    uint64_t lost[2] = {o->lost[ATF_GAP_EXHAUSTED], o->details_gone}, signs[2], ns = atf_clock_ns(CLOCK_BOOTTIME);
    signs[0] = atf_load_relaxed64(&slot->taken_back) + atf_load_relaxed64(&slot->lost_newest);
    signs[1] = atf_load_relaxed64(&slot->details_lost);
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t total, there;
        if (!lanes[k].n) continue;
        there = atf_lane_available(&lanes[k], &total);
        if (over) atf_pressure_end(&o->pressure[k], &s->periods, o->number, k, lost[k], signs[k], ns);
        else atf_pressure_look(&o->pressure[k], &s->periods, o->number, k, there, total, lost[k], signs[k], ns);
    }
}

void atf_output_finish(atf_source *s, atf_output *o, uint64_t produced)
{
    if (o->w.index_fd >= 0 || (s->flight && s->flight->keep == ATF_KEEP_WINDOWS)) {
        if (produced < o->expected) produced = o->expected;
        if (o->pending_lost || produced > o->expected) note_loss(s, o, produced, o->last_ns);
        flush(s, o);
        if (atf_writer_finish(&o->w) != 0) s->disk_error = o->w.error;
    } else if (produced > o->expected && !o->refused) { /* the disk never gave it a file */
        o->pending_lost += produced - o->expected;
        o->expected = produced;
    }
    atf_output_look(s, o, 1);
    o->finished = 1;
}
