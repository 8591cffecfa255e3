/* A map from function ids to small numbers: open addressing, grows by doubling. Never includes Python.h. */
#ifndef ATF_IDMAP_H
#define ATF_IDMAP_H
#include <stdint.h>
#include <stdlib.h>

#define ATF_IDMAP_NONE 0xFFFFFFFFu

typedef struct atf_idmap_entry {
    uint64_t id;
    uint32_t value;
    uint32_t used;
} atf_idmap_entry;

typedef struct atf_idmap {
    atf_idmap_entry *entries;
    uint32_t bits; /* capacity is 1 << bits */
    uint32_t count;
} atf_idmap;

static inline int atf_idmap_init(atf_idmap *m)
{
    m->bits = 6;
    m->count = 0;
    m->entries = (atf_idmap_entry *)calloc((size_t)1 << m->bits, sizeof(atf_idmap_entry));
    return m->entries != NULL;
}

static inline void atf_idmap_free(atf_idmap *m)
{
    free(m->entries);
    m->entries = NULL;
}

/* The entry of `id`, or the free one where it belongs. At most half of the entries are used, so the search ends. */
static inline atf_idmap_entry *atf_idmap_entry_of(const atf_idmap *m, uint64_t id)
{
    uint64_t mask = ((uint64_t)1 << m->bits) - 1, i = (id * 0x9E3779B97F4A7C15u) >> (64 - m->bits);
    while (m->entries[i].used && m->entries[i].id != id) i = (i + 1) & mask;
    return &m->entries[i];
}

static inline uint32_t atf_idmap_get(const atf_idmap *m, uint64_t id)
{
    const atf_idmap_entry *e = atf_idmap_entry_of(m, id);
    return e->used ? e->value : ATF_IDMAP_NONE;
}

/* Puts an id that is not in the map. 0: no memory; the map is as before. */
static inline int atf_idmap_put(atf_idmap *m, uint64_t id, uint32_t value)
{
    if (2 * (uint64_t)(m->count + 1) > (uint64_t)1 << m->bits) {
        atf_idmap larger = {(atf_idmap_entry *)calloc((size_t)2 << m->bits, sizeof(atf_idmap_entry)), m->bits + 1, m->count};
        if (!larger.entries) return 0;
        for (uint64_t i = 0; i < (uint64_t)1 << m->bits; i++)
            if (m->entries[i].used) *atf_idmap_entry_of(&larger, m->entries[i].id) = m->entries[i];
        free(m->entries);
        *m = larger;
    }
    *atf_idmap_entry_of(m, id) = (atf_idmap_entry){id, value, 1};
    m->count++;
    return 1;
}
#endif
