/* The stretches of time that are kept: marks with what lies around them, overlapping ones joined. Never includes Python.h. */
#ifndef ATF_WINDOWS_H
#define ATF_WINDOWS_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ATF_WINDOWS_MOST 65536u /* beyond that, a window reaches from the last one's start */

typedef struct atf_window {
    uint64_t start_ns, end_ns; /* both included */
    uint64_t mark_ns;          /* of its first mark */
    uint64_t marks;            /* how many made it */
    uint32_t rule;             /* that made the first: its place in the policy */
    uint32_t version;          /* of the policy */
    uint64_t settled_ns;       /* when everything in it was in the files; 0: not yet */
} atf_window;

/* In order of start_ns; they do not overlap. */
typedef struct atf_windows {
    atf_window *list;
    uint32_t n, room;
} atf_windows;

static inline uint64_t atf_less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }
static inline uint64_t atf_more(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

/* The first window that ends at `ns` or later; n: none. */
static inline uint32_t atf_windows_from(const atf_windows *w, uint64_t ns)
{
    uint32_t low = 0, high = w->n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (w->list[mid].end_ns < ns) low = mid + 1;
        else high = mid;
    }
    return low;
}

/* Adds one, joined with those that it touches. 0, or -1: no memory. */
static inline int atf_windows_add(atf_windows *w, atf_window add)
{
    if (w->n == w->room && w->room < ATF_WINDOWS_MOST) {
        uint32_t room = w->room ? 2 * w->room : 64;
        atf_window *grown = realloc(w->list, room * sizeof *grown);
        if (!grown) return -1;
        w->list = grown;
        w->room = room;
    }
    uint32_t first = atf_windows_from(w, add.start_ns), after = first;
    if (w->n == w->room && first == w->n) after = first--; /* no room: the last one goes on */
    uint64_t marks = add.marks;
    for (uint32_t i = first; i < w->n && (i < after || w->list[i].start_ns <= add.end_ns); i++) {
        const atf_window *old = &w->list[i];
        if (old->mark_ns <= add.mark_ns) add.mark_ns = old->mark_ns, add.rule = old->rule, add.version = old->version;
        if (old->start_ns < add.start_ns) add.start_ns = old->start_ns;
        if (old->end_ns > add.end_ns) add.end_ns = old->end_ns;
        marks += old->marks;
        after = i + 1;
    }
    add.marks = marks;
    add.settled_ns = 0;
    if (first == w->n && w->n == w->room) return -1;
    if (after == first) memmove(&w->list[first + 1], &w->list[first], (w->n - first) * sizeof add);
    else memmove(&w->list[first + 1], &w->list[after], (w->n - after) * sizeof add);
    w->n = w->n + 1 - (after - first);
    w->list[first] = add;
    return 0;
}
#endif
