/* Moves one instruction, for functions whose first byte alone is changed. More of them can be moved than of five bytes: what
 * follows the instruction stays where it is, so only the instruction itself must bear it. */
#include "../relocate.h"
#include "../plan.h"
#include "decode.h"

static int jump(uint8_t *at, const uint8_t *target)
{
    int64_t distance = target - (at + 5);
    int32_t d = (int32_t)distance;
    *at = 0xE9;
    memcpy(at + 1, &d, 4);
    return distance == d;
}

/* Pushes a constant without a register and without a flag. */
static uint32_t push_address(uint8_t *out, uint64_t value)
{
    uint32_t low = (uint32_t)value, high = (uint32_t)(value >> 32);
    out[0] = 0x68; /* sign-extended */
    memcpy(out + 1, &low, 4);
    memcpy(out + 5, "\xC7\x44\x24\x04", 4); /* movl high, 4(%rsp) */
    memcpy(out + 9, &high, 4);
    return 13;
}

static int keep_operand(uint8_t *out, const uint8_t *code, const atf_x86 *x)
{
    memcpy(out, code, x->length);
    if (!x->rip_at) return 1;
    int32_t d;
    memcpy(&d, code + x->rip_at, 4);
    int64_t moved = (int64_t)d + (code - out);
    if (x->short_address || moved != (int32_t)moved) return 0;
    d = (int32_t)moved;
    memcpy(out + x->rip_at, &d, 4);
    return 1;
}

/* `call *operand` becomes `jmp *operand` behind a push of the old return address; no operand may count from the stack pointer. */
static uint32_t indirect_call(uint8_t *out, const uint8_t *code, const atf_x86 *x)
{
    uint32_t op = 0, pushed = push_address(out, (uint64_t)(uintptr_t)(code + x->length));
    while (op < x->length && code[op] != 0xFF) op++;
    if (op + 1 >= x->length) return 0;
    uint8_t modrm = code[op + 1], rex_b = op > 0 && (code[op - 1] & 0xF1) == 0x41;
    if ((modrm >> 3 & 7) != 2) return 0; /* a far call */
    if ((modrm & 7) == 4 && !rex_b && (modrm >> 6 == 3 || (code[op + 2] & 7) == 4)) return 0;
    if (!keep_operand(out + pushed, code, x)) return 0;
    out[pushed + op + 1] = (uint8_t)((modrm & 0xC7) | 4 << 3);
    return pushed + x->length;
}

int atf_move_first(const uint8_t *code, uint32_t room, uint8_t *out, atf_moved *moved)
{
    atf_x86 x;
    memset(moved, 0, sizeof *moved);
    if (!room || !atf_x86_decode(code, room, &x)) return ATF_WHY_INSTRUCTION;
    const uint8_t *next = code + x.length, *target = next + x.target;
    uint32_t to = x.length;
    switch (x.kind) {
    case ATF_X86_JMP:
        if (!jump(out, target)) return ATF_WHY_REACH;
        to = 5;
        break;
    case ATF_X86_JCC: /* the short form's opposite over a jump */
        out[0] = (uint8_t)(0x70 | (x.condition ^ 1)), out[1] = 5;
        if (!jump(out + 2, target)) return ATF_WHY_REACH;
        to = 7;
        break;
    case ATF_X86_LOOP:
        memcpy(out, code, x.length);
        out[x.length - 1] = 5;
        if (!jump(out + x.length, next) || !jump(out + x.length + 5, target)) return ATF_WHY_REACH;
        moved->bytes = (uint8_t)(x.length + 10);
        return 0;
    case ATF_X86_CALL:
        to = push_address(out, (uint64_t)(uintptr_t)next);
        if (!jump(out + to, target)) return ATF_WHY_REACH;
        moved->bytes = (uint8_t)(to + 5);
        return 0;
    case ATF_X86_INDIRECT_CALL:
        to = indirect_call(out, code, &x);
        moved->bytes = (uint8_t)to;
        return to ? 0 : ATF_WHY_INSTRUCTION;
    case ATF_X86_STOP: return ATF_WHY_INSTRUCTION;
    default:
        if (!keep_operand(out, code, &x)) return ATF_WHY_REACH;
    }
    if (x.kind == ATF_X86_PLAIN || x.kind == ATF_X86_JCC) {
        if (!jump(out + to, next)) return ATF_WHY_REACH;
        to += 5;
    }
    moved->bytes = (uint8_t)to;
    return 0;
}
