/* Callers and callees, sums and ranks over the rows of span indexes. Never includes Python.h. */
#ifndef ATF_INDEX_WALK_H
#define ATF_INDEX_WALK_H
#include "index_marks.h"

/* The first row after `from` that is called after index_seq `seq`, `from` being before it: mostly very near. */
static inline uint32_t atf_row_past(const atf_spans *x, uint32_t from, uint32_t seq)
{
    uint64_t low = from, step = 1;
    while (low + step < x->rows && x->call_seq[low + step] <= seq) {
        low += step;
        step *= 2;
    }
    uint64_t high = low + step < x->rows ? low + step : x->rows;
    while (low + 1 < high) {
        uint64_t half = low + (high - low) / 2;
        if (x->call_seq[half] <= seq) low = half;
        else high = half;
    }
    return (uint32_t)high;
}

/* The next child of `row` after `child` (at first: `row` itself); ATF_NO_ROW: there is none. */
static inline uint32_t atf_next_child(atf_spans *x, uint32_t row, uint32_t child)
{
    uint32_t next = child + 1;
    if (x->flags & ATF_SPANS_NESTED) {
        /* What a span calls stands right behind it, and ends before it does: the next row after a child is the next child. */
        if (child != row) {
            if (x->end_seq[child] == ATF_NO_SEQ) return ATF_NO_ROW;
            next = atf_row_past(x, child, x->end_seq[child]);
        }
        return next < x->rows && x->parent[next] == row ? next : ATF_NO_ROW;
    }
    while (next < x->rows && x->parent[next] != row) next++;
    return next < x->rows ? next : ATF_NO_ROW;
}

/* Writes up to `room` children that follow `*child` (at first: `row`), and moves it on. Less than room: those were all. */
static inline uint32_t atf_some_children(atf_spans *x, uint32_t row, uint32_t *child, uint32_t *out, uint32_t room)
{
    uint32_t n = 0;
    while (n < room) {
        uint32_t next = atf_next_child(x, row, *child);
        if (next == ATF_NO_ROW) break;
        *child = out[n++] = next;
    }
    return n;
}

/* Adds to counts[i] the children of rows[i], for rows with too many for the column. `wanted`: rows -> i, `marks`: a bit a row. */
static inline void atf_count_children(const atf_spans *x, uint32_t first, const uint64_t *marks, const atf_idmap *wanted, uint32_t *counts)
{
    for (uint64_t r = (uint64_t)first + 1; r < x->rows; r++) {
        uint32_t p = x->parent[r];
        if (p < x->rows && marks[p / 64] >> p % 64 & 1) counts[atf_idmap_get(wanted, p)]++;
    }
}

/* Of the rows that had begun and not ended at a time, both inclusive, the last; ATF_NO_ROW: there is none. */
static inline uint32_t atf_row_at(atf_spans *x, uint64_t time_ns)
{
    int in_order = (x->flags & ATF_SPANS_IN_ORDER) != 0, nested = in_order && (x->flags & ATF_SPANS_NESTED);
    uint32_t row = in_order ? atf_row_from(x, atf_seq_from(x, time_ns, 1)) : x->rows;
    if (!row) return ATF_NO_ROW;
    for (row--; row != ATF_NO_ROW; row = nested ? atf_row_parent(x, row) : row - 1) {
        uint64_t start = atf_row_start(x, row);
        if (start <= time_ns && atf_row_duration(x, row) >= time_ns - start) return row;
    }
    return ATF_NO_ROW;
}

/* ---------------------------------------------------------------- sums */
typedef struct atf_sums {
    uint64_t *count, *total_ns, *active_ns, *self_ns, *min_ns, *max_ns, *exceptions; /* one entry a group; min_ns is set by the first row */
    const uint32_t *group; /* of each function of the index */
    const atf_idmap *numbers; /* function id -> its place in the table */
    const uint32_t *number;   /* that place of every row; NULL: looked up */
    uint32_t *on_path;     /* per group: marked rows on the path; zeroed by the caller */
    uint32_t *path, *path_group; /* [deepest]: the chain to the present row; its groups, ATF_NO_ROW: not marked */
    uint32_t length;
} atf_sums;

/* out[row]: the place of the row's function in the table. */
static inline void atf_number_rows(atf_spans *x, uint32_t *out)
{
    for (uint32_t n = 0; n < x->function_count; n++) {
        const atf_span_function *f = &x->functions[n];
        for (uint32_t i = 0; i < f->count; i++) {
            uint32_t row = x->by_start[f->first + i];
            if (row < x->rows) out[row] = n;
            else x->damaged = 1;
        }
    }
}

static inline uint32_t atf_group_of(atf_spans *x, const atf_sums *s, uint32_t row)
{
    uint32_t n = s->number ? s->number[row] : atf_idmap_get(s->numbers, atf_row_function_id(x, row));
    if (n < x->function_count) return s->group[n];
    x->damaged = 1;
    return 0;
}

/* As atf_build_path, but only marked rows count: what does not pass is no recursion. 0: damaged. */
static inline int atf_sum_path(atf_spans *x, const uint64_t *marks, atf_sums *s, uint32_t parent)
{
    uint32_t wanted = parent == ATF_NO_ROW ? 0 : atf_row_depth(x, parent), join = wanted, row = parent;
    if (wanted > x->deepest) return 0;
    while (join && row != ATF_NO_ROW && !(join <= s->length && s->path[join - 1] == row)) {
        row = atf_row_parent(x, row);
        join--;
    }
    while (s->length > join) {
        uint32_t group = s->path_group[--s->length];
        if (group != ATF_NO_ROW) s->on_path[group]--;
    }
    row = parent;
    for (uint32_t d = wanted; d > join; d--, row = atf_row_parent(x, row)) {
        if (row == ATF_NO_ROW) return 0;
        s->path[d - 1] = row;
        s->path_group[d - 1] = ATF_NO_ROW;
        if (marks[row / 64] >> row % 64 & 1) s->on_path[s->path_group[d - 1] = atf_group_of(x, s, row)]++;
    }
    s->length = wanted;
    return 1;
}

/* Adds the marked rows of words [first, last). Times are active times. */
static inline void atf_sum_some(atf_spans *x, const uint64_t *marks, uint64_t first, uint64_t last, atf_sums *s)
{
    for (uint64_t w = first; w < last; w++)
        for (uint64_t left = marks[w]; left; left &= left - 1) {
            uint32_t row = (uint32_t)(64 * w) + (uint32_t)__builtin_ctzll(left), g = atf_group_of(x, s, row);
            uint64_t active = atf_row_active(x, row);
            if (!atf_sum_path(x, marks, s, atf_row_parent(x, row)) || s->length >= x->deepest) x->damaged = 1;
            if (x->damaged) return;
            if (!s->on_path[g]) s->total_ns[g] += active;
            s->active_ns[g] += active;
            s->self_ns[g] += atf_row_self(x, row);
            if (!s->count[g]++ || active < s->min_ns[g]) s->min_ns[g] = active;
            if (active > s->max_ns[g]) s->max_ns[g] = active;
            s->exceptions[g] += atf_row_status(x, row) == ATF_RAISED;
            s->path[s->length] = row;
            s->path_group[s->length++] = g;
            s->on_path[g]++;
        }
}

/* ---------------------------------------------------------------- ranks */
/* Values of one index that rise with their place: durations of the rows of one function, in order of duration; or, `rows`
 * being NULL, starts of marked rows. */
typedef struct atf_run {
    atf_spans *x;
    const uint32_t *rows;
    const uint64_t *marks;
    const uint32_t *before;
    uint64_t words;
    uint32_t first, last;   /* places [first, last) */
    uint32_t low, high, at; /* atf_rank: the value looked for lies at [low, high] */
} atf_run;

static inline uint64_t atf_run_value(const atf_run *r, uint32_t i)
{
    uint32_t row = r->rows ? r->rows[i] : atf_marks_nth(r->marks, r->before, r->words, i);
    if (row < r->x->rows) return r->rows ? atf_row_duration(r->x, row) : atf_row_start(r->x, row);
    r->x->damaged = 1;
    return 0;
}

/* How many of a run are at most `value`, which is known to be in [low, high]. */
static inline uint32_t atf_run_until(const atf_run *r, uint64_t value)
{
    uint32_t low = r->low, left = r->high - r->low;
    while (left) {
        uint32_t half = left / 2;
        if (atf_run_value(r, low + half) <= value) {
            low += half + 1;
            left -= half + 1;
        } else {
            left = half;
        }
    }
    return low;
}

/* The value with exactly `rank` smaller or equal ones before it, over all runs: bisects values, and with them every run. */
static inline uint64_t atf_rank(atf_run *runs, uint32_t count, uint64_t rank)
{
    uint64_t least = 0, most = 0;
    for (uint32_t i = 0; i < count; i++) {
        runs[i].low = runs[i].first;
        runs[i].high = runs[i].last;
        if (runs[i].first == runs[i].last) continue;
        uint64_t last = atf_run_value(&runs[i], runs[i].last - 1);
        most = last > most ? last : most;
    }
    while (least < most) {
        uint64_t middle = least + (most - least) / 2, until = 0;
        for (uint32_t i = 0; i < count; i++) {
            runs[i].at = atf_run_until(&runs[i], middle);
            until += runs[i].at - runs[i].first;
        }
        int enough = until > rank;
        for (uint32_t i = 0; i < count; i++) {
            if (enough) runs[i].high = runs[i].at;
            else runs[i].low = runs[i].at;
        }
        if (enough) most = middle;
        else least = middle + 1;
    }
    return least;
}
#endif
