/* Ticks to nanoseconds on the CLOCK_BOOTTIME scale: a line between every two neighbouring anchors, the first
 * line extended to the left and the last to the right. One function for all threads of a process, so their
 * order in time is kept. Never includes Python.h. */
#ifndef ATF_TIMESCALE_H
#define ATF_TIMESCALE_H
#include "clock.h"

typedef struct atf_timescale {
    uint32_t n;
    uint32_t i; /* the line used last */
    uint64_t ticks[ATF_ANCHORS], ns[ATF_ANCHORS];
    uint64_t slope[ATF_ANCHORS]; /* of the line that starts here: ns per tick << 32 */
} atf_timescale;

static inline uint64_t atf_slope(uint64_t ns, uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ns << 32) / (ticks ? ticks : 1));
}

/* Takes the anchors that stand in the control block. Word by word: whoever does not write them himself asks again when the count
 * has changed meanwhile. */
static inline void atf_timescale_load(atf_timescale *s, const atf_control *c)
{
    uint64_t count = atf_load_acquire64(&c->anchor_count), from = count > ATF_ANCHORS ? count - ATF_ANCHORS : 0;
    s->n = (uint32_t)(count - from);
    for (uint32_t k = 0; k < s->n; k++) {
        const atf_anchor *a = &c->anchors[(from + k) % ATF_ANCHORS];
        s->ticks[k] = atf_load_relaxed64(&a->ticks);
        s->ns[k] = atf_load_relaxed64(&a->boottime_ns);
        if (k) s->slope[k - 1] = atf_slope(s->ns[k] - s->ns[k - 1], s->ticks[k] - s->ticks[k - 1]);
    }
    if (s->n) s->slope[s->n - 1] = s->n > 1 ? s->slope[s->n - 2] : atf_slope(1000000000u, c->ticks_per_second);
    s->i = s->n > 1 ? s->n - 2 : 0;
}

/* The line that atf_to_ns used last, for a loop over many times: good for `ticks` ticks after `from`. */
typedef struct atf_line {
    uint64_t from, ticks, ns, slope;
} atf_line;

static inline atf_line atf_timescale_line(const atf_timescale *s)
{
    uint32_t i = s->i;
    return (atf_line){s->ticks[i], i + 1 < s->n ? s->ticks[i + 1] - s->ticks[i] : UINT64_MAX >> 1, s->ns[i], s->slope[i]};
}

static inline uint64_t atf_to_ns(atf_timescale *s, uint64_t t)
{
    while (s->i + 1 < s->n && t >= s->ticks[s->i + 1]) s->i++;
    while (s->i > 0 && t < s->ticks[s->i]) s->i--;
    uint64_t from = s->ticks[s->i];
    if (ATF_LIKELY(t >= from)) return s->ns[s->i] + (uint64_t)(((unsigned __int128)(t - from) * s->slope[s->i]) >> 32);
    return s->ns[s->i] - (uint64_t)(((unsigned __int128)(from - t) * s->slope[s->i]) >> 32);
}

/* Appends an anchor; the release of the count pairs with the load above. */
static inline void atf_anchor_put(atf_control *c, atf_anchor a)
{
    uint64_t n = c->anchor_count;
    atf_anchor *to = &c->anchors[n % ATF_ANCHORS];
    atf_store_relaxed64(&to->ticks, a.ticks);
    atf_store_relaxed64(&to->boottime_ns, a.boottime_ns);
    atf_store_relaxed64(&to->unix_ns, a.unix_ns);
    atf_store_release64(&c->anchor_count, n + 1);
}
#endif
