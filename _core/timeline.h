/* Draws one lane of a timeline: the spans of one thread and depth as at most two cells a pixel. Never includes Python.h. */
#ifndef ATF_TIMELINE_H
#define ATF_TIMELINE_H
#include <stdint.h>

#define ATF_PROBES 32 /* spans of a cell that are looked at for its function; of more, so many at equal distances */

/* The spans of a thread by row, and the rows of one lane in the order of their starts. ends_rise: no span of the lane
 * ends before one that stands before it, so that ends can be bisected too; so it is unless generators are involved. */
typedef struct atf_lane {
    const uint64_t *start_ns, *end_ns;
    const uint32_t *function, *rows;
    uint64_t first, last; /* the lane is rows[first] up to rows[last] */
    int ends_rise;
} atf_lane;

/* From start_ns to end_ns, both inclusive, a cell every cell_ns. */
typedef struct atf_window {
    uint64_t start_ns, end_ns, cell_ns;
} atf_window;

typedef struct atf_cells {
    uint64_t *start_ns, *end_ns, *count; /* of the first begun, of the last ended, and how many spans */
    uint32_t *function, *row;            /* of the function that took longest, the longest span that was looked at */
} atf_cells;

/* The first place from `low` where starts (or ends) are at least `bound`: doubling steps, then halving, since the next
 * pixel is mostly near. */
static inline uint64_t atf_skip(const atf_lane *l, const uint64_t *times, uint64_t low, uint64_t bound)
{
    uint64_t step = 1, high = low;
    while (high < l->last && times[l->rows[high]] < bound) {
        low = high + 1;
        high = l->last - high > step ? high + step : l->last;
        step *= 2;
    }
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (times[l->rows[middle]] < bound) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Where the cell that begins with the span at `at` ends. Where ends rise the last span that begins in a pixel
 * reaches farthest; one that is as long as a pixel is a cell of its own. */
static inline uint64_t atf_cell_end(const atf_lane *l, const atf_window *w, uint64_t at)
{
    uint64_t number = (l->start_ns[l->rows[at]] - w->start_ns) / w->cell_ns;
    uint64_t left = w->end_ns - w->start_ns - number * w->cell_ns; /* from the cell's start to the window's end */
    uint64_t bound = w->start_ns + number * w->cell_ns + (left < w->cell_ns ? left + 1 : w->cell_ns);
    uint64_t next = atf_skip(l, l->start_ns, at + 1, bound);
    uint32_t final = l->rows[next - 1];
    return next - at > 1 && l->ends_rise && l->end_ns[final] - l->start_ns[final] >= w->cell_ns ? next - 1 : next;
}

/* How many cells the spans that begin in the window make; at most `most` are counted. */
static inline uint64_t atf_count_cells(const atf_lane *l, const atf_window *w, uint64_t most)
{
    uint64_t found = 0, at = atf_skip(l, l->start_ns, l->first, w->start_ns);
    for (; found < most && at < l->last && l->start_ns[l->rows[at]] <= w->end_ns; found++) at = atf_cell_end(l, w, at);
    return found;
}

/* The cell of `count` of the rows from `first` on. Only rows that end at `ending` or later belong to it. */
static inline void atf_make_cell(const atf_lane *l, const atf_cells *c, uint64_t cell, uint64_t first, uint64_t last, uint64_t ending)
{
    uint32_t functions[ATF_PROBES], used = 0, dominant = 0;
    uint64_t sums[ATF_PROBES], longest = 0, count = last - first, stride = 1;
    c->start_ns[cell] = UINT64_MAX;
    c->end_ns[cell] = c->count[cell] = 0;
    c->row[cell] = UINT32_MAX;
    if (l->ends_rise) { /* the rows are those of the cell: the outer ones say the times */
        c->start_ns[cell] = l->start_ns[l->rows[first]];
        c->end_ns[cell] = l->end_ns[l->rows[last - 1]];
        c->count[cell] = count;
        stride = count > ATF_PROBES ? count / ATF_PROBES : 1;
    }
    for (uint64_t at = first, looked = 0; at < last; at += stride) {
        uint32_t row = l->rows[at], n;
        uint64_t start = l->start_ns[row], end = l->end_ns[row], took = end - start;
        if (end < ending) continue;
        if (!l->ends_rise) {
            if (start < c->start_ns[cell]) c->start_ns[cell] = start;
            if (end > c->end_ns[cell]) c->end_ns[cell] = end;
            c->count[cell]++;
        }
        if (c->row[cell] == UINT32_MAX || took > longest) {
            longest = took;
            c->row[cell] = row;
        }
        if (looked++ >= ATF_PROBES) {
            if (l->ends_rise) break;
            continue;
        }
        for (n = 0; n < used && functions[n] != l->function[row]; n++) {}
        if (n == used) {
            functions[used++] = l->function[row];
            sums[n] = 0;
        }
        sums[n] += took;
    }
    for (uint32_t n = 1; n < used; n++)
        if (sums[n] > sums[dominant]) dominant = n;
    c->function[cell] = used ? functions[dominant] : 0;
}

/* The cells of a lane, in order of time; returns how many. The first may hold what began before the window and reaches
 * into it. There must be room for one more than atf_count_cells says. */
static inline uint64_t atf_draw(const atf_lane *l, const atf_window *w, const atf_cells *c)
{
    uint64_t cells = 0, at = atf_skip(l, l->start_ns, l->first, w->start_ns), reaching = l->first;
    if (l->ends_rise) reaching = atf_skip(l, l->end_ns, l->first, w->start_ns);
    if (reaching < at) {
        atf_make_cell(l, c, 0, reaching, at, w->start_ns);
        cells = c->count[0] > 0;
    }
    while (at < l->last && l->start_ns[l->rows[at]] <= w->end_ns) {
        uint64_t next = atf_cell_end(l, w, at);
        atf_make_cell(l, c, cells++, at, next, 0);
        at = next;
    }
    return cells;
}
#endif
