/* See history.h. */
#include "history.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int atf_store_open(atf_store *s, uint64_t bytes)
{
    memset(s, 0, sizeof *s);
    s->blocks = bytes / ATF_BLOCK_BYTES;
    if (!s->blocks) return EINVAL;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#endif
    void *at = mmap(NULL, s->blocks * ATF_BLOCK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED) return errno;
    s->memory = at;
    return 0;
}

void atf_store_close(atf_store *s)
{
    if (s->memory) munmap(s->memory, s->blocks * ATF_BLOCK_BYTES);
    memset(s, 0, sizeof *s);
}

static atf_block *take(atf_store *s)
{
    atf_block *b = s->free;
    if (b) s->free = b->next;
    else if (s->touched < s->blocks) b = (atf_block *)(s->memory + s->touched++ * ATF_BLOCK_BYTES);
    else return NULL;
    b->next = NULL;
    b->begin = b->used = 0;
    if (++s->used > s->most) s->most = s->used;
    return b;
}

static void give(atf_store *s, atf_block *b)
{
    b->next = s->free;
    s->free = b;
    s->used--;
}

static uint32_t size_of(const uint8_t *item)
{
    atf_event e;
    uint32_t length = 0;
    memcpy(&e, item, sizeof e);
    if (e.detail_seq != ATF_NO_DETAIL) memcpy(&length, item + sizeof e, sizeof length);
    return (uint32_t)sizeof e + (length + 7) / 8 * 8; /* events stay aligned */
}

int atf_history_put(atf_store *s, atf_history *h, const atf_event *e, const atf_detail_record *detail)
{
    uint32_t length = detail ? detail->total_length : 0, size = (uint32_t)sizeof *e + (length + 7) / 8 * 8;
    if (size > sizeof h->last->bytes) return 0;
    if (!h->last || sizeof h->last->bytes - h->last->used < size) {
        atf_block *b = take(s);
        if (!b) return 0;
        if (h->last) h->last->next = b;
        else h->first = b;
        h->last = b;
    }
    uint8_t *at = h->last->bytes + h->last->used;
    memcpy(at, e, sizeof *e);
    if (detail) memcpy(at + sizeof *e, detail, length);
    h->last->used += size;
    h->bytes += size;
    h->items++;
    return 1;
}

const atf_event *atf_history_first(const atf_history *h, const atf_detail_record **detail)
{
    *detail = NULL;
    if (!h->items) return NULL;
    const uint8_t *item = h->first->bytes + h->first->begin;
    const atf_event *e = (const atf_event *)item;
    if (e->detail_seq != ATF_NO_DETAIL) *detail = (const atf_detail_record *)(item + sizeof *e);
    return e;
}

void atf_history_pop(atf_store *s, atf_history *h)
{
    atf_block *b = h->first;
    uint32_t size = size_of(b->bytes + b->begin);
    b->begin += size;
    h->bytes -= size;
    h->items--;
    if (b->begin < b->used) return;
    h->first = b->next;
    if (!h->first) h->last = NULL;
    give(s, b);
}

void atf_history_clear(atf_store *s, atf_history *h)
{
    while (h->first) {
        atf_block *b = h->first;
        h->first = b->next;
        give(s, b);
    }
    memset(h, 0, sizeof *h);
}

uint64_t atf_history_cut(atf_store *s, atf_history *h, uint64_t index_seq)
{
    uint64_t kept = 0, kept_bytes = 0, before = h->items;
    for (atf_block *b = h->first; b; b = b->next)
        for (uint32_t at = b->begin; at < b->used; at += size_of(b->bytes + at)) {
            const atf_event *e = (const atf_event *)(b->bytes + at);
            const atf_detail_record *d = e->detail_seq != ATF_NO_DETAIL ? (const atf_detail_record *)(e + 1) : NULL;
            if (!d || d->index_seq < index_seq) {
                kept++;
                kept_bytes += size_of(b->bytes + at);
                continue;
            }
            b->used = at;
            while (b->next) {
                atf_block *gone = b->next;
                b->next = gone->next;
                give(s, gone);
            }
            h->last = b;
            h->items = kept;
            h->bytes = kept_bytes;
            if (!kept) atf_history_clear(s, h);
            return before - kept;
        }
    return 0;
}
