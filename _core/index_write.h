/* Writes what a builder has made as a span index, to a file or into memory. Never includes Python.h. */
#ifndef ATF_INDEX_WRITE_H
#define ATF_INDEX_WRITE_H
#include "index_build.h"
#include <errno.h>
#include <unistd.h>

#define ATF_PIECE_ROWS 16384u /* rows turned into columns at a time: what they take stays in the L2 cache */

/* memory NULL: the file `fd`. */
typedef struct atf_output {
    int fd, error; /* errno of the first write that failed */
    char *memory;
    atf_sum64 sums[ATF_SECTIONS];
} atf_output;

static inline void atf_put_at(atf_output *out, uint64_t at, const void *data, uint64_t bytes)
{
    if (out->memory) {
        memcpy(out->memory + at, data, bytes);
        return;
    }
    while (bytes && !out->error) {
        ssize_t n = pwrite(out->fd, data, bytes, (off_t)at);
        if (n > 0) {
            data = (const char *)data + n;
            at += (uint64_t)n;
            bytes -= (uint64_t)n;
        } else if (n == 0 || errno != EINTR) {
            out->error = n ? errno : EIO;
        }
    }
}

/* The next bytes of a section. All pieces but the last are whole multiples of 64 bytes. */
static inline void atf_put(atf_output *out, const uint64_t *offsets, int section, const void *data, uint64_t bytes)
{
    if (!bytes) return;
    atf_put_at(out, offsets[section] + out->sums[section].bytes, data, bytes);
    atf_sum_add(&out->sums[section], data, bytes);
}

static inline atf_spans_header atf_header_of(const atf_builder *b, const atf_source *source)
{
    atf_spans_header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, "ATX2", 4);
    h.endian = 1;
    h.version = ATF_SPANS_VERSION;
    h.flags = (b->m.backwards ? 0 : ATF_SPANS_IN_ORDER) | (b->m.suspensions || b->m.gaps ? 0 : ATF_SPANS_NESTED);
    h.rows = b->m.row_count;
    h.functions = b->m.function_count;
    h.suspended = b->m.suspended.count;
    h.long_selves = b->m.long_selves.count;
    h.deepest = b->deepest;
    h.source = *source;
    memcpy(h.counts, &b->m.counts, sizeof h.counts);
    return h;
}

/* Writes all of it: atf_section_offset(h, ATF_SECTIONS) bytes. Returns an errno; 0: done. ENOMEM when there is no memory. */
static inline int atf_index_write(const atf_builder *b, atf_spans_header h, int fd, char *memory)
{
    uint64_t offsets[ATF_SECTIONS + 1];
    atf_output out = {.fd = fd, .memory = memory};
    for (int i = 0; i <= ATF_SECTIONS; i++) offsets[i] = atf_section_offset(&h, i);
    for (int i = 0; i < ATF_SECTIONS; i++) out.sums[i] = atf_sum_start();
    struct piece {
        uint32_t call_seq[ATF_PIECE_ROWS], end_seq[ATF_PIECE_ROWS], parent[ATF_PIECE_ROWS], duration[ATF_PIECE_ROWS], self[ATF_PIECE_ROWS];
        uint16_t place[ATF_PIECE_ROWS];
        uint8_t children[ATF_PIECE_ROWS];
    } *piece = malloc(sizeof *piece);
    if (!piece) return ENOMEM;
    for (uint64_t first = 0; first < h.rows && !out.error; first += ATF_PIECE_ROWS) {
        const atf_row *rows = b->m.rows + first;
        uint32_t n = h.rows - first < ATF_PIECE_ROWS ? (uint32_t)(h.rows - first) : ATF_PIECE_ROWS;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t depth = rows[i].place >> 3;
            piece->call_seq[i] = rows[i].call_seq;
            piece->end_seq[i] = rows[i].end_seq;
            piece->parent[i] = rows[i].parent;
            piece->duration[i] = rows[i].duration;
            piece->self[i] = rows[i].self;
            piece->place[i] = (uint16_t)((depth < ATF_PLACE_DEEP ? depth : ATF_PLACE_DEEP) << 3 | (rows[i].place & 7));
            piece->children[i] = (uint8_t)(rows[i].children < ATF_CHILDREN_MANY ? rows[i].children : ATF_CHILDREN_MANY);
        }
        atf_put(&out, offsets, ATF_S_CALL_SEQ, piece->call_seq, 4 * n);
        atf_put(&out, offsets, ATF_S_END_SEQ, piece->end_seq, 4 * n);
        atf_put(&out, offsets, ATF_S_PARENT, piece->parent, 4 * n);
        atf_put(&out, offsets, ATF_S_DURATION, piece->duration, 4 * n);
        atf_put(&out, offsets, ATF_S_SELF, piece->self, 4 * n);
        atf_put(&out, offsets, ATF_S_PLACE, piece->place, 2 * n);
        atf_put(&out, offsets, ATF_S_CHILDREN, piece->children, n);
    }
    free(piece);
    atf_put(&out, offsets, ATF_S_BY_START, b->by_start, atf_section_bytes(&h, ATF_S_BY_START));
    atf_put(&out, offsets, ATF_S_BY_DURATION, b->by_duration, atf_section_bytes(&h, ATF_S_BY_DURATION));
    atf_put(&out, offsets, ATF_S_FUNCTIONS, b->functions, atf_section_bytes(&h, ATF_S_FUNCTIONS));
    atf_put(&out, offsets, ATF_S_SUSPENDED, b->m.suspended.items, atf_section_bytes(&h, ATF_S_SUSPENDED));
    atf_put(&out, offsets, ATF_S_LONG_SELVES, b->m.long_selves.items, atf_section_bytes(&h, ATF_S_LONG_SELVES));
    for (int i = 0; i < ATF_SECTIONS; i++) h.checksums[i] = atf_sum_end(&out.sums[i]);
    h.checksum = atf_checksum(&h, offsetof(atf_spans_header, checksum));
    atf_put_at(&out, 0, &h, sizeof h);
    return out.error;
}
#endif
