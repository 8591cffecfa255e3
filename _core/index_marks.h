/* Which rows of a span index pass a filter, as one bit a row; and what is picked among them. Never includes Python.h. */
#ifndef ATF_INDEX_MARKS_H
#define ATF_INDEX_MARKS_H
#include "index.h"

/* All bounds are inclusive. Filled by the caller; `atf_filter_ready` derives the rest. */
typedef struct atf_span_filter {
    uint64_t start_from_ns, start_until_ns, end_from_ns, end_until_ns;
    uint64_t min_ns, max_ns;       /* duration */
    uint32_t min_depth, max_depth; /* 1: no parent */
    uint32_t statuses;             /* bit s: status s passes */

    uint32_t first, last;          /* rows [first, last) can pass */
    uint32_t least, span;          /* duration - least <= span, in 32 bits */
    uint32_t end_least, end_span;  /* the same for end_seq */
    uint16_t depth_least, depth_span;
    int by_duration, by_depth, by_status, by_end; /* which of them tell anything */
    int open_passes;               /* rows without an end_seq pass by_end */
    int exact;                     /* what passes must be asked again, value by value */
} atf_span_filter;

static inline void atf_filter_ready(const atf_spans *x, atf_span_filter *f)
{
    uint64_t last_ns = x->event_count ? x->events[x->event_count - 1].timestamp_ns : 0;
    int starts = f->start_from_ns > 0 || f->start_until_ns < UINT64_MAX, ends = f->end_from_ns > 0 || f->end_until_ns < UINT64_MAX;
    f->first = 0;
    f->last = x->rows;
    f->by_end = f->exact = 0;
    if ((x->flags & ATF_SPANS_IN_ORDER) && x->trace_end_ns >= last_ns) {
        /* Times rise with index_seq, and no span ends before its start: times are compared as positions. */
        uint64_t until = f->start_until_ns < f->end_until_ns ? f->start_until_ns : f->end_until_ns;
        if (f->start_from_ns > 0) f->first = atf_row_from(x, atf_seq_from(x, f->start_from_ns, 0));
        if (until < UINT64_MAX) f->last = atf_row_from(x, atf_seq_from(x, until, 1));
        if (ends) {
            uint64_t from = atf_seq_from(x, f->end_from_ns, 0), past = atf_seq_from(x, f->end_until_ns, 1);
            f->by_end = 1;
            f->open_passes = x->trace_end_ns >= f->end_from_ns && x->trace_end_ns <= f->end_until_ns;
            f->end_least = (uint32_t)from;
            f->end_span = past > from ? (uint32_t)(past - 1 - from) : 0;
            if (past <= from) f->end_least = ATF_NO_SEQ; /* none but the open ones */
        }
    } else {
        f->exact = starts || ends;
    }
    f->by_duration = f->min_ns > 0 || f->max_ns < UINT64_MAX;
    f->least = f->min_ns < ATF_LONG ? (uint32_t)f->min_ns : ATF_LONG;
    f->span = f->max_ns < f->min_ns ? 0 : (f->max_ns < ATF_LONG ? (uint32_t)f->max_ns : ATF_LONG) - f->least;
    f->by_depth = f->min_depth > 1 || f->max_depth < UINT32_MAX;
    f->depth_least = (uint16_t)(f->min_depth < ATF_PLACE_DEEP ? f->min_depth : ATF_PLACE_DEEP);
    f->depth_span = (uint16_t)((f->max_depth < ATF_PLACE_DEEP ? f->max_depth : ATF_PLACE_DEEP) - f->depth_least);
    f->by_status = (f->statuses & 0x1F) != 0x1F;
    f->exact |= f->by_duration && (f->min_ns >= ATF_LONG || (f->max_ns >= ATF_LONG && f->max_ns < UINT64_MAX));
    f->exact |= f->by_depth && (f->min_depth > ATF_PLACE_DEEP || (f->max_depth >= ATF_PLACE_DEEP && f->max_depth < UINT32_MAX));
    if (f->max_ns < f->min_ns || f->max_depth < f->min_depth || !f->statuses) f->last = f->first;
    if (f->last < f->first) f->last = f->first;
}

static inline int atf_row_exactly(atf_spans *x, const atf_span_filter *f, uint32_t row)
{
    uint64_t start = atf_row_start(x, row), duration = atf_row_duration(x, row), end = start + duration;
    uint32_t depth = atf_row_depth(x, row);
    return start >= f->start_from_ns && start <= f->start_until_ns && end >= f->end_from_ns && end <= f->end_until_ns &&
           duration >= f->min_ns && duration <= f->max_ns && depth >= f->min_depth && depth <= f->max_depth;
}

static inline int atf_row_passes(atf_spans *x, const atf_span_filter *f, uint32_t row)
{
    if (f->by_duration && x->duration[row] - f->least > f->span) return 0;
    if (f->by_depth && (uint16_t)((x->place[row] >> 3) - f->depth_least) > f->depth_span) return 0;
    if (f->by_status && !(f->statuses >> (x->place[row] & 7) & 1)) return 0;
    if (f->by_end && x->end_seq[row] - f->end_least > f->end_span && !(f->open_passes && x->end_seq[row] == ATF_NO_SEQ)) return 0;
    if (f->by_end && !f->open_passes && x->end_seq[row] == ATF_NO_SEQ) return 0;
    return !f->exact || atf_row_exactly(x, f, row);
}

/* The same for 64 rows: bit i stands for first + i. The loops are such that a compiler makes vector code of them. */
static inline uint64_t atf_rows_pass(atf_spans *x, const atf_span_filter *f, uint32_t first)
{
    uint8_t ok[64];
    uint64_t word = 0, eight;
    memset(ok, 1, sizeof ok);
    if (f->by_duration)
        for (int i = 0; i < 64; i++) ok[i] &= x->duration[first + i] - f->least <= f->span;
    if (f->by_depth)
        for (int i = 0; i < 64; i++) ok[i] &= (uint16_t)((x->place[first + i] >> 3) - f->depth_least) <= f->depth_span;
    if (f->by_status)
        for (int i = 0; i < 64; i++) ok[i] &= f->statuses >> (x->place[first + i] & 7);
    if (f->by_end)
        for (int i = 0; i < 64; i++) {
            uint32_t end = x->end_seq[first + i], open = end == ATF_NO_SEQ;
            ok[i] &= (uint8_t)(((end - f->end_least <= f->end_span) & !open) | (open & (uint32_t)f->open_passes));
        }
    for (int i = 0; i < 8; i++) {
        memcpy(&eight, ok + 8 * i, 8);
        word |= ((eight & 0x0101010101010101u) * 0x0102040810204080u >> 56) << 8 * i;
    }
    if (f->exact)
        for (uint64_t left = word; left; left &= left - 1) {
            int bit = __builtin_ctzll(left);
            if (!atf_row_exactly(x, f, first + (uint32_t)bit)) word &= ~(1ull << bit);
        }
    return word;
}

/* Marks what passes among rows [first, last), which lie within the filter's. */
static inline void atf_mark_rows(atf_spans *x, const atf_span_filter *f, uint32_t first, uint32_t last, uint64_t *marks)
{
    int all = !(f->by_duration || f->by_depth || f->by_status || f->by_end || f->exact);
    for (uint64_t row = first; row < last;) {
        if (row % 64 == 0 && last - row >= 64) {
            marks[row / 64] = all ? ~0ull : atf_rows_pass(x, f, (uint32_t)row);
            row += 64;
        } else {
            marks[row / 64] |= (uint64_t)(all || atf_row_passes(x, f, (uint32_t)row)) << row % 64;
            row++;
        }
    }
}

/* Marks what passes of a list of rows. */
static inline void atf_mark_list(atf_spans *x, const atf_span_filter *f, const uint32_t *rows, uint32_t count, uint64_t *marks)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = rows[i];
        if (row >= x->rows) {
            x->damaged = 1;
            return;
        }
        if (row >= f->first && row < f->last && atf_row_passes(x, f, row)) marks[row / 64] |= 1ull << row % 64;
    }
}

/* How many of `count` rows of one function, in order of duration, are shorter than `ns` (`with`: or as long). */
static inline uint32_t atf_shorter(atf_spans *x, const uint32_t *rows, uint32_t count, uint64_t ns, int with)
{
    uint32_t first = 0;
    while (count) {
        uint32_t half = count / 2, row = rows[first + half];
        if (row >= x->rows) {
            x->damaged = 1;
            return first;
        }
        uint64_t duration = atf_row_duration(x, row);
        if (duration < ns || (with && duration == ns)) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

static inline uint32_t atf_below(const uint32_t *rows, uint32_t count, uint32_t row)
{
    uint32_t first = 0;
    while (count) {
        uint32_t half = count / 2;
        if (rows[first + half] < row) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

/* Marks what passes of a function: by whichever of its two orders has less to look at. */
static inline void atf_mark_function(atf_spans *x, const atf_span_filter *f, uint32_t number, uint64_t *marks)
{
    const atf_span_function *function = &x->functions[number];
    const uint32_t *started = x->by_start + function->first, *lasted = x->by_duration + function->first;
    uint32_t from = atf_below(started, function->count, f->first), to = atf_below(started, function->count, f->last);
    if (to < from) {
        x->damaged = 1;
        return;
    }
    if (f->by_duration) {
        uint32_t low = atf_shorter(x, lasted, function->count, f->min_ns, 0), high = atf_shorter(x, lasted, function->count, f->max_ns, 1);
        if (high <= low) return;
        if (high - low < to - from) {
            atf_span_filter rest = *f;
            rest.by_duration = 0; /* that is what the order says */
            atf_mark_list(x, &rest, lasted + low, high - low, marks);
            return;
        }
    }
    atf_mark_list(x, f, started + from, to - from, marks);
}

/* before[i]: marks in words below 8 * i. `words` is a multiple of 8; before has words / 8 + 1 entries. */
static inline void atf_marks_count(const uint64_t *marks, uint64_t words, uint32_t *before)
{
    uint32_t n = 0;
    for (uint64_t w = 0; w < words; w++) {
        if (w % 8 == 0) before[w / 8] = n;
        n += (uint32_t)__builtin_popcountll(marks[w]);
    }
    before[words / 8] = n;
}

/* How many marked rows are below `row`. */
static inline uint32_t atf_marks_rank(const uint64_t *marks, const uint32_t *before, uint32_t row)
{
    uint64_t word = row / 64;
    uint32_t n = before[word / 8];
    for (uint64_t w = word & ~7ull; w < word; w++) n += (uint32_t)__builtin_popcountll(marks[w]);
    return n + (uint32_t)__builtin_popcountll(marks[word] & ((1ull << row % 64) - 1));
}

/* The marked row of rank n, which there is. */
static inline uint32_t atf_marks_nth(const uint64_t *marks, const uint32_t *before, uint64_t words, uint32_t n)
{
    uint64_t low = 0, high = words / 8;
    while (low + 1 < high) {
        uint64_t half = low + (high - low) / 2;
        if (before[half] <= n) low = half;
        else high = half;
    }
    uint64_t w = 8 * low;
    n -= before[low];
    for (uint32_t here; n >= (here = (uint32_t)__builtin_popcountll(marks[w])); w++) n -= here;
    uint64_t left = marks[w];
    while (n--) left &= left - 1;
    return (uint32_t)(64 * w) + (uint32_t)__builtin_ctzll(left);
}

/* ---------------------------------------------------------------- picking */
typedef struct atf_pick {
    uint64_t value;
    uint32_t row, reserved;
} atf_pick;

/* Whether a comes after b in the order that is asked for: rising (value, row), or its reverse. */
static inline int atf_after(const atf_pick *a, const atf_pick *b, int descending)
{
    int less = a->value < b->value || (a->value == b->value && a->row < b->row);
    return descending ? less : !less && (a->value != b->value || a->row != b->row);
}

/* Puts the first `keep` of the order to the front, in no order; the last of them to keep - 1. keep is from 1 to count. */
static inline void atf_keep_first(atf_pick *picks, uint32_t count, uint32_t keep, int descending)
{
    uint64_t low = 0, high = count, random = 1;
    while (high - low > 1) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        atf_pick pivot = picks[low + (random >> 33) % (high - low)], one;
        uint64_t left = low, right = high - 1;
        for (;;) {
            while (atf_after(&pivot, &picks[left], descending)) left++;
            while (atf_after(&picks[right], &pivot, descending)) right--;
            if (left >= right) break;
            one = picks[left];
            picks[left++] = picks[right];
            picks[right--] = one;
        }
        /* Before `left` nothing comes after the pivot; from it on, nothing before. */
        if (left == low) left++; /* the pivot is the very first */
        if (keep <= left) high = left;
        else low = left;
        if (keep == left) break;
    }
    for (uint32_t i = 0; i + 1 < keep; i++)
        if (atf_after(&picks[i], &picks[keep - 1], descending)) {
            atf_pick one = picks[i];
            picks[i] = picks[keep - 1];
            picks[keep - 1] = one;
        }
}

typedef struct atf_top {
    atf_pick *picks; /* [2 * keep]: thinned out to `keep` whenever it is full */
    uint32_t count, keep;
    int by_self, descending;
    int bounded; /* only what comes after `bound` */
    int edged;   /* only what comes before `edge`: `keep` of those before it are known */
    atf_pick bound, edge;
} atf_top;

static inline void atf_top_thin(atf_top *t)
{
    if (t->count < t->keep || !t->keep) return;
    atf_keep_first(t->picks, t->count, t->keep, t->descending);
    t->count = t->keep;
    t->edge = t->picks[t->keep - 1];
    t->edged = 1;
}

/* Keeps the first `keep` marked rows, of words [first, last), by duration or self time; at the end, atf_top_thin. */
static inline void atf_top_some(atf_spans *x, const uint64_t *marks, uint64_t first, uint64_t last, atf_top *t)
{
    const uint32_t *column = t->by_self ? x->self : x->duration;
    for (uint64_t w = first; w < last && t->keep; w++) {
        uint64_t left = marks[w];
        if (left == ~0ull && t->edged) {
            /* A whole word, of which mostly nothing is good enough. */
            uint32_t edge = t->edge.value < ATF_LONG ? (uint32_t)t->edge.value : ATF_LONG, any = 0;
            if (t->descending)
                for (int i = 0; i < 64; i++) any |= column[64 * w + i] >= edge;
            else
                for (int i = 0; i < 64; i++) any |= column[64 * w + i] <= edge;
            if (!any) continue;
        }
        for (; left; left &= left - 1) {
            atf_pick one = {0, (uint32_t)(64 * w) + (uint32_t)__builtin_ctzll(left), 0};
            one.value = t->by_self ? atf_row_self(x, one.row) : atf_row_duration(x, one.row);
            if (t->bounded && !atf_after(&one, &t->bound, t->descending)) continue;
            if (t->edged && !atf_after(&t->edge, &one, t->descending)) continue;
            t->picks[t->count++] = one;
            if (t->count == 2 * (uint64_t)t->keep) atf_top_thin(t);
        }
    }
}
#endif
