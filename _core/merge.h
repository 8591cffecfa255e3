/* Merges the events of many threads by time. Never includes Python.h.
 *
 * Order: timestamp, then stream, then position; the events of one stream keep their order whatever their
 * timestamps are. A filter is applied before the merge, so that events nobody asked for cost no comparison. */
#ifndef ATF_MERGE_H
#define ATF_MERGE_H
#include "format.h"
#include "idmap.h"
#include <string.h>

typedef struct atf_filter {
    uint32_t any;                  /* 1: every event passes */
    uint32_t kinds;                /* bit k: kind k passes; bit 0: kinds of 32 and more */
    uint32_t min_depth, max_depth; /* inclusive */
} atf_filter;

typedef struct atf_stream {
    const atf_event *base, *cursor, *end;
    const atf_idmap *functions; /* NULL: every function passes */
} atf_stream;

typedef struct atf_loser {
    uint64_t key;    /* timestamp of the stream's next event */
    uint32_t stream; /* ATF_EXHAUSTED: it has none */
} atf_loser;
#define ATF_EXHAUSTED 0xFFFFFFFFu

typedef struct atf_merge {
    atf_filter filter;
    atf_stream *streams;
    atf_loser *tree; /* [1, leaves): losers of the matches; [0]: the winner */
    uint32_t count, leaves;
} atf_merge;

static inline int atf_passes(const atf_filter *f, const atf_stream *s, const atf_event *e)
{
    return (f->kinds >> (e->event_kind < 32 ? e->event_kind : 0) & 1) && e->call_depth >= f->min_depth && e->call_depth <= f->max_depth &&
           (!s->functions || atf_idmap_get(s->functions, e->function_id) != ATF_IDMAP_NONE);
}

static inline const atf_event *atf_next_passing(const atf_filter *f, const atf_stream *s, const atf_event *e)
{
    if (!f->any)
        while (e < s->end && !atf_passes(f, s, e)) e++;
    return e;
}

static inline atf_loser atf_head_of(const atf_merge *m, uint32_t stream)
{
    const atf_stream *s = &m->streams[stream];
    return s->cursor < s->end ? (atf_loser){s->cursor->timestamp_ns, stream} : (atf_loser){UINT64_MAX, ATF_EXHAUSTED};
}

static inline int atf_before(uint64_t key, uint32_t stream, const atf_loser *other)
{
    return (key < other->key) | ((key == other->key) & (stream < other->stream));
}

/* Plays the matches on the way from a stream's leaf to the top; the winner ends in tree[0]. No branch on the outcome. */
static inline void atf_replay(atf_merge *m, uint32_t leaf, atf_loser one)
{
    for (uint32_t i = (leaf + m->leaves) >> 1; i; i >>= 1) {
        atf_loser other = m->tree[i];
        int loses = !atf_before(one.key, one.stream, &other);
        m->tree[i].key = loses ? one.key : other.key;
        m->tree[i].stream = loses ? one.stream : other.stream;
        one.key = loses ? other.key : one.key;
        one.stream = loses ? other.stream : one.stream;
    }
    m->tree[0] = one;
}

/* Plays all matches once, bottom up. tree has 3 * leaves entries; those from `leaves` on are scratch. */
static inline void atf_merge_start(atf_merge *m)
{
    atf_loser *winners = m->tree + m->leaves;
    for (uint32_t s = 0; s < m->leaves; s++)
        winners[m->leaves + s] = s < m->count ? atf_head_of(m, s) : (atf_loser){UINT64_MAX, ATF_EXHAUSTED};
    for (uint32_t i = m->leaves - 1; i; i--) {
        atf_loser a = winners[2 * i], b = winners[2 * i + 1];
        int left = atf_before(a.key, a.stream, &b);
        winners[i] = left ? a : b;
        m->tree[i] = left ? b : a;
    }
    m->tree[0] = m->leaves > 1 ? winners[1] : winners[m->leaves];
}

/* Writes up to `room` events in order as (stream, position); returns how many. */
static inline uint64_t atf_merge_take(atf_merge *m, uint32_t *streams, uint32_t *positions, uint64_t room)
{
    uint64_t n = 0;
    uint32_t last = ATF_EXHAUSTED;
    while (n < room) {
        uint32_t w = m->tree[0].stream;
        if (w == ATF_EXHAUSTED) break;
        atf_stream *s = &m->streams[w];
        const atf_event *e = s->cursor;
        streams[n] = w;
        positions[n++] = (uint32_t)(e - s->base);
        e = atf_next_passing(&m->filter, s, e + 1);
        if (w == last) {
            /* Second win in a row: a run. Its end is where the best of the others comes first. */
            atf_loser other = {UINT64_MAX, ATF_EXHAUSTED};
            for (uint32_t i = (w + m->leaves) >> 1; i; i >>= 1)
                if (atf_before(m->tree[i].key, m->tree[i].stream, &other)) other = m->tree[i];
            while (n < room && e < s->end && atf_before(e->timestamp_ns, w, &other)) {
                streams[n] = w;
                positions[n++] = (uint32_t)(e - s->base);
                e = atf_next_passing(&m->filter, s, e + 1);
            }
        }
        last = w;
        s->cursor = e;
        atf_replay(m, w, e < s->end ? (atf_loser){e->timestamp_ns, w} : (atf_loser){UINT64_MAX, ATF_EXHAUSTED});
    }
    return n;
}

/* ---------------------------------------------------------------- windows
 * A tree of losers waits for one comparison after the other, 16 ns an event with 16 threads that take turns at random; a stable
 * radix sort of a window that stays in the L2 cache needs none, and takes half of that. What no window can be made of (a
 * long run of equal times, a window of more than 17 s, timestamps that go backwards) goes through the tree. */
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
