/* What was captured and is not (yet) kept: for each thread a queue of events with their details, in order. All threads share one
 * store of blocks, which is never larger than asked; the longest queue gives when it is used up. Never includes Python.h. */
#ifndef ATF_HISTORY_H
#define ATF_HISTORY_H
#include "format.h"

#define ATF_BLOCK_BYTES 65536u

typedef struct atf_block {
    struct atf_block *next;
    uint32_t begin, used; /* bytes behind this head that are in the queue */
    uint8_t bytes[ATF_BLOCK_BYTES - 16];
} atf_block;
_Static_assert(sizeof(atf_block) == ATF_BLOCK_BYTES, "a block of history");

/* Items: an event, then its detail when detail_seq is not ATF_NO_DETAIL. */
typedef struct atf_history {
    atf_block *first, *last;
    uint64_t bytes, items;
} atf_history;

typedef struct atf_store {
    char *memory; /* reserved, touched when needed */
    uint64_t blocks, touched;
    atf_block *free;
    uint64_t used, most; /* blocks in queues now, and at most so far */
} atf_store;

int atf_store_open(atf_store *s, uint64_t bytes); /* 0 or an errno */
void atf_store_close(atf_store *s);

/* 0: the store is used up, or the item is larger than a block. `detail` NULL: none. */
int atf_history_put(atf_store *s, atf_history *h, const atf_event *e, const atf_detail_record *detail);
/* The oldest item; NULL: none. *detail: its detail or NULL. Both point into the queue. */
const atf_event *atf_history_first(const atf_history *h, const atf_detail_record **detail);
void atf_history_pop(atf_store *s, atf_history *h);
void atf_history_clear(atf_store *s, atf_history *h);
/* Forgets the youngest items whose detail belongs to event `index_seq` or a later one. Returns how many. */
uint64_t atf_history_cut(atf_store *s, atf_history *h, uint64_t index_seq);
#endif
