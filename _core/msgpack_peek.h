/* Finds one value in a msgpack document without building anything. Documents come from other processes: every read is checked
 * against the end. Never includes Python.h. */
#ifndef ATF_MSGPACK_PEEK_H
#define ATF_MSGPACK_PEEK_H
#include <stdint.h>
#include <string.h>

static inline uint64_t atf_peek_big(const uint8_t *p, uint32_t n)
{
    uint64_t v = 0;
    for (uint32_t i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

/* What stands at p: how many bytes its head has, how many follow it as its own, how many values follow those. 0: broken. */
static inline int atf_peek_head(const uint8_t *p, const uint8_t *end, uint32_t *head, uint64_t *own, uint64_t *items)
{
    /* length of the length, or of the value itself, for 0xC0 .. 0xDF */
    static const uint8_t widths[32] = {0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17, 1, 2, 4, 2, 4, 2, 4};
    if (p >= end) return 0;
    uint8_t b = *p;
    *head = 1, *own = *items = 0;
    if (b < 0x80 || b >= 0xE0) return 1;
    if (b < 0x90) *items = 2u * (b & 15u);
    else if (b < 0xA0) *items = b & 15u;
    else if (b < 0xC0) *own = b & 31u;
    else {
        uint32_t n = widths[b - 0xC0];
        if ((uint64_t)(end - p) < 1 + n) return 0;
        uint64_t v = n <= 8 ? atf_peek_big(p + 1, n) : 0;
        if ((b >= 0xC4 && b <= 0xC6) || (b >= 0xD9 && b <= 0xDB)) *head = 1 + n, *own = v;
        else if (b >= 0xC7 && b <= 0xC9) *head = 1 + n, *own = v + 1;
        else if (b == 0xDC || b == 0xDD) *head = 1 + n, *items = v;
        else if (b >= 0xDE) *head = 1 + n, *items = 2 * v;
        else *own = n;
    }
    return (uint64_t)(end - p) >= *head + *own;
}

/* Behind the value at p; NULL: broken. */
static inline const uint8_t *atf_peek_skip(const uint8_t *p, const uint8_t *end)
{
    uint64_t left = 1;
    while (left) {
        uint32_t head;
        uint64_t own, items;
        if (!atf_peek_head(p, end, &head, &own, &items)) return NULL;
        p += head + own;
        left += items - 1;
        if (left > (uint64_t)(end - p) + 1) return NULL; /* each value has a byte at least */
    }
    return p;
}

/* The text at p, not terminated; NULL: it is none. */
static inline const char *atf_peek_text(const uint8_t *p, const uint8_t *end, uint64_t *bytes)
{
    uint32_t head;
    uint64_t items;
    if (!p || !atf_peek_head(p, end, &head, bytes, &items)) return NULL;
    return (*p & 0xE0) == 0xA0 || (*p >= 0xD9 && *p <= 0xDB) ? (const char *)p + head : NULL;
}

/* The value of `key` in the map at p; NULL: it is not there, or this is no map. */
static inline const uint8_t *atf_peek_key(const uint8_t *p, const uint8_t *end, const char *key)
{
    uint32_t head;
    uint64_t own, items, bytes = 0;
    if (!p || !atf_peek_head(p, end, &head, &own, &items)) return NULL;
    if ((*p & 0xF0) != 0x80 && *p != 0xDE && *p != 0xDF) return NULL;
    p += head;
    for (; items; items -= 2) {
        const char *text = atf_peek_text(p, end, &bytes);
        const uint8_t *value = atf_peek_skip(p, end);
        if (!value) return NULL;
        if (text && bytes == strlen(key) && memcmp(text, key, bytes) == 0) return value < end ? value : NULL;
        p = atf_peek_skip(value, end);
        if (!p) return NULL;
    }
    return NULL;
}
#endif
