/* See flight.h. */
#include "flight.h"
#include "clock.h"
#include <stdlib.h>
#include <string.h>

int atf_flight_open(atf_flight *f, uint32_t keep, uint64_t pre_ns, uint64_t post_ns, uint64_t history_bytes)
{
    memset(f, 0, sizeof *f);
    f->keep = keep;
    f->pre_ns = pre_ns;
    f->post_ns = post_ns;
    return keep == ATF_KEEP_ALL ? 0 : atf_store_open(&f->store, history_bytes);
}

void atf_flight_close(atf_flight *f)
{
    atf_store_close(&f->store);
    atf_asked_close(&f->asked);
    free(f->windows.list);
    memset(f, 0, sizeof *f);
}

/* ---------------------------------------------------------------- marks */
void atf_flight_keep(atf_flight *f, uint64_t start_ns, uint64_t end_ns, uint64_t mark_ns, uint32_t rule)
{
    atf_windows_add(&f->windows, (atf_window){start_ns, end_ns, mark_ns, 1, rule, f->policy.version, 0});
    f->marks++;
}

void atf_flight_mark(atf_flight *f, uint64_t ns, uint32_t rule)
{
    atf_flight_keep(f, atf_less(ns, f->pre_ns), atf_more(ns, f->post_ns), ns, rule);
}

int atf_flight_unsettled(const atf_flight *f)
{
    for (uint32_t i = f->windows.n; i-- > 0;)
        if (!f->windows.list[i].settled_ns) return 1;
    return 0;
}

static void look(atf_source *s, atf_output *o)
{
    atf_flight *f = s->flight;
    const uint8_t *details = s->stage_details;
    if (f->policy.timed && !o->watch) o->watch = calloc(1, sizeof *o->watch);
    if (f->policy.timed && !o->watch) return;
    for (uint32_t i = 0; i < s->staged; i++) {
        const atf_event *e = &s->stage[i];
        if (f->policy.asked) atf_asked_put(&f->asked, &o->calls, (uint64_t)(uintptr_t)s, o->tid, e);
        const atf_detail_record *d = e->detail_seq != ATF_NO_DETAIL ? (const atf_detail_record *)details : NULL;
        if (d) details += d->total_length;
        int rule = atf_rules_look(&f->policy, &s->functions, o->watch, e, d);
        if (rule >= 0) atf_flight_mark(f, e->timestamp_ns, (uint32_t)rule);
    }
}

/* ---------------------------------------------------------------- history */
static void forget(atf_flight *f, atf_output *o, const atf_event *e)
{
    if (f->keep == ATF_KEEP_WINDOWS) {
        o->unkept += e->event_kind == ATF_GAP ? e->function_id : 1;
        o->m.filtered += e->event_kind != ATF_GAP; /* what a GAP tells stays lost */
    }
    if (e->detail_seq != ATF_NO_DETAIL) o->details_unkept++;
}

static void pop(atf_flight *f, atf_output *o, const atf_event *e)
{
    o->m.held -= f->keep == ATF_KEEP_WINDOWS && e->event_kind != ATF_GAP;
    o->m.details_held -= e->detail_seq != ATF_NO_DETAIL;
    atf_history_pop(&f->store, &o->history);
}

/* The longest queue gives its oldest block: a thread that floods pays for it itself. */
static int make_room(atf_flight *f)
{
    atf_output *longest = NULL;
    const atf_detail_record *d;
    for (atf_output *o = f->outputs; o; o = o->kept_next)
        if (o->history.items && (!longest || o->history.bytes > longest->history.bytes)) longest = o;
    if (!longest) return 0;
    for (const atf_block *b = longest->history.first; longest->history.first == b;) {
        const atf_event *e = atf_history_first(&longest->history, &d);
        forget(f, longest, e);
        pop(f, longest, e);
        f->cut_items++;
    }
    return 1;
}

static void put(atf_flight *f, atf_output *o, const atf_event *e, const atf_detail_record *d)
{
    while (!atf_history_put(&f->store, &o->history, e, d))
        if (!make_room(f)) {
            forget(f, o, e);
            return;
        }
    o->m.held += f->keep == ATF_KEEP_WINDOWS && e->event_kind != ATF_GAP;
    o->m.details_held += d != NULL;
}

void atf_flight_see(atf_source *s, atf_output *o)
{
    atf_flight *f = s->flight;
    if (f->policy.named | f->policy.other | f->policy.asked) look(s, o);
    if (f->keep == ATF_KEEP_ALL || (f->keep == ATF_KEEP_DETAILS && !s->staged_details)) return;
    if (!o->in_flight) {
        o->in_flight = 1;
        o->kept_next = f->outputs;
        f->outputs = o;
    }
    const uint8_t *details = s->stage_details;
    for (uint32_t i = 0; i < s->staged; i++) {
        atf_event *e = &s->stage[i];
        const atf_detail_record *d = e->detail_seq != ATF_NO_DETAIL ? (const atf_detail_record *)details : NULL;
        if (d) details += d->total_length;
        if (d || f->keep == ATF_KEEP_WINDOWS) put(f, o, e, d);
        o->m.gaps -= f->keep == ATF_KEEP_WINDOWS && e->event_kind == ATF_GAP; /* until it is kept */
        e->detail_seq = ATF_NO_DETAIL;
    }
    s->staged_details = 0;
    s->staged_bytes = 0;
    if (f->keep == ATF_KEEP_WINDOWS) s->staged = 0;
}

/* ---------------------------------------------------------------- into the files */
static int open_files(atf_source *s, atf_output *o)
{
    if (o->w.index_fd >= 0) return 1;
    int error = o->opened ? atf_writer_reopen(&o->w) : atf_writer_open(&o->w, s->dir, o->number, o->tid, NULL, 0);
    if (error) s->disk_error = o->w.error;
    else o->opened = 1;
    return !error;
}

/* What keep_detail gathered. The details first, then the events that are already in the file are led to them. */
static void write_details(atf_source *s, atf_output *o)
{
    atf_writer *w = &o->w;
    uint64_t n = s->staged_details, began = atf_clock_ns(CLOCK_MONOTONIC);
    if (!n) return;
    const atf_detail_record *first = (const atf_detail_record *)s->stage_details;
    if (!open_files(s, o) || atf_writer_details(w, s->stage_details, s->staged_bytes, n, first->index_seq, s->last_detail_index) != 0) {
        s->disk_error = w->error;
        o->details_lost += n;
    } else {
        if (atf_writer_link(w, s->stage_details, n, (uint32_t)(w->details - n), s->stage, ATF_STAGE_EVENTS) != 0) s->disk_error = w->error;
        s->bytes += s->staged_bytes;
    }
    s->m.write_ns += atf_clock_ns(CLOCK_MONOTONIC) - began;
    s->staged_details = 0;
    s->staged_bytes = 0;
}

static void keep_detail(atf_source *s, atf_output *o, const atf_detail_record *d)
{
    if (s->staged_bytes + d->total_length > ATF_STAGE_BYTES) write_details(s, o);
    memcpy(s->stage_details + s->staged_bytes, d, d->total_length);
    s->staged_bytes += d->total_length;
    s->staged_details++;
    s->last_detail_index = d->index_seq;
}

static void keep_event(atf_source *s, atf_output *o, const atf_event *e, const atf_detail_record *d)
{
    if (s->staged + 2 > ATF_STAGE_EVENTS || s->staged_bytes + (d ? d->total_length : 0) > ATF_STAGE_BYTES) atf_output_write(s, o);
    if (o->unkept) {
        s->stage[s->staged++] = (atf_event){e->timestamp_ns, o->unkept, o->tid, ATF_GAP, ATF_GAP_UNKEPT, ATF_NO_DETAIL};
        o->lost[ATF_GAP_UNKEPT] += o->unkept;
        o->m.gaps++;
        o->unkept = 0;
    }
    atf_event *to = &s->stage[s->staged];
    *to = *e;
    o->m.gaps += e->event_kind == ATF_GAP;
    if (d) {
        atf_detail_record r = *d;
        r.index_seq = (uint32_t)(o->w.events + s->staged);
        memcpy(s->stage_details + s->staged_bytes, &r, sizeof r);
        memcpy(s->stage_details + s->staged_bytes + sizeof r, d + 1, r.total_length - sizeof r);
        s->staged_bytes += r.total_length;
        to->detail_seq = (uint32_t)(o->w.details + s->staged_details++);
    }
    s->staged++;
}

static void settle_output(atf_source *s, atf_output *o, uint64_t p_ns, int final)
{
    atf_flight *f = s->flight;
    const atf_detail_record *d;
    const atf_event *e = atf_history_first(&o->history, &d);
    if (!e) return;
    uint64_t reach = atf_less(p_ns, f->pre_ns);
    uint32_t k = atf_windows_from(&f->windows, e->timestamp_ns);
    for (; e && (final || e->timestamp_ns <= p_ns); e = atf_history_first(&o->history, &d)) {
        while (k < f->windows.n && f->windows.list[k].end_ns < e->timestamp_ns) k++;
        int inside = k < f->windows.n && f->windows.list[k].start_ns <= e->timestamp_ns;
        if (!inside && !final && e->timestamp_ns >= reach) break;
        if (!inside) forget(f, o, e);
        else if (f->keep == ATF_KEEP_DETAILS) keep_detail(s, o, d);
        else if (open_files(s, o)) keep_event(s, o, e, d);
        else {
            o->pending_lost += e->event_kind == ATF_GAP ? e->function_id : 1;
            if (e->event_kind == ATF_GAP) o->lost[e->call_depth] -= e->function_id;
            o->details_lost += d != NULL;
        }
        pop(f, o, e);
    }
    if (f->keep == ATF_KEEP_DETAILS) write_details(s, o);
    else if (s->staged) atf_output_write(s, o);
    if (o->finished && o->w.index_fd >= 0 && atf_writer_finish(&o->w) != 0) s->disk_error = o->w.error;
}

void atf_flight_settle(atf_source *s, uint64_t p_ns, int final)
{
    if (!s->flight || s->flight->keep == ATF_KEEP_ALL) return;
    for (uint32_t i = 0; i < s->n_outputs; i++)
        if (s->outputs[i] && s->outputs[i]->in_flight) settle_output(s, s->outputs[i], p_ns, final);
}

void atf_flight_settled(atf_flight *f, uint64_t p_ns)
{
    f->decided_ns = p_ns;
    for (uint32_t i = f->windows.n; i-- > 0;) {
        atf_window *w = &f->windows.list[i];
        if (!w->settled_ns && w->end_ns <= p_ns) w->settled_ns = atf_clock_ns(CLOCK_BOOTTIME);
    }
}

void atf_flight_leave(atf_source *s)
{
    atf_flight *f = s->flight;
    if (!f) return;
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        atf_output *o = s->outputs[i];
        if (!o || !o->in_flight) continue;
        atf_history_clear(&f->store, &o->history);
        for (atf_output **at = &f->outputs; *at; at = &(*at)->kept_next)
            if (*at == o) {
                *at = o->kept_next;
                break;
            }
        o->in_flight = 0;
    }
    s->flight = NULL;
}
