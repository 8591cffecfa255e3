/* The span index of a thread, spans.atfi: its bytes (docs/format-index.md) and how a row is read. Never includes Python.h.
 *
 * The file is ours, but it may have been damaged or made up: what leads from one place to another (a row, an
 * event) is compared with its bound wherever it is used. Such a reader gives 0 and sets `damaged`. */
#ifndef ATF_INDEX_H
#define ATF_INDEX_H
#include "format.h"
#include "spans.h"

#define ATF_SPANS_VERSION 1u
#define ATF_PLACE_DEEP 8191u /* depth of the place column: so deep, or deeper */
#define ATF_CHILDREN_MANY 255u
#define ATF_SECTION_ALIGN 64u

enum atf_span_flags { ATF_SPANS_IN_ORDER = 1, ATF_SPANS_NESTED = 2 };

enum atf_section {
    ATF_S_CALL_SEQ, ATF_S_END_SEQ, ATF_S_PARENT, ATF_S_DURATION, ATF_S_SELF, ATF_S_PLACE, ATF_S_CHILDREN,
    ATF_S_BY_START, ATF_S_BY_DURATION, ATF_S_FUNCTIONS, ATF_S_SUSPENDED, ATF_S_LONG_SELVES, ATF_SECTIONS
};

/* What an index was made from. An index whose key is not the present one is made anew. */
typedef struct atf_source {
    uint64_t bytes, modified_ns; /* of index.atf */
    uint64_t event_count;        /* that its reader accepted */
    uint64_t checksum;           /* of a sample of the events: atf_sample */
    uint64_t trace_end_ns;       /* where open spans end */
    uint32_t crc32, reserved;    /* of the footer; 0: none */
} atf_source;

typedef struct atf_spans_header {
    char magic[4]; /* ATX2 */
    uint8_t endian, version;
    uint16_t flags;
    uint32_t rows, functions;
    uint32_t suspended, long_selves;
    uint32_t deepest, reserved; /* greatest depth; 0: no rows */
    atf_source source;
    uint64_t counts[5]; /* returns, yields, resumes without call; gaps; events lost */
    uint64_t checksums[ATF_SECTIONS];
    uint64_t unused[28];
    uint64_t checksum; /* of all before it */
} atf_spans_header;
_Static_assert(sizeof(atf_spans_header) == 448 && offsetof(atf_spans_header, checksum) == 440, "span index header");

/* Rows of one function. Times are active times. */
typedef struct atf_span_function {
    uint64_t function_id;
    uint32_t first, count; /* in by_start and by_duration */
    uint64_t total_ns;     /* without spans that have one of the same function above them */
    uint64_t active_ns, self_ns, min_ns, max_ns;
    uint32_t exceptions;
    uint32_t suspended;    /* rows whose active time is not their duration */
} atf_span_function;
_Static_assert(sizeof(atf_span_function) == 64, "one cache line");

typedef struct atf_spans {
    const uint32_t *call_seq, *end_seq, *parent, *duration, *self;
    const uint16_t *place; /* depth << 3 | status */
    const uint8_t *children;
    const uint32_t *by_start, *by_duration;
    const atf_span_function *functions;
    const atf_exact *suspended, *long_selves;
    uint32_t rows, function_count, suspended_count, long_self_count;
    uint32_t flags, deepest;
    const atf_event *events;
    uint64_t event_count, trace_end_ns;
    const uint32_t *deep; /* depth of every row; NULL unless some are deeper than a place can say */
    int damaged;          /* written by any reader, and only to 1 */
} atf_spans;

/* ---------------------------------------------------------------- bytes */
static inline uint64_t atf_section_bytes(const atf_spans_header *h, int section)
{
    switch (section) {
    case ATF_S_PLACE: return 2 * (uint64_t)h->rows;
    case ATF_S_CHILDREN: return h->rows;
    case ATF_S_FUNCTIONS: return h->functions * (uint64_t)sizeof(atf_span_function);
    case ATF_S_SUSPENDED: return h->suspended * (uint64_t)sizeof(atf_exact);
    case ATF_S_LONG_SELVES: return h->long_selves * (uint64_t)sizeof(atf_exact);
    default: return 4 * (uint64_t)h->rows;
    }
}

/* Where a section begins; ATF_SECTIONS: the size of the file. Sections follow each other, each on a multiple of 64. */
static inline uint64_t atf_section_offset(const atf_spans_header *h, int section)
{
    uint64_t at = sizeof(atf_spans_header);
    for (int i = 0; i < section; i++) at = (at + atf_section_bytes(h, i) + ATF_SECTION_ALIGN - 1) / ATF_SECTION_ALIGN * ATF_SECTION_ALIGN;
    return at;
}

static inline uint64_t atf_rotate(uint64_t x) { return x << 29 | x >> 35; }

/* A checksum for damage, not for malice: eight lanes of steps that can be undone, so that a change in any one word always
 * shows. `bytes` may be anything; a section is summed in pieces of whole multiples of 64, but the last. */
typedef struct atf_sum64 {
    uint64_t lanes[8], bytes;
} atf_sum64;

static inline atf_sum64 atf_sum_start(void)
{
    atf_sum64 s = {{1, 2, 3, 4, 5, 6, 7, 8}, 0};
    return s;
}

static inline void atf_sum_block(uint64_t *lanes, const uint64_t *words)
{
    for (int i = 0; i < 8; i++) lanes[i] = atf_rotate((lanes[i] ^ words[i]) * 0x9E3779B97F4A7C15u);
}

static inline void atf_sum_add(atf_sum64 *s, const void *data, uint64_t bytes)
{
    uint64_t lanes[8], words[8];
    memcpy(lanes, s->lanes, sizeof lanes);
    uint64_t whole = bytes / 64;
    for (uint64_t i = 0; i < whole; i++) {
        memcpy(words, (const char *)data + 64 * i, sizeof words);
        atf_sum_block(lanes, words);
    }
    if (bytes % 64) {
        memset(words, 0, sizeof words);
        memcpy(words, (const char *)data + 64 * whole, bytes % 64);
        atf_sum_block(lanes, words);
    }
    memcpy(s->lanes, lanes, sizeof lanes);
    s->bytes += bytes;
}

static inline uint64_t atf_sum_end(const atf_sum64 *s)
{
    uint64_t sum = s->bytes;
    for (int i = 0; i < 8; i++) sum = atf_rotate((sum ^ s->lanes[i]) * 0xD6E8FEB86659FD93u);
    return sum ^ sum >> 32;
}

static inline uint64_t atf_checksum(const void *data, uint64_t bytes)
{
    atf_sum64 s = atf_sum_start();
    atf_sum_add(&s, data, bytes);
    return atf_sum_end(&s);
}

#define ATF_SAMPLES 16
#define ATF_SAMPLE_EVENTS 128

/* Of up to 16 pieces of 4 KiB, the first and the last events among them. */
static inline uint64_t atf_sample(const atf_event *events, uint64_t count)
{
    atf_sum64 s = atf_sum_start();
    if (count <= ATF_SAMPLES * ATF_SAMPLE_EVENTS) {
        atf_sum_add(&s, events, count * sizeof(atf_event));
    } else {
        for (uint64_t i = 0; i < ATF_SAMPLES; i++)
            atf_sum_add(&s, events + (count - ATF_SAMPLE_EVENTS) * i / (ATF_SAMPLES - 1), ATF_SAMPLE_EVENTS * sizeof(atf_event));
    }
    return atf_sum_end(&s);
}

/* ---------------------------------------------------------------- rows */
static inline uint64_t atf_time_of(atf_spans *x, uint32_t seq)
{
    if (seq < x->event_count) return x->events[seq].timestamp_ns;
    x->damaged = 1;
    return 0;
}

static inline uint64_t atf_row_start(atf_spans *x, uint32_t row) { return atf_time_of(x, x->call_seq[row]); }

static inline uint64_t atf_row_function_id(atf_spans *x, uint32_t row)
{
    uint32_t seq = x->call_seq[row];
    if (seq < x->event_count) return x->events[seq].function_id;
    x->damaged = 1;
    return 0;
}

static inline uint64_t atf_row_duration(atf_spans *x, uint32_t row)
{
    uint32_t short_ns = x->duration[row], end = x->end_seq[row];
    if (short_ns != ATF_LONG) return short_ns;
    return atf_since(end == ATF_NO_SEQ ? x->trace_end_ns : atf_time_of(x, end), atf_row_start(x, row));
}

static inline const atf_exact *atf_exact_of(const atf_exact *items, uint32_t count, uint32_t row)
{
    uint32_t first = 0;
    while (count) {
        uint32_t half = count / 2;
        if (items[first + half].row < row) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return &items[first];
}

static inline uint64_t atf_row_active(atf_spans *x, uint32_t row)
{
    if (x->suspended_count) {
        const atf_exact *found = atf_exact_of(x->suspended, x->suspended_count, row);
        if (found < x->suspended + x->suspended_count && found->row == row) return found->ns;
    }
    return atf_row_duration(x, row);
}

static inline uint64_t atf_row_self(atf_spans *x, uint32_t row)
{
    if (x->self[row] != ATF_LONG) return x->self[row];
    const atf_exact *found = atf_exact_of(x->long_selves, x->long_self_count, row);
    if (found < x->long_selves + x->long_self_count && found->row == row) return found->ns;
    x->damaged = 1;
    return 0;
}

static inline uint32_t atf_row_depth(const atf_spans *x, uint32_t row)
{
    uint32_t depth = x->place[row] >> 3;
    return depth == ATF_PLACE_DEEP && x->deep ? x->deep[row] : depth;
}

static inline uint32_t atf_row_status(const atf_spans *x, uint32_t row) { return x->place[row] & 7; }

/* The caller's row, always smaller than `row`, or ATF_NO_ROW. */
static inline uint32_t atf_row_parent(atf_spans *x, uint32_t row)
{
    uint32_t parent = x->parent[row];
    if (parent == ATF_NO_ROW || parent < row) return parent;
    x->damaged = 1;
    return ATF_NO_ROW;
}

/* The first row at or after `from` that is called at index_seq `seq` or later. */
static inline uint32_t atf_row_from(const atf_spans *x, uint64_t seq)
{
    uint32_t first = 0, left = x->rows;
    while (left) {
        uint32_t half = left / 2;
        if (x->call_seq[first + half] < seq) {
            first += half + 1;
            left -= half + 1;
        } else {
            left = half;
        }
    }
    return first;
}

/* The first event at or after a time (`after`: strictly after). Only where timestamps are in order. */
static inline uint64_t atf_seq_from(const atf_spans *x, uint64_t time_ns, int after)
{
    uint64_t first = 0, left = x->event_count;
    while (left) {
        uint64_t half = left / 2, t = x->events[first + half].timestamp_ns;
        if (t < time_ns || (after && t == time_ns)) {
            first += half + 1;
            left -= half + 1;
        } else {
            left = half;
        }
    }
    return first;
}
#endif
