/* Numbers the call paths of spans: a path is the path of the caller and one label more. Never includes Python.h. */
#ifndef ATF_PATHS_H
#define ATF_PATHS_H
#include <stdint.h>
#include <stdlib.h>

#define ATF_PATHS_NONE 0xFFFFFFFFu

/* Path 0 is the empty one, its own parent. A path's number is larger than its parent's. */
typedef struct atf_paths {
    uint32_t *parent, *label; /* one entry a path */
    uint32_t *slots;          /* open addressing: number of a path, 0: free (path 0 is in no slot) */
    uint32_t count, room, bits;
} atf_paths;

static inline int atf_paths_init(atf_paths *p)
{
    p->count = 1;
    p->room = 64;
    p->bits = 7;
    p->parent = (uint32_t *)calloc(p->room, sizeof(uint32_t));
    p->label = (uint32_t *)calloc(p->room, sizeof(uint32_t));
    p->slots = (uint32_t *)calloc((size_t)1 << p->bits, sizeof(uint32_t));
    return p->parent && p->label && p->slots;
}

static inline void atf_paths_free(atf_paths *p)
{
    free(p->parent);
    free(p->label);
    free(p->slots);
    p->parent = p->label = p->slots = NULL;
}

/* The slot of a path, or the free one where it belongs. At most half of the slots are used, so the search ends. */
static inline uint32_t *atf_paths_slot(const atf_paths *p, uint32_t parent, uint32_t label)
{
    uint64_t mask = ((uint64_t)1 << p->bits) - 1;
    uint64_t i = (((uint64_t)parent << 32 | label) * 0x9E3779B97F4A7C15u) >> (64 - p->bits);
    while (p->slots[i] && (p->label[p->slots[i]] != label || p->parent[p->slots[i]] != parent)) i = (i + 1) & mask;
    return &p->slots[i];
}

static inline int atf_paths_grow(atf_paths *p)
{
    uint32_t room = p->room * 2, *more;
    if (room < p->room) return 0;
    if (!(more = (uint32_t *)realloc(p->parent, (size_t)room * sizeof *more))) return 0;
    p->parent = more;
    if (!(more = (uint32_t *)realloc(p->label, (size_t)room * sizeof *more))) return 0;
    p->label = more;
    if (!(more = (uint32_t *)calloc((size_t)2 << p->bits, sizeof *more))) return 0;
    free(p->slots);
    p->slots = more;
    p->room = room;
    p->bits++;
    for (uint32_t n = 1; n < p->count; n++) *atf_paths_slot(p, p->parent[n], p->label[n]) = n;
    return 1;
}

/* The number of the path that goes on from `parent` with `label`, a new one when it is not known yet. ATF_PATHS_NONE: no memory. */
static inline uint32_t atf_paths_number(atf_paths *p, uint32_t parent, uint32_t label)
{
    uint32_t *slot = atf_paths_slot(p, parent, label);
    if (*slot) return *slot;
    if (p->count == p->room) {
        if (!atf_paths_grow(p)) return ATF_PATHS_NONE;
        slot = atf_paths_slot(p, parent, label);
    }
    p->parent[p->count] = parent;
    p->label[p->count] = label;
    *slot = p->count;
    return p->count++;
}

/* The paths of rows first up to first + count into path[first...]; parent and key are of these rows, parent counts from the
 * first row of all. Rows before them have their path already; a row without a caller among the rows (parent -1) goes on
 * from `root`. 1: done; 0: no memory; -1: a row names a caller that does not stand before it or has no path, or a key
 * without a label. */
static inline int atf_paths_add(atf_paths *p, const int64_t *parent, const uint32_t *key, uint64_t count, const uint32_t *label,
                                uint64_t labels, uint32_t root, uint32_t *path, uint64_t first)
{
    for (uint64_t i = 0; i < count; i++) {
        if (parent[i] < -1 || parent[i] >= (int64_t)(first + i) || key[i] >= labels) return -1;
        uint32_t above = parent[i] < 0 ? root : path[parent[i]];
        if (above >= p->count) return -1;
        uint32_t number = atf_paths_number(p, above, label[key[i]]);
        if (number == ATF_PATHS_NONE) return 0;
        path[first + i] = number;
    }
    return 1;
}
#endif
