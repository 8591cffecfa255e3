/* Merges many threads by sorting one short window of time after the other. Never includes Python.h.
 *
 * A tree of losers waits for one comparison after the other, 16 ns an event here with 16 threads that take turns at random; a stable
 * radix sort of a window that stays in the L2 cache needs none, and takes half of that. What no window can be made of (a
 * long run of equal times, a window of more than 17 s, timestamps that go backwards) goes through the tree. */
#ifndef ATF_BATCH_H
#define ATF_BATCH_H
#include "merge.h"
#include <string.h>

#define ATF_OFFSET_BITS 14
#define ATF_STREAM_BITS 16
#define ATF_DELTA_BITS (64 - ATF_STREAM_BITS - ATF_OFFSET_BITS)
#define ATF_BATCH_EVENTS (1u << ATF_OFFSET_BITS)
#define ATF_BATCH_STREAMS (ATF_BATCH_EVENTS / 4) /* more threads than this: the tree */
#define ATF_TREE_TURN 4096                       /* events through the tree before a window is tried again */
#define ATF_DIGIT_BITS 11
#define ATF_DIGITS (1u << ATF_DIGIT_BITS)
#define ATF_PASSES ((ATF_DELTA_BITS + ATF_DIGIT_BITS - 1) / ATF_DIGIT_BITS)

/* A word is delta | stream | offset: time since the window's first event, and where from the stream's `from`. */
typedef struct atf_batch {
    uint64_t words[2][ATF_BATCH_EVENTS];
    uint32_t digits[ATF_PASSES][ATF_DIGITS];
    const uint64_t *sorted;
    uint32_t pending, next; /* sorted[next, pending) is still to be given out */
    uint32_t size;          /* of the next window: the first are short, since many ask for few events */
    uint32_t *from;         /* per stream: position of offset 0 */
} atf_batch;

static inline void atf_sort_words(atf_batch *b, uint32_t n, uint64_t span)
{
    uint32_t passes = 0;
    while (passes < ATF_PASSES && span >> (passes * ATF_DIGIT_BITS)) passes++;
    memset(b->digits, 0, passes * sizeof b->digits[0]);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t p = 0; p < passes; p++) b->digits[p][b->words[0][i] >> (64 - ATF_DELTA_BITS + p * ATF_DIGIT_BITS) & (ATF_DIGITS - 1)]++;
    for (uint32_t p = 0; p < passes; p++) {
        uint32_t shift = 64 - ATF_DELTA_BITS + p * ATF_DIGIT_BITS, place = 0;
        const uint64_t *in = b->words[p & 1];
        uint64_t *out = b->words[~p & 1];
        for (uint32_t d = 0; d < ATF_DIGITS; d++) {
            uint32_t count = b->digits[p][d];
            b->digits[p][d] = place;
            place += count;
        }
        for (uint32_t i = 0; i < n; i++) out[b->digits[p][in[i] >> shift & (ATF_DIGITS - 1)]++] = in[i];
    }
    b->sorted = b->words[passes & 1];
}

/* Makes the next window. 0: it could not move any stream on. */
static inline int atf_batch_fill(atf_merge *m, atf_batch *b)
{
    uint64_t first = UINT64_MAX, until = UINT64_MAX;
    uint32_t live = 0, n = 0, givers = 0;
    for (uint32_t s = 0; s < m->count; s++) live += m->streams[s].cursor < m->streams[s].end;
    if (!live || m->count > ATF_BATCH_STREAMS) return 0;
    uint32_t quota = b->size / live > 4 ? b->size / live : 4;
    if (b->size < ATF_BATCH_EVENTS) b->size *= 4;
    for (uint32_t s = 0; s < m->count; s++) {
        const atf_stream *one = &m->streams[s];
        if (one->cursor == one->end) continue;
        if (one->cursor->timestamp_ns < first) first = one->cursor->timestamp_ns;
        /* Every stream can give all it has before this time within its quota. */
        if (one->end - one->cursor > quota && one->cursor[quota].timestamp_ns < until) until = one->cursor[quota].timestamp_ns;
    }
    if (until <= first) return 0;
    if (until - first > (uint64_t)1 << ATF_DELTA_BITS) until = first + ((uint64_t)1 << ATF_DELTA_BITS);
    int moved = 0;
    for (uint32_t s = 0; s < m->count; s++) {
        atf_stream *one = &m->streams[s];
        const atf_event *from = one->cursor, *e = from, *end = one->end - from > quota ? from + quota : one->end;
        uint64_t before = 0;
        uint32_t n_before = n;
        b->from[s] = (uint32_t)(from - one->base);
        for (; e < end && e->timestamp_ns < until && e->timestamp_ns >= before; e++) {
            before = e->timestamp_ns;
            if (!m->filter.any && !atf_passes(&m->filter, one, e)) continue;
            b->words[0][n++] = (before - first) << (64 - ATF_DELTA_BITS) | (uint64_t)s << ATF_OFFSET_BITS | (uint64_t)(e - from);
        }
        moved |= e > from;
        givers += n > n_before;
        one->cursor = e;
    }
    if (givers > 1) atf_sort_words(b, n, until - 1 - first);
    else b->sorted = b->words[0];
    b->next = 0;
    b->pending = n;
    return moved;
}

/* Writes up to `room` events in order as (stream, position); returns how many. */
static inline uint64_t atf_batch_take(atf_merge *m, atf_batch *b, uint32_t *streams, uint32_t *positions, uint64_t room)
{
    uint64_t n = 0;
    while (n < room) {
        uint64_t ready = b->pending - b->next;
        if (ready > room - n) ready = room - n;
        for (uint64_t i = 0; i < ready; i++) {
            uint64_t word = b->sorted[b->next + i];
            uint32_t s = word >> ATF_OFFSET_BITS & ((1u << ATF_STREAM_BITS) - 1);
            streams[n + i] = s;
            positions[n + i] = b->from[s] + (word & (ATF_BATCH_EVENTS - 1));
        }
        b->next += (uint32_t)ready;
        n += ready;
        if (n == room || atf_batch_fill(m, b)) continue;
        for (uint32_t s = 0; s < m->count; s++) m->streams[s].cursor = atf_next_passing(&m->filter, &m->streams[s], m->streams[s].cursor);
        atf_merge_start(m);
        uint64_t taken = atf_merge_take(m, streams + n, positions + n, room - n < ATF_TREE_TURN ? room - n : ATF_TREE_TURN);
        if (!taken) break;
        n += taken;
    }
    return n;
}
#endif
