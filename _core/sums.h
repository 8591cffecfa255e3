/* Sums the spans of one thread by group in one pass, without making them. For threads without YIELD and RESUME: there a
 * span's callers are the frames below it. The rules of matching are those of spans.h. Never includes Python.h. */
#ifndef ATF_SUMS_H
#define ATF_SUMS_H
#include "format.h"
#include "idmap.h"
#include <string.h>

#define ATF_BUCKETS 1025 /* that a 64-bit time can have */

static inline unsigned atf_bucket(uint64_t t)
{
    if (!t) return 0;
    unsigned e = 63u - (unsigned)__builtin_clzll(t);
    return 1 + 16 * e + (unsigned)((e < 4 ? t << (4 - e) : t >> (e - 4)) & 15);
}

/* One cache line. */
typedef struct atf_sum_of {
    uint64_t count, total_ns, active_ns, self_ns, min_ns, max_ns, exceptions;
    uint64_t on_path; /* open frames of this group */
} atf_sum_of;

typedef struct atf_open_span {
    uint64_t id, start_ns, above_ns;
    uint32_t number, call_depth, gaps;
    uint32_t same; /* place + 1 of the next open frame of this function below; 0: none */
} atf_open_span;

typedef struct atf_summer {
    const atf_idmap *map;  /* function id -> number */
    const uint32_t *group; /* of a number */
    uint32_t *open;        /* of a number: place + 1 of its nearest open frame; zeroed by the caller */
    atf_sum_of *sums;      /* of a group; zeroed by the caller */
    uint32_t *cells;       /* ATF_BUCKETS of each group; zeroed by the caller */
    atf_open_span *stack;  /* freed by the caller */
    uint32_t depth, room, gaps;
    uint64_t gap_ns;
    uint64_t spans, returns_without_call, gap_count, events_lost;
} atf_summer;

enum atf_summed { ATF_SUMMED, ATF_SUMS_NO_MEMORY, ATF_SUMS_SUSPENDS, ATF_SUMS_UNKNOWN };

static inline void atf_sum_close(atf_summer *m, uint64_t t, int raised)
{
    const atf_open_span *f = &m->stack[--m->depth];
    uint64_t active = t > f->start_ns ? t - f->start_ns : 0;
    uint32_t g = m->group[f->number];
    atf_sum_of *s = &m->sums[g];
    m->open[f->number] = f->same;
    if (m->depth) m->stack[m->depth - 1].above_ns += active;
    if (!--s->on_path) s->total_ns += active;
    if (!s->count++ || active < s->min_ns) s->min_ns = active;
    if (active > s->max_ns) s->max_ns = active;
    s->active_ns += active;
    s->self_ns += active > f->above_ns ? active - f->above_ns : 0;
    s->exceptions += raised && f->gaps == m->gaps; /* else it is lost */
    m->cells[(size_t)g * ATF_BUCKETS + atf_bucket(active)]++;
}

static inline int atf_sum_open(atf_summer *m, const atf_event *e, uint32_t number)
{
    if (m->depth == m->room) {
        uint32_t room = m->room ? m->room * 2 : 256;
        void *larger = room > m->room ? realloc(m->stack, room * sizeof(atf_open_span)) : NULL;
        if (!larger) return 0;
        m->stack = (atf_open_span *)larger;
        m->room = room;
    }
    m->stack[m->depth++] = (atf_open_span){e->function_id, e->timestamp_ns, 0, number, e->call_depth, m->gaps, m->open[number]};
    m->open[number] = m->depth;
    m->sums[m->group[number]].on_path++;
    m->spans++;
    return 1;
}

static inline void atf_sum_return(atf_summer *m, const atf_event *e)
{
    uint32_t at = m->depth; /* place + 1 */
    if (at && m->stack[at - 1].id != e->function_id) {
        uint32_t n = atf_idmap_get(m->map, e->function_id);
        at = n == ATF_IDMAP_NONE ? 0 : m->open[n];
    }
    const atf_open_span *f = at ? &m->stack[at - 1] : NULL;
    if (!f || (f->gaps != m->gaps && f->call_depth && f->call_depth < e->call_depth)) {
        m->returns_without_call++;
        return;
    }
    while (m->depth > at) atf_sum_close(m, e->timestamp_ns, 0);
    atf_sum_close(m, e->timestamp_ns, e->event_kind == ATF_EXCEPTION);
}

static inline int atf_sum_spans(atf_summer *m, const atf_event *events, uint64_t count, uint64_t trace_end_ns)
{
    for (uint64_t i = 0; i < count; i++) {
        const atf_event *e = &events[i];
        uint32_t number;
        switch (e->event_kind) {
        case ATF_CALL:
            if (m->gaps && e->call_depth)
                while (m->depth && m->stack[m->depth - 1].gaps != m->gaps && m->stack[m->depth - 1].call_depth >= e->call_depth)
                    atf_sum_close(m, m->gap_ns, 0);
            number = atf_idmap_get(m->map, e->function_id);
            if (number == ATF_IDMAP_NONE) return ATF_SUMS_UNKNOWN;
            if (!atf_sum_open(m, e, number)) return ATF_SUMS_NO_MEMORY;
            break;
        case ATF_RETURN:
        case ATF_EXCEPTION:
            atf_sum_return(m, e);
            break;
        case ATF_YIELD:
        case ATF_RESUME:
            return ATF_SUMS_SUSPENDS;
        case ATF_INSTANT:
            if (atf_tells_level(e)) return ATF_SUMS_SUSPENDS; /* the matcher knows what that means */
            break;
        case ATF_GAP:
            m->gaps++;
            m->gap_ns = e->timestamp_ns;
            m->gap_count++;
            if (e->call_depth < ATF_GAP_UNKEPT) m->events_lost += e->function_id;
            break;
        }
    }
    while (m->depth) atf_sum_close(m, trace_end_ns, 0);
    return ATF_SUMMED;
}
#endif
