/* Reads the two files of one recorded thread and compares them with what the thread says it produced.
 *
 * Record number k of thread life `id` has function_id = id << 32 | k, so every record tells which it is.
 * Every failure names its FORBIDDEN outcome. */
#ifndef ATF_TEST_CHECK_H
#define ATF_TEST_CHECK_H
#include "format.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct life {
    uint32_t id, number, tid;
    uint32_t slotless;        /* at its end */
    uint64_t produced, details; /* details: accepted by atf_detail */
    uint8_t *said;              /* a harness's own, a byte a record */
} life;

/* The harness's: whether record k of a life has the right kind and depth. */
static int as_produced(const life *l, uint64_t k, const atf_event *e);

typedef struct checked {
    uint64_t written, lost, unmarked, linked, checksum;
} checked;

static int failures;
#define FORBIDDEN(...)                                    \
    do {                                                  \
        if (++failures <= 20) {                           \
            fprintf(stderr, "FORBIDDEN: " __VA_ARGS__);   \
            fputc('\n', stderr);                          \
        }                                                 \
    } while (0)

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15u;
    return (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9u;
}

/* The detail of record k: its length and bytes follow from its number. */
static inline uint32_t detail_of(uint64_t function_id, uint8_t *bytes)
{
    uint64_t h = mix(function_id);
    uint32_t n = (uint32_t)(h % 96) + ((h >> 20) % 64 == 0 ? 4000 : 0);
    for (uint32_t i = 0; i < n; i++) bytes[i] = (uint8_t)(h >> (i % 56)) ^ (uint8_t)i;
    return n;
}
static inline int has_detail(uint64_t function_id, uint32_t every) { return every && mix(function_id + 1) % every == 0; }

static inline uint8_t *slurp(const char *dir, uint32_t number, const char *name, size_t *bytes)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/thread_%u/%s", dir, number, name);
    *bytes = 0;
    int fd = open(path, O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) return NULL;
    uint8_t *p = malloc((size_t)st.st_size + 1);
    for (ssize_t k; *bytes < (size_t)st.st_size && (k = read(fd, p + *bytes, (size_t)st.st_size - *bytes)) > 0;) *bytes += (size_t)k;
    close(fd);
    return p;
}

static inline checked check_life(const char *dir, const life *l, uint32_t every)
{
    checked c = {0, 0, 0, 0, 0};
    size_t index_bytes, detail_bytes;
    uint8_t *index = slurp(dir, l->number, "index.atf", &index_bytes), *detail = slurp(dir, l->number, "detail.atf", &detail_bytes);
    uint64_t next = 0, last_ns = 0, n = 0, at = 64, details = 0;
    if (index) {
        atf_index_header h;
        memcpy(&h, index, sizeof h);
        n = (h.footer_offset - 64) / 32;
        if (index_bytes != h.footer_offset + 64 || memcmp(index + h.footer_offset, "2ITA", 4) != 0) {
            FORBIDDEN("thread %u: a file without its footer", l->number);
            n = 0;
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        atf_event e;
        memcpy(&e, index + 64 + i * 32, sizeof e);
        if (e.timestamp_ns < last_ns) FORBIDDEN("thread %u: time goes backwards at %lu", l->number, i);
        last_ns = e.timestamp_ns;
        if (e.event_kind == ATF_GAP) {
            for (uint64_t k = next; k < next + e.function_id; k++) c.checksum += mix((uint64_t)l->id << 32 | k);
            next += e.function_id;
            c.lost += e.function_id;
            if (e.detail_seq != ATF_NO_DETAIL) FORBIDDEN("thread %u: a GAP with a detail", l->number);
            continue;
        }
        uint64_t k = e.function_id & 0xFFFFFFFFu;
        if (e.function_id >> 32 != l->id || e.thread_id != l->tid || k >= l->produced || !as_produced(l, k, &e))
            FORBIDDEN("thread %u: an invented record at %lu: function %lx depth %u tid %u", l->number, i, e.function_id, e.call_depth, e.thread_id);
        else if (k < next) FORBIDDEN("thread %u: record %lu twice or out of order, at %lu", l->number, k, i);
        else if (k > next) FORBIDDEN("thread %u: records %lu to %lu vanished without a GAP", l->number, next, k);
        next = k + 1;
        c.written++;
        c.checksum += mix(e.function_id);
        if (e.detail_seq == ATF_NO_DETAIL) continue;
        atf_detail_record r;
        uint8_t wanted[4096 + 96];
        uint32_t bytes = detail_of(e.function_id, wanted);
        if (!detail || at + sizeof r > detail_bytes) {
            FORBIDDEN("thread %u: event %lu links to detail %u, which is not in the file", l->number, i, e.detail_seq);
            continue;
        }
        memcpy(&r, detail + at, sizeof r);
        if (e.detail_seq != details || r.index_seq != i || !has_detail(e.function_id, every))
            FORBIDDEN("thread %u: a link that holds one way only: event %lu -> detail %u, detail %lu -> event %u", l->number, i, e.detail_seq, details, r.index_seq);
        else if (r.total_length != sizeof r + bytes || r.timestamp != e.timestamp_ns || r.thread_id != l->tid || memcmp(detail + at + sizeof r, wanted, bytes) != 0)
            FORBIDDEN("thread %u: event %lu has the detail of another", l->number, i);
        at += r.total_length;
        details++;
        c.linked++;
    }
    if (detail && (at + 64 != detail_bytes || memcmp(detail + at, "2DTA", 4) != 0)) FORBIDDEN("thread %u: details that no event links to", l->number);
    if (next > l->produced) FORBIDDEN("thread %u: written %lu + lost %lu > produced %lu", l->number, c.written, c.lost, l->produced);
    for (uint64_t k = next; k < l->produced; k++) c.checksum += mix((uint64_t)l->id << 32 | k);
    c.unmarked = l->produced - next;
    if (c.unmarked && !l->slotless) FORBIDDEN("thread %u: written %lu + lost %lu != produced %lu", l->number, c.written, c.lost, l->produced);
    free(index);
    free(detail);
    return c;
}
#endif
