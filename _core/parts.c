/* See parts.h. */
#include "parts.h"
#include "clock.h"
#include "engine.h"
#include "lane.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int atf_parts_open(atf_parts *p, const char *root, uint64_t max_bytes, uint64_t max_age_ns)
{
    memset(p, 0, sizeof *p);
    if (snprintf(p->root, sizeof p->root, "%s", root) >= (int)sizeof p->root) return ENAMETOOLONG;
    p->max_bytes = max_bytes;
    p->max_age_ns = max_age_ns;
    p->number = 1;
    p->began_ns = atf_clock_ns(CLOCK_MONOTONIC);
    p->last = &p->left;
    return 0;
}

void atf_left_free(atf_left *l)
{
    free(l->outputs);
    free(l);
}

void atf_parts_close(atf_parts *p)
{
    while (p->left) {
        atf_left *l = p->left;
        p->left = l->next;
        atf_left_free(l);
    }
}

/* ---------------------------------------------------------------- directories */
/* Where the number stands in .../part_<number>/<process>; NULL: nowhere. */
static char *number_in(const char *dir)
{
    const char *end = strrchr(dir, '/'), *at = end;
    while (at && at > dir && at[-1] != '/') at--;
    return at && strncmp(at, "part_", 5) == 0 ? (char *)at + 5 : NULL;
}

uint32_t atf_part_of(const atf_source *s)
{
    const char *at = number_in(s->dir);
    return at ? (uint32_t)strtoul(at, NULL, 10) : 0;
}

int atf_part_before(char *dir)
{
    char before[3800], *at = number_in(dir);
    uint32_t number = at ? (uint32_t)strtoul(at, NULL, 10) : 0;
    if (number < 2) return 0;
    snprintf(before, sizeof before, "%.*s" ATF_PART_NAME "%s", (int)(at - 5 - dir), dir, number - 1, strrchr(dir, '/'));
    if (access(before, F_OK) != 0) return 0;
    strcpy(dir, before);
    return 1;
}

/* The directory of a process in a part, made when missing. 0 or an errno. */
static int make_directory(const atf_parts *p, const atf_source *s, uint32_t number, char dir[static 3800])
{
    const char *name = strrchr(s->dir, '/');
    int length = snprintf(dir, 3800, "%s/" ATF_PART_NAME, p->root, number);
    if (length + strlen(name ? name : "") >= 3700) return ENAMETOOLONG; /* thread_<n>/detail.atf comes behind it */
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) return errno;
    strcpy(dir + length, name ? name : "");
    return mkdir(dir, 0700) != 0 && errno != EEXIST ? errno : 0;
}

int atf_parts_join(atf_parts *p, atf_source *s)
{
    char dir[3800];
    int error = make_directory(p, s, p->number, dir);
    if (error) return error;
    strcpy(s->dir, dir);
    s->parts = p;
    s->part_bytes = &p->bytes;
    s->part_most = p->max_bytes;
    return 0;
}

void atf_parts_leave(atf_parts *p, atf_source *s)
{
    p->over_events += s->part_events;
    s->parts = NULL;
    s->part_bytes = NULL;
}

/* ---------------------------------------------------------------- the turn */
/* A thread without a slot tells its end through the global lane, unless that was full. Once it is gone nothing comes any more. */
static int is_gone(const atf_source *s, const atf_output *o)
{
    char path[64];
    if (o->slot != UINT32_MAX || o->finished || o->expected != o->from) return 0;
    int length = snprintf(path, sizeof path, "/proc/%u/task", s->control->head.owner_pid);
    if (access(path, F_OK) != 0) return 0;
    snprintf(path + length, sizeof path - (size_t)length, "/%u", o->tid);
    return access(path, F_OK) != 0;
}

/* Bytes that are committed in a lane and not read. An estimate: its producer goes on. */
static uint64_t unread_in(atf_lane lane)
{
    uint64_t bytes = 0, borrowed = atf_load_acquire64(lane.borrowed);
    ATF_EACH_RING (&lane, borrowed, i) {
        atf_ring *r = atf_lane_ring(&lane, i);
        uint32_t state = atf_load_acquire32(&r->state) & ~ATF_RING_PEEK;
        uint64_t head = state == ATF_RING_FULL || state == ATF_RING_ACTIVE ? atf_ring_committed(r) : 0, drained = atf_load_relaxed64(&r->drained);
        bytes += head > drained ? (head - drained) * lane.unit : 0;
    }
    return bytes;
}

static uint64_t unread(const atf_source *s)
{
    uint64_t bytes = (atf_load_relaxed64(&s->global->tail) - atf_load_relaxed64(&s->global->consumed)) * sizeof(atf_event);
    for (uint32_t i = 0; i < s->registry->capacity; i++) {
        atf_slot *slot = atf_slot_at(s->registry, i);
        uint32_t state = atf_load_acquire32(&slot->state); /* pairs with register and leave_slot */
        if (state != ATF_SLOT_LIVE && state != ATF_SLOT_EXITED) continue;
        bytes += unread_in(atf_index_lane(s->registry, slot)) + unread_in(atf_detail_lane(s->registry, slot));
    }
    return bytes;
}

/* When the next part of a thread begins: now, when it has told everything up to now; else behind its last record that was read. */
static uint64_t begin_of(const atf_source *s, const atf_output *o)
{
    uint64_t now = atf_clock_ns(CLOCK_BOOTTIME);
    if (atf_load_relaxed64(&s->global->tail) != atf_load_relaxed64(&s->global->consumed)) return 0;
    return o->slot != UINT32_MAX && unread_in(atf_index_lane(s->registry, atf_slot_at(s->registry, o->slot))) ? 0 : now;
}

static void turn_source(atf_parts *p, atf_source *s, atf_left *l)
{
    uint32_t stay = 0;
    atf_source_measure(s);
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        atf_output *o = s->outputs[i];
        if (atf_writer_finish(&o->w) != 0) s->disk_error = o->w.error;
        l->outputs[i] = *o;
        l->outputs[i].pending_lost = o->finished ? o->pending_lost : 0; /* else the next part's */
    }
    l->n = s->n_outputs;
    l->pressure = s->pressure;
    l->periods = s->periods;
    for (uint64_t k = l->periods.n > ATF_PERIODS ? l->periods.n - ATF_PERIODS : 0; k < l->periods.n; k++)
        if (!l->periods.list[k % ATF_PERIODS].end_ns) l->periods.list[k % ATF_PERIODS].end_ns = l->ended_ns;
    s->periods.n = 0;
    atf_pressure_part(&s->pressure, &s->periods, ATF_NO_THREAD, ATF_LANE_GLOBAL, l->ended_ns);
    char dir[3800];
    if (make_directory(p, s, p->number, dir) == 0) strcpy(s->dir, dir);
    s->part_events = 0;
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        atf_output *o = s->outputs[i];
        if (o->finished || is_gone(s, o)) {
            s->m.gone += o->expected;
            atf_output_free(o);
            continue;
        }
        atf_output_next_part(s, o, begin_of(s, o));
        s->outputs[stay++] = o;
    }
    s->n_outputs = stay;
    for (uint32_t i = 0; i < s->n_outputs; i++) atf_source_output(s, s->outputs[i]->number, s->outputs[i]->tid); /* its files begin */
}

/* First everything that the disk may refuse: then all processes turn, or none. */
static int turn(atf_parts *p, atf_source **sources, uint32_t n)
{
    atf_left *left = NULL, **last = &left;
    char dir[3800];
    int error = 0;
    for (uint32_t i = 0; i < n && !error; i++) {
        atf_left *l = calloc(1, sizeof *l);
        if (l) l->outputs = malloc((sources[i]->n_outputs + 1) * sizeof *l->outputs);
        error = l && l->outputs ? make_directory(p, sources[i], p->number + 1, dir) : ENOMEM;
        if (l) {
            *last = l;
            last = &l->next;
        }
    }
    p->error = error;
    if (error) {
        while (left) {
            atf_left *l = left;
            left = l->next;
            atf_left_free(l);
        }
        return 0;
    }
    p->number++;
    p->bytes = 0;
    atf_left *l = left;
    for (uint32_t i = 0; i < n; i++, l = l->next) {
        l->source = sources[i];
        l->part = p->number - 1;
        l->ended_ns = atf_clock_ns(CLOCK_BOOTTIME);
        turn_source(p, sources[i], l);
    }
    *p->last = left;
    if (left) p->last = last;
    p->over_events = 0;
    p->waiting++;
    p->asked = 0;
    p->began_ns = atf_clock_ns(CLOCK_MONOTONIC);
    return 1;
}

static int thread_goes_on(const atf_source *s)
{
    if (atf_load_relaxed32(&s->control->state) == ATF_STATE_STOPPED) return 0;
    for (uint32_t i = s->n_outputs; i-- > 0;)
        if (!s->outputs[i]->finished) return 1;
    return 0;
}

int atf_parts_look(atf_parts *p, atf_source **sources, uint32_t n)
{
    uint64_t now = atf_clock_ns(CLOCK_MONOTONIC), bytes = p->bytes, events = p->over_events;
    for (uint32_t i = 0; i < n; i++) {
        if (p->max_bytes) bytes += unread(sources[i]);
        events += sources[i]->part_events;
    }
    int due = (p->max_bytes && bytes >= p->max_bytes) || (p->max_age_ns && now - p->began_ns >= p->max_age_ns) || p->asked;
    if (!due || now < p->retry_ns || p->waiting >= ATF_PARTS_WAITING) return 0;
    /* What is committed up to now is this part's, as far as there is room for it: so threads end at the same time in it. */
    int goes_on = 0;
    for (uint32_t i = 0; i < n; i++) {
        events += atf_source_pass(sources[i], 1, ATF_PASS_NS);
        goes_on |= thread_goes_on(sources[i]);
    }
    if (!events || !goes_on) return 0; /* a part without records tells nothing; what ends now ends in this part */
    if (turn(p, sources, n)) return 1;
    p->retry_ns = now + ATF_PART_RETRY_NS;
    return 0;
}
