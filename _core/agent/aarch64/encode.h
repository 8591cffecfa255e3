/* Instructions of aarch64 that stubs and moved code are made of. Never includes Python.h. */
#ifndef ATF_AARCH64_ENCODE_H
#define ATF_AARCH64_ENCODE_H
#include <stdint.h>
#include <string.h>

#define A64_X16 16
#define A64_X30 30
#define A64_BR_X16 0xD61F0200u

/* A field of a word, with its sign. */
static inline int64_t atf_a64_signed(uint32_t word, int low, int bits) { return (int64_t)(int32_t)(word << (32 - low - bits)) >> (32 - bits); }

static inline uint32_t atf_a64_word(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}

/* Where words are written: `out` is where they will stand, too. */
typedef struct atf_a64_out {
    uint8_t *at;
    uint8_t *end;
    int full;
} atf_a64_out;

static inline void atf_a64_put(atf_a64_out *o, uint32_t word)
{
    if (o->end - o->at < 4) {
        o->full = 1;
        return;
    }
    memcpy(o->at, &word, 4);
    o->at += 4;
}

/* b to an address within 128 MiB; 0: it is further away. */
static inline int atf_a64_branch(uint32_t *word, const uint8_t *at, uint64_t target)
{
    int64_t distance = (int64_t)(target - (uint64_t)(uintptr_t)at);
    *word = 0x14000000u | ((uint32_t)(distance >> 2) & 0x3FFFFFFu);
    return distance >= -(1ll << 27) && distance < 1ll << 27 && !(distance & 3);
}

/* A register takes a constant of 64 bits, which stands behind a branch over it. */
static inline void atf_a64_load(atf_a64_out *o, uint32_t to, uint64_t value)
{
    atf_a64_put(o, 0x58000040u | to); /* ldr to, .+8 */
    atf_a64_put(o, 0x14000003u);      /* b .+12 */
    atf_a64_put(o, (uint32_t)value);
    atf_a64_put(o, (uint32_t)(value >> 32));
}

/* Goes on at an address, wherever it is; x16 may change. */
static inline void atf_a64_go(atf_a64_out *o, uint64_t target)
{
    uint32_t word;
    if (atf_a64_branch(&word, o->at, target)) {
        atf_a64_put(o, word);
        return;
    }
    atf_a64_put(o, 0x58000040u | A64_X16); /* ldr x16, .+8 */
    atf_a64_put(o, A64_BR_X16);
    atf_a64_put(o, (uint32_t)target);
    atf_a64_put(o, (uint32_t)(target >> 32));
}
#endif
