/* Spans as wide columns, and sums of them by group, without counting recursion twice. Never includes Python.h. */
#ifndef ATF_TOTALS_H
#define ATF_TOTALS_H
#include "spans.h"

/* One entry a span, in the order of the calls, the threads one after the other; caller's memory. */
typedef struct atf_columns {
    uint64_t *start_ns, *end_ns, *active_ns, *self_ns;
    uint32_t *function, *depth, *call_seq, *end_seq, *child_count;
    int64_t *parent;
    uint8_t *status;
} atf_columns;

/* What the matcher found in a thread, as columns from row `base` on; `functions` is added to the function numbers. */
static inline void atf_spread(const atf_matcher *m, const atf_event *events, uint64_t trace_end_ns, const atf_columns *c, uint64_t base, uint32_t functions)
{
    for (uint32_t i = 0; i < m->row_count; i++) {
        const atf_row *row = &m->rows[i];
        uint64_t s = base + i, start = events[row->call_seq].timestamp_ns, duration = row->duration;
        if (duration == ATF_LONG) duration = atf_since(row->end_seq == ATF_NO_SEQ ? trace_end_ns : events[row->end_seq].timestamp_ns, start);
        c->start_ns[s] = start;
        c->end_ns[s] = start + duration;
        c->active_ns[s] = duration;
        c->self_ns[s] = row->self;
        c->function[s] = functions + row->function;
        c->depth[s] = row->place >> 3;
        c->call_seq[s] = row->call_seq;
        c->end_seq[s] = row->end_seq;
        c->child_count[s] = row->children;
        c->parent[s] = row->parent == ATF_NO_ROW ? -1 : (int64_t)(base + row->parent);
        c->status[s] = row->place & 7;
    }
    for (uint32_t i = 0; i < m->suspended.count; i++) c->active_ns[base + m->suspended.items[i].row] = m->suspended.items[i].ns;
    for (uint32_t i = 0; i < m->long_selves.count; i++) c->self_ns[base + m->long_selves.items[i].row] = m->long_selves.items[i].ns;
}

typedef struct atf_totals {
    uint64_t *count, *total_ns, *active_ns, *self_ns, *min_ns, *max_ns, *exceptions; /* one entry a group; min_ns is set by the first row */
    uint32_t *on_path; /* rows of this group on the path, zeroed by the caller */
    int64_t *path;     /* path[d - 1]: the row at depth d of the chain from the root to the present row */
} atf_totals;

/* Brings the path to the chain that ends in `parent`. Rows come in the order of their calls, so mostly one step is
 * enough; a generator that runs again brings its own chain back. */
static inline void atf_path_to(const atf_columns *c, const uint32_t *key, const uint32_t *group, atf_totals *t, int64_t parent, uint32_t *length)
{
    uint32_t wanted = parent < 0 ? 0 : c->depth[parent], join = wanted;
    int64_t row = parent;
    while (join && !(join <= *length && t->path[join - 1] == row)) {
        row = c->parent[row];
        join--;
    }
    while (*length > join) t->on_path[group[key[t->path[--*length]]]]--;
    row = parent;
    for (uint32_t d = wanted; d > join; d--, row = c->parent[row]) {
        t->path[d - 1] = row;
        t->on_path[group[key[row]]]++;
    }
    *length = wanted;
}

/* `group` maps a row's key (its function, or its thread) to its group. All times are of active time; the total
 * takes a row only when no row above it is of the same group. */
static inline void atf_sum(const atf_columns *c, const uint32_t *key, const uint32_t *group, uint64_t rows, atf_totals *t)
{
    uint32_t length = 0;
    for (uint64_t s = 0; s < rows; s++) {
        uint32_t g = group[key[s]];
        uint64_t active = c->active_ns[s];
        atf_path_to(c, key, group, t, c->parent[s], &length);
        if (!t->on_path[g]) t->total_ns[g] += active;
        t->active_ns[g] += active;
        t->self_ns[g] += c->self_ns[s];
        if (!t->count[g]++ || active < t->min_ns[g]) t->min_ns[g] = active;
        if (active > t->max_ns[g]) t->max_ns[g] = active;
        t->exceptions[g] += c->status[s] == ATF_RAISED;
        t->path[length++] = (int64_t)s;
        t->on_path[g]++;
    }
}
#endif
