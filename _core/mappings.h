/* The mapped files of this process, as a signal handler can read them: a list of blocks of slots that only ever grows.
 *
 * Slots are taken and given back under the GIL (filemap). The handler of busguard reads them in whatever thread has touched a page that
 * is gone; that thread uses the mapping, so its slot is neither given back nor changed meanwhile.
 */
#ifndef ATF_MAPPINGS_H
#define ATF_MAPPINGS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define ATF_SLOTS_PER_BLOCK 256

typedef struct atf_mapping {
    _Atomic uintptr_t start;      /* 0: the slot is free */
    uintptr_t end;                /* written before start is released */
    _Atomic uint32_t damaged;     /* set by the handler: pages from some address on read as zeros */
    struct atf_mapping *next_free;
} atf_mapping;

typedef struct atf_mapping_block {
    struct atf_mapping_block *_Atomic next;
    atf_mapping slots[ATF_SLOTS_PER_BLOCK];
} atf_mapping_block;

typedef struct atf_mappings {
    atf_mapping_block *_Atomic first;
    atf_mapping *free;
} atf_mappings;

/* NULL: no memory; the mapping is then as if there were no guard. */
static inline atf_mapping *atf_mapping_take(atf_mappings *all, void *start, size_t size) {
    if (all->free == NULL) {
        atf_mapping_block *block = calloc(1, sizeof(*block));
        if (block == NULL)
            return NULL;
        for (int i = 0; i < ATF_SLOTS_PER_BLOCK; i++) {
            block->slots[i].next_free = all->free;
            all->free = &block->slots[i];
        }
        atomic_store_explicit(&block->next, atomic_load_explicit(&all->first, memory_order_relaxed), memory_order_relaxed);
        atomic_store_explicit(&all->first, block, memory_order_release); /* meets the acquire in atf_mapping_find */
    }
    atf_mapping *slot = all->free;
    all->free = slot->next_free;
    slot->end = (uintptr_t)start + size;
    atomic_store_explicit(&slot->damaged, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->start, (uintptr_t)start, memory_order_release); /* meets the acquire in atf_mapping_find */
    return slot;
}

static inline void atf_mapping_give_back(atf_mappings *all, atf_mapping *slot) {
    atomic_store_explicit(&slot->start, 0, memory_order_relaxed);
    slot->next_free = all->free;
    all->free = slot;
}

/* The mapping that an address lies in, or NULL. Async-signal-safe. */
static inline atf_mapping *atf_mapping_find(atf_mappings *all, uintptr_t address) {
    atf_mapping_block *block = atomic_load_explicit(&all->first, memory_order_acquire); /* meets the release in take */
    for (; block != NULL; block = atomic_load_explicit(&block->next, memory_order_relaxed))
        for (int i = 0; i < ATF_SLOTS_PER_BLOCK; i++) {
            uintptr_t start = atomic_load_explicit(&block->slots[i].start, memory_order_acquire); /* meets the release in take */
            if (start != 0 && address >= start && address < block->slots[i].end)
                return &block->slots[i];
        }
    return NULL;
}

#endif
