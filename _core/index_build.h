/* Makes the span index of a thread: matches, groups, sorts, sums. Never includes Python.h.
 *
 * Memory is the builder's, kept from thread to thread: 32 bytes a span for the matcher's rows, 28 for the sorting. */
#ifndef ATF_INDEX_BUILD_H
#define ATF_INDEX_BUILD_H
#include "index.h"

typedef struct atf_builder {
    atf_matcher m;
    uint32_t row_room, function_room;
    uint32_t *by_start, *by_duration; /* [row_room] */
    uint32_t *number;                 /* [row_room]: of a row's function, by rising function id */
    uint64_t *keys[2];                /* [row_room] */
    atf_span_function *functions;     /* [function_room], by rising function id */
    uint32_t *number_of;              /* [function_room]: the matcher's number -> ours */
    uint32_t *next;                   /* [function_room] */
    uint32_t *path;                   /* [path_room]: rows from the root to the present one */
    uint32_t path_room, deepest;
} atf_builder;

static inline int atf_again(void **memory, uint64_t count, size_t item)
{
    void *p = realloc(*memory, (count ? count : 1) * item);
    if (p) *memory = p;
    return p != NULL;
}

/* Room for the rows and functions that the matcher found. What is there already is not needed any more. */
static inline int atf_build_room(atf_builder *b)
{
    uint64_t rows = b->m.row_count, functions = b->m.function_count;
    if (rows > b->row_room || !b->by_start) {
        b->row_room = 0;
        if (!atf_again((void **)&b->by_start, rows, 4) || !atf_again((void **)&b->by_duration, rows, 4) || !atf_again((void **)&b->number, rows, 4) ||
            !atf_again((void **)&b->keys[0], rows, 8) || !atf_again((void **)&b->keys[1], rows, 8))
            return 0;
        b->row_room = (uint32_t)rows;
    }
    if (functions > b->function_room || !b->functions) {
        b->function_room = 0;
        if (!atf_again((void **)&b->functions, functions, sizeof(atf_span_function)) || !atf_again((void **)&b->number_of, functions, 4) ||
            !atf_again((void **)&b->next, functions, 4))
            return 0;
        b->function_room = (uint32_t)functions;
    }
    return 1;
}

static inline void atf_build_free(atf_builder *b)
{
    atf_match_free(&b->m);
    free(b->by_start);
    free(b->by_duration);
    free(b->number);
    free(b->keys[0]);
    free(b->keys[1]);
    free(b->functions);
    free(b->number_of);
    free(b->next);
    free(b->path);
    memset(b, 0, sizeof *b);
}

/* A new thread: functions are numbered anew, so that one thread's index does not depend on another's. 0: no memory. */
static inline int atf_build_start(atf_builder *b)
{
    atf_idmap_free(&b->m.map);
    b->m.function_count = 0;
    memset(&b->m.counts, 0, sizeof b->m.counts);
    if (!atf_idmap_init(&b->m.map)) return 0;
    atf_match_start(&b->m);
    return 1;
}

static int atf_by_function_id(const void *a, const void *b)
{
    uint64_t x = ((const atf_span_function *)a)->function_id, y = ((const atf_span_function *)b)->function_id;
    return (x > y) - (x < y);
}
static int atf_by_row(const void *a, const void *b)
{
    uint32_t x = ((const atf_exact *)a)->row, y = ((const atf_exact *)b)->row;
    return (x > y) - (x < y);
}
static int atf_by_time(const void *a, const void *b)
{
    uint64_t x = ((const atf_exact *)a)->ns, y = ((const atf_exact *)b)->ns;
    return x != y ? (x > y) - (x < y) : atf_by_row(a, b);
}

/* Numbers the functions by rising id, and groups the rows by them: `first`, `count`, by_start. */
static inline void atf_build_groups(atf_builder *b)
{
    const atf_row *rows = b->m.rows;
    uint32_t count = b->m.row_count, functions = b->m.function_count, at = 0;
    memset(b->functions, 0, functions * sizeof(atf_span_function));
    for (uint32_t n = 0; n < functions; n++) {
        b->functions[n].function_id = b->m.function_ids[n];
        b->functions[n].first = n; /* for the moment */
    }
    qsort(b->functions, functions, sizeof(atf_span_function), atf_by_function_id);
    for (uint32_t n = 0; n < functions; n++) b->number_of[b->functions[n].first] = n;
    for (uint32_t r = 0; r < count; r++) {
        b->number[r] = b->number_of[rows[r].function];
        b->functions[b->number[r]].count++;
    }
    for (uint32_t n = 0; n < functions; n++) {
        b->functions[n].first = b->next[n] = at;
        at += b->functions[n].count;
    }
    for (uint32_t r = 0; r < count; r++) b->by_start[b->next[b->number[r]]++] = r;
}

static inline uint64_t atf_built_duration(const atf_builder *b, const atf_event *events, uint64_t trace_end_ns, uint32_t row)
{
    const atf_row *r = &b->m.rows[row];
    if (r->duration != ATF_LONG) return r->duration;
    return atf_since(r->end_seq == ATF_NO_SEQ ? trace_end_ns : events[r->end_seq].timestamp_ns, events[r->call_seq].timestamp_ns);
}

#define ATF_SORT_BITS 11
#define ATF_SORT_DIGITS (1u << ATF_SORT_BITS)

/* by_duration: inside a function by rising duration, equal ones by row. Radix sort of all rows, then dealt out by function.
 * 0: no memory. */
static inline int atf_build_durations(atf_builder *b, const atf_event *events, uint64_t trace_end_ns)
{
    static const uint32_t passes = (32 + ATF_SORT_BITS - 1) / ATF_SORT_BITS;
    uint32_t count = b->m.row_count, functions = b->m.function_count, longest = 0, (*digits)[ATF_SORT_DIGITS];
    uint64_t *in = b->keys[0], *out = b->keys[1];
    if (!(digits = calloc(passes, sizeof *digits))) return 0;
    for (uint32_t r = 0; r < count; r++) {
        uint32_t d = b->m.rows[r].duration;
        in[r] = (uint64_t)d << 32 | r;
        longest = d > longest ? d : longest;
        for (uint32_t p = 0; p < passes; p++) digits[p][d >> p * ATF_SORT_BITS & (ATF_SORT_DIGITS - 1)]++;
    }
    for (uint32_t p = 0; p < passes && longest >> p * ATF_SORT_BITS; p++) {
        uint32_t place = 0, shift = 32 + p * ATF_SORT_BITS;
        for (uint32_t d = 0; d < ATF_SORT_DIGITS; d++) {
            uint32_t n = digits[p][d];
            digits[p][d] = place;
            place += n;
        }
        for (uint32_t i = 0; i < count; i++) out[digits[p][in[i] >> shift & (ATF_SORT_DIGITS - 1)]++] = in[i];
        uint64_t *swap = in;
        in = out;
        out = swap;
    }
    free(digits);
    for (uint32_t n = 0; n < functions; n++) b->next[n] = b->functions[n].first;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t r = (uint32_t)in[i];
        b->by_duration[b->next[b->number[r]]++] = r;
    }
    if (longest < ATF_LONG) return 1;
    /* What 32 bits do not hold stands last in its function, by row: sorted by its exact duration. */
    for (uint32_t n = 0; n < functions; n++) {
        uint32_t first = b->functions[n].first, last = first + b->functions[n].count, from = last;
        while (from > first && b->m.rows[b->by_duration[from - 1]].duration == ATF_LONG) from--;
        if (last - from < 2) continue;
        atf_exact *long_ones = malloc((uint64_t)(last - from) * sizeof(atf_exact));
        if (!long_ones) return 0;
        for (uint32_t i = from; i < last; i++)
            long_ones[i - from] = (atf_exact){atf_built_duration(b, events, trace_end_ns, b->by_duration[i]), b->by_duration[i], 0};
        qsort(long_ones, last - from, sizeof(atf_exact), atf_by_time);
        for (uint32_t i = from; i < last; i++) b->by_duration[i] = long_ones[i - from].row;
        free(long_ones);
    }
    return 1;
}

/* Brings the path to the chain that ends in `parent`; `next` counts the rows of each function on it. Rows come in the order
 * of their calls, so mostly one step is enough; a generator that runs again brings its own chain back. */
static inline void atf_build_path(atf_builder *b, uint32_t parent, uint32_t *length)
{
    const atf_row *rows = b->m.rows;
    uint32_t wanted = parent == ATF_NO_ROW ? 0 : rows[parent].place >> 3, join = wanted, row = parent;
    while (join && !(join <= *length && b->path[join - 1] == row)) {
        row = rows[row].parent;
        join--;
    }
    while (*length > join) b->next[b->number[b->path[--*length]]]--;
    row = parent;
    for (uint32_t d = wanted; d > join; d--, row = rows[row].parent) {
        b->path[d - 1] = row;
        b->next[b->number[row]]++;
    }
    *length = wanted;
}

/* The sums of every function. The lists of exact times are sorted by row. 0: no memory. */
static inline int atf_build_sums(atf_builder *b, const atf_event *events, uint64_t trace_end_ns)
{
    const atf_exact *suspended = b->m.suspended.items, *last = suspended + b->m.suspended.count;
    const atf_exact *long_self = b->m.long_selves.items;
    uint32_t length = 0;
    b->deepest = 0;
    for (uint32_t r = 0; r < b->m.row_count; r++)
        if (b->m.rows[r].place >> 3 > b->deepest) b->deepest = b->m.rows[r].place >> 3;
    if (b->deepest >= b->path_room) {
        if (!atf_again((void **)&b->path, (uint64_t)b->deepest + 1, 4)) return 0;
        b->path_room = b->deepest + 1;
    }
    memset(b->next, 0, b->m.function_count * sizeof(uint32_t));
    for (uint32_t n = 0; n < b->m.function_count; n++) b->functions[n].min_ns = UINT64_MAX; /* every function has a row */
    for (uint32_t r = 0; r < b->m.row_count; r++) {
        const atf_row *row = &b->m.rows[r];
        uint32_t n = b->number[r];
        atf_span_function *f = &b->functions[n];
        uint64_t active = atf_built_duration(b, events, trace_end_ns, r), self = row->self;
        if (suspended < last && suspended->row == r) {
            active = suspended++->ns;
            f->suspended++;
        }
        if (self == ATF_LONG) self = long_self++->ns;
        atf_build_path(b, row->parent, &length);
        if (!b->next[n]) f->total_ns += active;
        f->active_ns += active;
        f->self_ns += self;
        if (active < f->min_ns) f->min_ns = active;
        if (active > f->max_ns) f->max_ns = active;
        f->exceptions += (row->place & 7) == ATF_RAISED;
        b->path[length++] = r;
        b->next[n]++;
    }
    return 1;
}

/* After the last event. 0: no memory. */
static inline int atf_build_end(atf_builder *b, const atf_event *events, uint64_t trace_end_ns)
{
    if (!atf_match_end(&b->m, trace_end_ns) || !atf_build_room(b)) return 0;
    if (b->m.suspended.count) qsort(b->m.suspended.items, b->m.suspended.count, sizeof(atf_exact), atf_by_row);
    if (b->m.long_selves.count) qsort(b->m.long_selves.items, b->m.long_selves.count, sizeof(atf_exact), atf_by_row);
    atf_build_groups(b);
    return atf_build_durations(b, events, trace_end_ns) && atf_build_sums(b, events, trace_end_ns);
}
#endif
