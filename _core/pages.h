/* Places in the time order of the events of many threads, found without merging. Never includes Python.h.
 *
 * The order is merge.h's: timestamp, then stream, then position. A cut is a place between two events in it, as one position
 * a stream: what stands before that position in its stream is before the cut. All of it supposes timestamps that do not
 * decrease within a stream. Where they do, cuts are still positions inside the bounds given, and every loop still ends. */
#ifndef ATF_PAGES_H
#define ATF_PAGES_H
#include "merge.h"

/* The first position in [low, high) at or after a time. */
static inline uint32_t atf_from(const atf_event *events, uint32_t low, uint32_t high, uint64_t time_ns)
{
    while (low < high) {
        uint32_t half = low + (high - low) / 2;
        if (events[half].timestamp_ns < time_ns) low = half + 1;
        else high = half;
    }
    return low;
}

/* The first position in [low, high) after a time. */
static inline uint32_t atf_after(const atf_event *events, uint32_t low, uint32_t high, uint64_t time_ns)
{
    return time_ns == UINT64_MAX ? high : atf_from(events, low, high, time_ns + 1);
}

static inline uint64_t atf_between(uint32_t count, const uint32_t *low, const uint32_t *high)
{
    uint64_t n = 0;
    for (uint32_t s = 0; s < count; s++) n += high[s] - low[s];
    return n;
}

/* The cut with `rank` events between it and `low`; `high` when there are not so many. A binary search over time, whose bounds in
 * every stream close in with it: 64 rounds at most, and a stream takes part with what is left of it. scratch: 2 * count. */
static inline void atf_cut_at(
    const atf_event *const *streams, uint32_t count, const uint32_t *low, const uint32_t *high, uint64_t rank, uint32_t *cut, uint32_t *scratch)
{
    uint32_t *upper = scratch, *middle = scratch + count;
    uint64_t from = UINT64_MAX, to = 0, left = rank;
    if (rank >= atf_between(count, low, high)) {
        memcpy(cut, high, count * sizeof *cut);
        return;
    }
    memcpy(cut, low, count * sizeof *cut);
    memcpy(upper, high, count * sizeof *upper);
    for (uint32_t s = 0; s < count; s++) {
        if (low[s] == high[s]) continue;
        if (streams[s][low[s]].timestamp_ns < from) from = streams[s][low[s]].timestamp_ns;
        if (streams[s][high[s] - 1].timestamp_ns > to) to = streams[s][high[s] - 1].timestamp_ns;
    }
    /* The event of this rank has a time in [from, to]; before `cut` stand those before `from`, before `upper` those up to `to`. */
    while (from < to) {
        uint64_t time_ns = from + (to - from) / 2, before = 0;
        for (uint32_t s = 0; s < count; s++) {
            middle[s] = atf_after(streams[s], cut[s], upper[s], time_ns);
            before += middle[s] - low[s];
        }
        if (before > rank) {
            to = time_ns;
            memcpy(upper, middle, count * sizeof *upper);
        } else {
            from = time_ns + 1;
            memcpy(cut, middle, count * sizeof *cut);
        }
    }
    left -= atf_between(count, low, cut);
    /* Of the events of one time, those of the first streams. */
    for (uint32_t s = 0; s < count && left; s++) {
        uint32_t n = upper[s] - cut[s] < left ? upper[s] - cut[s] : (uint32_t)left;
        cut[s] += n;
        left -= n;
    }
}

/* The events between a stream's cursor and its end that pass: how many, and up to `room` of their positions. A single
 * function, the most frequent question, is compared, not looked up. */
static inline uint64_t atf_select_passing(const atf_filter *f, const atf_stream *s, uint32_t *positions, uint64_t room)
{
    uint64_t n = 0, id = 0;
    const atf_event *end = s->end;
    int single = s->functions && s->functions->count == 1;
    if (single)
        for (uint64_t i = 0; i < (uint64_t)1 << s->functions->bits; i++)
            if (s->functions->entries[i].used) id = s->functions->entries[i].id;
    if (!room && single) {
        for (const atf_event *e = s->cursor; e < end; e++) n += (uint64_t)(e->function_id == id) & f->kinds >> (e->event_kind < 32 ? e->event_kind : 0);
        return n;
    }
    if (!room && !s->functions) {
        for (const atf_event *e = s->cursor; e < end; e++) n += f->kinds >> (e->event_kind < 32 ? e->event_kind : 0) & 1;
        return n;
    }
    for (const atf_event *e = s->cursor; e < end; e++) {
        if ((single && e->function_id != id) || !atf_passes(f, s, e)) continue;
        if (n < room) positions[n] = (uint32_t)(e - s->base);
        n++;
    }
    return n;
}
#endif
