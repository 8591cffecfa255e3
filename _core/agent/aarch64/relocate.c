/* Moves the one instruction that a branch will cover to another place, where it does the same. What it computes from its own
 * address is computed before. x16 may change where the way on is further than a branch reaches: as in a linker's veneer. */
#include "../relocate.h"
#include "../plan.h"
#include "encode.h"

/* Instructions that only work together with the one behind them, or that nobody knows. */
static int bound(uint32_t w)
{
    if (w >> 16 == 0) return 1;                                        /* udf: no code */
    if ((w & 0xFF3FFC00) == 0x0420BC00 || (w & 0xFF38E000) == 0x04102000) return 1; /* movprfx */
    return (w & 0x3B200C00) == 0x19000400;                             /* the first of three that copy or fill memory */
}

/* A load from an address that counts from the instruction: by a register that takes the address, its own or, for vectors, x16. A hint
 * to the cache is left out. 0: unknown. */
static int load(atf_a64_out *o, uint32_t w, uint64_t from)
{
    static const uint32_t general[3] = {0xB9400000u, 0xF9400000u, 0xB9800000u}; /* ldr w, ldr x, ldrsw */
    static const uint32_t vector[3] = {0xBD400000u, 0xFD400000u, 0x3DC00000u};  /* ldr s, d, q */
    uint32_t size = w >> 30, to = w & 31, by_vector = w >> 26 & 1;
    if (size == 3) return !by_vector;
    if (!by_vector && to == 31) return 1;
    if (by_vector) {
        atf_a64_put(o, 0xF81F0FF0u); /* str x16, [sp, #-16]! */
        atf_a64_load(o, A64_X16, from);
        atf_a64_put(o, vector[size] | A64_X16 << 5 | to);
        atf_a64_put(o, 0xF84107F0u); /* ldr x16, [sp], #16 */
    } else {
        atf_a64_load(o, to, from);
        atf_a64_put(o, general[size] | to << 5 | to);
    }
    return 1;
}

int atf_relocate(const uint8_t *code, uint32_t size, uint32_t room, uint8_t *out, atf_moved *moved)
{
    atf_a64_out o = {out, out + ATF_MOVED_MAX, 0};
    uint64_t here = (uint64_t)(uintptr_t)code, next = here + 4, target = 0;
    memset(moved, 0, sizeof *moved);
    if (size < 4 || room < 4) return ATF_WHY_SHORT;
    uint32_t w = atf_a64_word(code);
    if (bound(w)) return ATF_WHY_INSTRUCTION;
    if ((w & 0x7C000000) == 0x14000000) { /* b, bl */
        target = here + (uint64_t)(atf_a64_signed(w, 0, 26) * 4);
        if (w >> 31) atf_a64_load(&o, A64_X30, next);
        atf_a64_go(&o, target);
    } else if ((w & 0xFF000000) == 0x54000000 || (w & 0x7E000000) == 0x34000000) { /* b.cond, cbz, cbnz */
        target = here + (uint64_t)(atf_a64_signed(w, 5, 19) * 4);
        uint8_t *at = o.at;
        atf_a64_put(&o, 0);
        atf_a64_go(&o, next);
        w = (w & ~(0x7FFFFu << 5)) | (uint32_t)((o.at - at) / 4) << 5;
        memcpy(at, &w, 4);
        atf_a64_go(&o, target);
    } else if ((w & 0x7E000000) == 0x36000000) { /* tbz, tbnz */
        target = here + (uint64_t)(atf_a64_signed(w, 5, 14) * 4);
        uint8_t *at = o.at;
        atf_a64_put(&o, 0);
        atf_a64_go(&o, next);
        w = (w & ~(0x3FFFu << 5)) | (uint32_t)((o.at - at) / 4) << 5;
        memcpy(at, &w, 4);
        atf_a64_go(&o, target);
    } else if ((w & 0x1F000000) == 0x10000000) { /* adr, adrp */
        int64_t d = (int64_t)((uint64_t)atf_a64_signed(w, 5, 19) << 2 | (w >> 29 & 3));
        atf_a64_load(&o, w & 31, w >> 31 ? (here & ~4095ull) + ((uint64_t)d << 12) : here + (uint64_t)d);
        atf_a64_go(&o, next);
    } else if ((w & 0x3B000000) == 0x18000000) { /* loads of literals */
        if (!load(&o, w, here + (uint64_t)(atf_a64_signed(w, 5, 19) * 4))) return ATF_WHY_INSTRUCTION;
        atf_a64_go(&o, next);
    } else if ((w & 0xFFFFFC1F) == 0xD63F0000) { /* blr */
        uint32_t by = w >> 5 & 31;
        if (by == A64_X30) return ATF_WHY_INSTRUCTION;
        atf_a64_put(&o, 0xAA0003E0u | by << 16 | A64_X16); /* mov x16, by: a landing pad for calls lets that pass */
        atf_a64_load(&o, A64_X30, next);
        atf_a64_put(&o, A64_BR_X16);
    } else if ((w & 0xFEFFF000) == 0xD63F0000 || (w & 0xFEFFF800) == 0xD63F0800) return ATF_WHY_INSTRUCTION; /* calls that check a signature */
    else {
        atf_a64_put(&o, w);
        atf_a64_go(&o, next);
    }
    if (target == here) return ATF_WHY_JUMP_BACK; /* it would come to the hook again and again */
    if (o.full) return ATF_WHY_INSTRUCTION;
    moved->bytes = (uint8_t)(o.at - out);
    moved->count = 1;
    return 0;
}

/* Nothing leads into the middle of an instruction. */
int atf_jumps_back(const uint8_t *code, uint32_t size) { return (void)code, (void)size, 0; }
