/* Merges the events of many threads by time with a tree of losers. Never includes Python.h.
 *
 * Order: timestamp, then stream, then position; the events of one stream keep their order whatever their
 * timestamps are. A filter is applied before the merge, so that events nobody asked for cost no comparison. */
#ifndef ATF_MERGE_H
#define ATF_MERGE_H
#include "format.h"
#include "idmap.h"

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
#endif
