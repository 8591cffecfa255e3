/* Programs that were built for tracers. A call of mcount or __fentry__ stays where it is and is made as ever: both read the return
 * address of the function they stand in, so the hook stands behind it, where that address is not ours yet. Nops that were left for a
 * tracer are written over, and nothing needs to be moved. */
#include "../entry.h"
#include "../plan.h"
#include "decode.h"

#define PROLOGUE_MOST 128 /* bytes up to the call of mcount */

static uint32_t nop(const uint8_t *p, uint32_t room)
{
    atf_x86 x;
    uint32_t k = 0;
    if (!room || !atf_x86_decode(p, room, &x)) return 0;
    while (k + 1 < x.length && (p[k] == 0x66 || p[k] == 0x2E)) k++;
    if (p[k] == 0x90 && x.length == k + 1) return x.length;
    return k + 1 < x.length && p[k] == 0x0F && p[k + 1] == 0x1F ? x.length : 0;
}

static uint32_t nops_at(const uint8_t *p, uint32_t room)
{
    uint32_t n = 0, one;
    while ((one = nop(p + n, room - n)) != 0) n += one;
    return n;
}

/* Whether a branch of the function leads to [offset, offset + 5): what stands there would run without a call. A loop may well begin
 * where the prologue ends. */
static int branch_to(const uint8_t *code, uint32_t size, uint32_t offset)
{
    atf_x86 x;
    uint32_t least = offset ? offset : 1; /* the function's start: that is a call */
    for (uint32_t i = 0; i < size; i += x.length) {
        if (!atf_x86_decode(code + i, size - i, &x)) {
            x.length = 1;
            continue;
        }
        int64_t to = (int64_t)i + x.length + x.target;
        int branches = x.kind == ATF_X86_JMP || x.kind == ATF_X86_JCC || x.kind == ATF_X86_LOOP || x.kind == ATF_X86_CALL;
        if (branches && to >= least && to < offset + ATF_PATCH_BYTES) return 1;
    }
    return 0;
}

/* The end of the call of the profiler: at once, or behind `push %rbp; mov %rsp, %rbp` and more of the prologue. */
static int behind_call(const uint8_t *code, uint32_t size, uint32_t at, atf_entry *e)
{
    atf_x86 x;
    int64_t skipped_to = 0; /* a variadic function's prologue branches over what saves vector registers */
    uint32_t i = at, most = size < PROLOGUE_MOST ? size : PROLOGUE_MOST;
    int frame = size >= at + 4 && code[at] == 0x55 && (memcmp(code + at + 1, "\x48\x89\xE5", 3) == 0 || memcmp(code + at + 1, "\x48\x8B\xEC", 3) == 0);
    while (i < most && atf_x86_decode(code + i, size - i, &x)) {
        uint32_t begin = i;
        i += x.length;
        if (x.kind == ATF_X86_PLAIN && frame) continue;
        if (x.kind == ATF_X86_JCC && frame && x.target > 0) {
            if (i + (int64_t)x.target > skipped_to) skipped_to = i + (int64_t)x.target;
            continue;
        }
        if (begin < skipped_to) break;
        if (x.kind != ATF_X86_CALL && !(x.kind == ATF_X86_INDIRECT_CALL && x.rip_at)) break;
        e->offset = i;
        e->framed = (uint32_t)frame;
        e->way = frame ? ATF_WAY_MCOUNT : ATF_WAY_FENTRY;
        return 1;
    }
    return 0;
}

int atf_entry_find(const uint8_t *code, uint32_t size, uint32_t room, int profiled, atf_entry *e)
{
    uint32_t at = room >= 4 && memcmp(code, "\xF3\x0F\x1E\xFA", 4) == 0 ? 4 : 0; /* endbr64: indirect calls must find it */
    *e = (atf_entry){0, ATF_WAY_JUMP, 0, 0};
    if (profiled) {
        if (!behind_call(code, size, at, e)) return ATF_WHY_PROFILER_FRAME;
        if (size < e->offset + 1) return ATF_WHY_SHORT;
        return branch_to(code, size, e->offset) ? ATF_WHY_PROFILER_LOOP : 0;
    }
    e->nops = nops_at(code + at, room - at);
    if (e->nops >= ATF_PATCH_BYTES && size > at + e->nops && !branch_to(code, size, at)) e->offset = at, e->way = ATF_WAY_NOPS;
    return 0;
}

int atf_entry_nops(const uint8_t *code, uint32_t nops, uint8_t *out, atf_moved *moved)
{
    int64_t distance = (code + nops) - (out + 5);
    int32_t d = (int32_t)distance;
    memset(moved, 0, sizeof *moved);
    if (distance != d) return ATF_WHY_REACH;
    for (uint32_t i = 0; i < ATF_PATCH_BYTES; i += nop(code + i, nops - i)) moved->old_at[moved->count++] = (uint8_t)i;
    out[0] = 0xE9;
    memcpy(out + 1, &d, 4);
    moved->bytes = 5;
    return 0;
}
