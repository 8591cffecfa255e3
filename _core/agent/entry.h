/* Where in a function its hook stands: behind what a compiler put there for tracers, or in its place. Never includes Python.h. */
#ifndef ATF_ENTRY_H
#define ATF_ENTRY_H
#include "relocate.h"

typedef struct atf_entry {
    uint32_t offset; /* of the hook, from the function's start */
    uint32_t way;    /* atf_fn_way */
    uint32_t nops;   /* bytes of them at `offset`, when the way is NOPS */
    uint32_t framed; /* 1: there the return address stands at 8(%rbp), not at (%rsp) */
} atf_entry;

/* Looks at a function of `size` bytes, of which `room` are readable; `profiled`: it calls mcount or __fentry__. 0 or an atf_fn_reason. */
int atf_entry_find(const uint8_t *code, uint32_t size, uint32_t room, int profiled, atf_entry *e);

/* In the place of atf_relocate where nops stand: nothing is moved, `out` goes on behind them. */
int atf_entry_nops(const uint8_t *code, uint32_t nops, uint8_t *out, atf_moved *moved);
#endif
