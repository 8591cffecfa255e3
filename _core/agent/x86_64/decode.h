/* Lengths and the few facts that moving an x86-64 instruction needs: where its RIP-relative operand stands, and whether it
 * branches. Long mode only. Knows the maps 0F, 0F38, 0F3A, VEX, EVEX and XOP; refuses what it does not know. No tables: the
 * rules of the opcode map, row by row. Data in, data out; never includes Python.h. */
#ifndef ATF_X86_64_DECODE_H
#define ATF_X86_64_DECODE_H
#include <stdint.h>
#include <string.h>

enum atf_x86_kind {
    ATF_X86_PLAIN,
    ATF_X86_CALL,     /* E8 */
    ATF_X86_JMP,      /* E9, EB */
    ATF_X86_JCC,      /* 7x, 0F 8x; `condition` is the low nibble */
    ATF_X86_LOOP,     /* E0..E3: 8-bit reach only */
    ATF_X86_RET,
    ATF_X86_INDIRECT_JMP,
    ATF_X86_INDIRECT_CALL,
    ATF_X86_STOP      /* int3, ud2, hlt: nothing follows */
};

typedef struct atf_x86 {
    uint8_t length;
    uint8_t kind;
    uint8_t condition;
    uint8_t rip_at;  /* offset of a RIP-relative disp32; 0: none */
    uint8_t short_address; /* 67: the operand is computed in 32 bits */
    int32_t target;  /* of a branch, from the next instruction */
} atf_x86;

/* imm: bytes of immediate behind ModRM; 0x80 in it: there is a ModRM. */
#define ATF_X86_MODRM 0x80
#define ATF_X86_BAD 0x40

static inline int atf_x86_one_byte(uint8_t op, int z, int rex_w, int a32)
{
    if (op < 0x40) {
        int low = op & 7;
        return low < 4 ? ATF_X86_MODRM : low == 4 ? 1 : low == 5 ? z : ATF_X86_BAD;
    }
    switch (op) {
    case 0x63: return ATF_X86_MODRM;
    case 0x68: return z;
    case 0x69: return ATF_X86_MODRM | z;
    case 0x6A: return 1;
    case 0x6B: return ATF_X86_MODRM | 1;
    case 0x80: case 0x83: case 0xC0: case 0xC1: case 0xC6: return ATF_X86_MODRM | 1;
    case 0x81: case 0xC7: return ATF_X86_MODRM | z;
    case 0xA0: case 0xA1: case 0xA2: case 0xA3: return a32 ? 4 : 8;
    case 0xA8: case 0xCD: case 0xE4: case 0xE5: case 0xE6: case 0xE7: return 1;
    case 0xA9: return z;
    case 0xC2: case 0xCA: return 2;
    case 0xC8: return 3;
    case 0x60: case 0x61: case 0x62: case 0x82: case 0x9A: case 0xC4: case 0xC5: case 0xCE: case 0xD4: case 0xD5: case 0xD6: case 0xEA:
        return ATF_X86_BAD;
    }
    if (op < 0x60 || (op >= 0x6C && op <= 0x6F)) return 0;
    if (op >= 0x70 && op <= 0x7F) return 1;
    if (op >= 0x84 && op <= 0x8F) return ATF_X86_MODRM;
    if (op >= 0xB0 && op <= 0xB7) return 1;
    if (op >= 0xB8 && op <= 0xBF) return rex_w ? 8 : z;
    if ((op >= 0xD0 && op <= 0xD3) || (op >= 0xD8 && op <= 0xDF)) return ATF_X86_MODRM;
    if (op >= 0xE0 && op <= 0xE3) return 1;
    if (op == 0xE8 || op == 0xE9) return 4;
    if (op == 0xEB) return 1;
    if (op == 0xF6 || op == 0xF7 || op == 0xFE || op == 0xFF) return ATF_X86_MODRM;
    return 0;
}

static inline int atf_x86_two_byte(uint8_t op)
{
    if ((op >= 0x05 && op <= 0x09) || op == 0x0B || op == 0x0E || op == 0x77 || (op >= 0x30 && op <= 0x37) || (op >= 0xC8 && op <= 0xCF)) return 0;
    if (op == 0x04 || op == 0x0A || op == 0x0C || (op >= 0x24 && op <= 0x27) || (op >= 0x39 && op <= 0x3F && op != 0x3A)) return ATF_X86_BAD;
    if (op == 0x0F || (op >= 0x70 && op <= 0x73) || op == 0xA4 || op == 0xAC || op == 0xBA || op == 0xC2 || (op >= 0xC4 && op <= 0xC6)) return ATF_X86_MODRM | 1;
    if (op >= 0x80 && op <= 0x8F) return 4;
    if (op == 0xA0 || op == 0xA1 || op == 0xA2 || op == 0xA8 || op == 0xA9 || op == 0xAA) return 0;
    if (op == 0xA6 || op == 0xA7) return ATF_X86_BAD;
    return ATF_X86_MODRM;
}

/* Decodes one instruction from at most `room` bytes; 0: unknown, or it does not end there. */
static inline int atf_x86_decode(const uint8_t *code, unsigned room, atf_x86 *out)
{
    unsigned i = 0, limit = room < 15 ? room : 15;
    int z = 4, a32 = 0, rex_w = 0, repeat = 0, shape, map = 0;
    memset(out, 0, sizeof *out);
    for (;; i++) {
        if (i >= limit) return 0;
        uint8_t b = code[i];
        if (b == 0x66) z = 2;
        else if (b == 0x67) a32 = 1;
        else if (b == 0xF2 || b == 0xF3) repeat = b;
        else if (b != 0x2E && b != 0x36 && b != 0x3E && b != 0x26 && b != 0x64 && b != 0x65 && b != 0xF0) break;
    }
    uint8_t op = code[i];
    if ((op & 0xF0) == 0x40) { /* REX stands last */
        rex_w = op & 8;
        if (rex_w) z = 4;
        if (++i >= limit) return 0;
        op = code[i];
        if ((op & 0xF0) == 0x40) return 0;
    }
#define ATF_X86_NEED(n) if (i + (n) >= limit) return 0
    if (op == 0xC5) {
        ATF_X86_NEED(2);
        map = 1, i += 2;
    } else if (op == 0xC4) {
        ATF_X86_NEED(3);
        map = code[i + 1] & 0x1F, i += 3;
    } else if (op == 0x62) {
        ATF_X86_NEED(4);
        map = code[i + 1] & 7, i += 4;
        if (map == 5 || map == 6) map = 2; /* half precision: ModRM, no immediate */
    } else if (op == 0x8F && i + 1 < limit && (code[i + 1] & 0x1F) >= 8) {
        ATF_X86_NEED(3);
        map = code[i + 1] & 0x1F, i += 3; /* XOP */
    }
    if (map) {
        op = code[i];
        if (map == 1) shape = op == 0x77 ? 0 : ATF_X86_MODRM | ((op >= 0x70 && op <= 0x73) || op == 0xC2 || (op >= 0xC4 && op <= 0xC6));
        else if (map == 2 || map == 9) shape = ATF_X86_MODRM;
        else if (map == 3 || map == 8) shape = ATF_X86_MODRM | 1;
        else if (map == 10) shape = ATF_X86_MODRM | 4;
        else return 0;
    } else if (op == 0x0F) {
        ATF_X86_NEED(1);
        op = code[++i];
        if (op == 0x38 || op == 0x3A) {
            shape = op == 0x38 ? ATF_X86_MODRM : ATF_X86_MODRM | 1;
            ATF_X86_NEED(1);
            op = code[++i];
        } else {
            shape = atf_x86_two_byte(op);
            if ((op == 0x78 || op == 0x79) && (z == 2 || repeat == 0xF2)) return 0; /* SSE4a */
            if (op >= 0x80 && op <= 0x8F) out->kind = ATF_X86_JCC, out->condition = op & 15;
            else if (op == 0x0B) out->kind = ATF_X86_STOP;
        }
    } else {
        shape = atf_x86_one_byte(op, z, rex_w, a32);
        if (op >= 0x70 && op <= 0x7F) out->kind = ATF_X86_JCC, out->condition = op & 15;
        else if (op >= 0xE0 && op <= 0xE3) out->kind = ATF_X86_LOOP;
        else if (op == 0xE8) out->kind = ATF_X86_CALL;
        else if (op == 0xE9 || op == 0xEB) out->kind = ATF_X86_JMP;
        else if (op == 0xC2 || op == 0xC3) out->kind = ATF_X86_RET;
        else if (op == 0xCC || op == 0xF4) out->kind = ATF_X86_STOP;
    }
    if (shape == ATF_X86_BAD) return 0;
    i++;
    int imm = shape & 0x0F;
    if (shape & ATF_X86_MODRM) {
        if (i >= limit) return 0;
        uint8_t modrm = code[i++], mod = modrm >> 6, rm = modrm & 7, reg = modrm >> 3 & 7;
        if (!map && code[i - 2] == op) { /* one-byte groups whose form is in the reg field */
            int one = i < 3 || code[i - 3] != 0x0F;
            if (one && (op == 0xF6 || op == 0xF7) && reg < 2) imm = op == 0xF6 ? 1 : z;
            if (one && op == 0xFF && (reg == 2 || reg == 3)) out->kind = ATF_X86_INDIRECT_CALL;
            if (one && op == 0xFF && (reg == 4 || reg == 5)) out->kind = ATF_X86_INDIRECT_JMP;
            if (one && op == 0xC7 && modrm == 0xF8) return 0; /* XBEGIN */
        }
        if (mod != 3) {
            int base = rm;
            if (rm == 4) {
                if (i >= limit) return 0;
                base = code[i++] & 7;
            }
            if (mod == 0 && rm == 5) out->rip_at = (uint8_t)i, i += 4;
            else if (mod == 0 && base == 5) i += 4;
            else if (mod == 1) i += 1;
            else if (mod == 2) i += 4;
        }
    }
    i += (unsigned)imm;
    if (i > limit) return 0;
    out->length = (uint8_t)i;
    out->short_address = (uint8_t)a32;
    if (out->kind == ATF_X86_CALL || out->kind == ATF_X86_JMP || out->kind == ATF_X86_JCC || out->kind == ATF_X86_LOOP) {
        if (imm == 1) out->target = (int8_t)code[i - 1];
        else memcpy(&out->target, code + i - 4, 4);
    }
    return (int)i;
#undef ATF_X86_NEED
}
#endif
