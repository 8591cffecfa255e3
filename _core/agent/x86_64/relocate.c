#include "../relocate.h"
#include "../plan.h"
#include "decode.h"

/* Whether n bytes do nothing but fill: nops, int3, and zeros, which are bytes there and never an instruction with what follows. */
static int padding(const uint8_t *p, uint32_t n, uint32_t room)
{
    atf_x86 x;
    for (uint32_t i = 0; i < n; i += x.length) {
        x.length = 1;
        if (p[i] == 0) continue;
        if (!atf_x86_decode(p + i, room - i, &x)) return 0;
        uint32_t k = i;
        while (p[k] == 0x66 || p[k] == 0x2E) k++;
        if (p[k] != 0x90 && p[k] != 0xCC && !(p[k] == 0x0F && p[k + 1] == 0x1F)) return 0;
    }
    return 1;
}

/* Linear; where it loses the instruction stream it goes on a byte later. */
int atf_jumps_back(const uint8_t *code, uint32_t size)
{
    atf_x86 x;
    for (uint32_t i = 0; i < size;) {
        if (!atf_x86_decode(code + i, size - i, &x)) {
            i++;
            continue;
        }
        if (x.kind == ATF_X86_JMP || x.kind == ATF_X86_JCC || x.kind == ATF_X86_LOOP || x.kind == ATF_X86_CALL) {
            int64_t to = (int64_t)i + x.length + x.target;
            if (to > 0 && to < ATF_PATCH_BYTES) return 1;
        }
        i += x.length;
    }
    return 0;
}

static int put_relative(uint8_t *at, const uint8_t *target)
{
    int64_t distance = target - (at + 4);
    if (distance != (int32_t)distance) return 0;
    int32_t d = (int32_t)distance;
    memcpy(at, &d, 4);
    return 1;
}

int atf_relocate(const uint8_t *code, uint32_t size, uint32_t room, uint8_t *out, atf_moved *moved)
{
    uint32_t from = 0, to = 0;
    int open = 1; /* whether the last instruction goes on behind itself */
    memset(moved, 0, sizeof *moved);
    if (size == 0 || room < ATF_PATCH_BYTES) return ATF_WHY_SHORT;
    while (from < ATF_PATCH_BYTES && from < size && open) {
        atf_x86 x;
        if (!atf_x86_decode(code + from, room - from, &x)) return ATF_WHY_INSTRUCTION;
        const uint8_t *next = code + from + x.length, *target = next + x.target;
        if (to + 24u > ATF_MOVED_MAX) return ATF_WHY_INSTRUCTION;
        moved->old_at[moved->count] = (uint8_t)from;
        moved->moved_at[moved->count++] = (uint8_t)to;
        if ((x.kind == ATF_X86_JMP || x.kind == ATF_X86_JCC) && target > code && target < code + ATF_PATCH_BYTES) return ATF_WHY_JUMP_BACK;
        switch (x.kind) {
        case ATF_X86_JMP:
            out[to] = 0xE9;
            if (!put_relative(out + to + 1, target)) return ATF_WHY_REACH;
            to += 5, open = 0;
            break;
        case ATF_X86_JCC:
            out[to] = 0x0F, out[to + 1] = (uint8_t)(0x80 | x.condition);
            if (!put_relative(out + to + 2, target)) return ATF_WHY_REACH;
            to += 6;
            break;
        case ATF_X86_CALL: { /* the return address must be the old one: unwinders and the callee may look at it */
            if (from + x.length < ATF_PATCH_BYTES) return ATF_WHY_INSTRUCTION;
            uint64_t back = (uint64_t)(uintptr_t)next;
            uint32_t low = (uint32_t)back, high = (uint32_t)(back >> 32);
            out[to] = 0x68; /* push low, sign-extended */
            memcpy(out + to + 1, &low, 4);
            memcpy(out + to + 5, "\xC7\x44\x24\x04", 4); /* movl high, 4(%rsp) */
            memcpy(out + to + 9, &high, 4);
            out[to + 13] = 0xE9;
            if (!put_relative(out + to + 14, target)) return ATF_WHY_REACH;
            to += 18, open = 0;
            break;
        }
        case ATF_X86_LOOP:
        case ATF_X86_INDIRECT_CALL: return ATF_WHY_INSTRUCTION;
        default:
            memcpy(out + to, code + from, x.length);
            if (x.rip_at) {
                int32_t d;
                memcpy(&d, code + from + x.rip_at, 4);
                int64_t moved_d = (int64_t)d + (next - (out + to + x.length));
                if (x.short_address || moved_d != (int32_t)moved_d) return ATF_WHY_REACH;
                d = (int32_t)moved_d;
                memcpy(out + to + x.rip_at, &d, 4);
            }
            to += x.length;
            open = x.kind == ATF_X86_PLAIN;
        }
        from += x.length;
    }
    if (from < ATF_PATCH_BYTES && !padding(code + from, ATF_PATCH_BYTES - from, room - from)) return ATF_WHY_SHORT;
    if (open) {
        out[to] = 0xE9;
        if (!put_relative(out + to + 1, code + from)) return ATF_WHY_REACH;
        to += 5;
    }
    moved->bytes = (uint8_t)to;
    return 0;
}
