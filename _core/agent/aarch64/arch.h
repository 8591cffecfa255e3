/* aarch64: the stub's layout for C and the assembly, and what generic C asks of the processor. See arch.h one level up.
 *
 * A return address comes in x30, and where a function keeps it, signed or not, nobody else knows. So a frame's slot is the stack
 * pointer at its entry, which is its canonical frame address; nothing stands there that is ours. */
#ifndef ATF_AARCH64_ARCH_H
#define ATF_AARCH64_ARCH_H

/* A stub: 44 bytes, then the moved instruction. x17 holds its address on the way to the record path. */
#define STUB_RET_ENTER 0
#define STUB_RET_BODY 12 /* what stands in x30 while the function runs */
#define STUB_FLAGS 24    /* u32 */
#define STUB_ID 32       /* u64 */
#define STUB_BACK 40     /* takes what the stub pushed, and goes on to the body */
#define STUB_BODY 44

/* What hot.S saves: struct atf_registers, and above it the stub and x30; then what the stub pushed: x16, x17; then comes the slot. */
#define R_FP 64
#define R_SLOT 72
#define R_X8 80
#define R_X18 144
#define R_FLAGS 152
#define R_VECTORS 160
#define R_SIZE 224
#define R_STUB 224
#define R_LINK 232
#define R_ALL 240
#define R_PUSHED 16

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

#define ATF_PATCH_BYTES 4 /* that a hook changes: a branch */
#define ATF_TRAP_BYTES 4
#define ATF_MOVED_MAX 64   /* bytes that a moved instruction and the branch behind it take at most */
#define ATF_STUB_MOST (STUB_BODY + ATF_MOVED_MAX)
#define ATF_REACH 0x7F00000ull /* of a branch, 128 MiB less a margin */
#define ATF_REACH_DATA 0       /* moved instructions hold whole addresses */

/* The first eight words in the order of the file format. */
typedef struct atf_registers {
    uint64_t x0_7[8], fp, slot;
    uint64_t x8_15[8], x18, flags;
    uint64_t vectors[8]; /* lower halves; saved for details only */
} atf_registers;
_Static_assert(sizeof(atf_registers) == R_SIZE && offsetof(atf_registers, vectors) == R_VECTORS, "registers");
_Static_assert(offsetof(atf_registers, fp) == R_FP && offsetof(atf_registers, slot) == R_SLOT && offsetof(atf_registers, flags) == R_FLAGS, "registers");
#define ATF_RETURN_VECTORS 4 /* that may hold a result */
static inline uint64_t atf_first_result(const atf_registers *r) { return r->x0_7[0]; }

/* While its entry is being made, x30 and the stub stand below a slot, where hot.S saved them; later nothing of ours does. */
static inline uint64_t atf_slot_return(const uint64_t *slot) { return slot[-3]; }
static inline uint64_t atf_slot_stub(const uint64_t *slot) { return slot[-4]; }
static inline int atf_slot_taken(const uint64_t *slot, uint64_t ours) { return (void)slot, (void)ours, 1; }
static inline void atf_slot_put(uint64_t *slot, uint64_t before, uint64_t now) { (void)slot, (void)before, (void)now; }
#define ATF_SLOTS_HOLD 0     /* no slot tells whether its frame was left */
#define ATF_SLOT_BELOW_CFA 0
#define ATF_OWN_CFA ((uint64_t)(uintptr_t)__builtin_dwarf_cfa())

static inline long atf_arch_call(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ __volatile__("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

static inline void atf_arch_copy(void *to, const void *from, size_t n)
{
    uint8_t *p = to;
    const uint8_t *q = from;
    if (!(((uintptr_t)p | (uintptr_t)q) & 7))
        for (; n >= 8; n -= 8, p += 8, q += 8) *(uint64_t *)p = *(const uint64_t *)q;
    while (n--) *p++ = *q++;
}
static inline void atf_arch_fill(void *to, int value, size_t n)
{
    uint8_t *p = to;
    while (n--) *p++ = (uint8_t)value;
}

#define ATF_PC(u) (*(uint64_t *)&(u)->uc_mcontext.pc)
#define ATF_TRAP_BEHIND 0 /* the processor stands at a trap, not behind it, when it tells */
#define ATF_TRAP 0xD4200000u /* brk #0 */
static inline int atf_trap_there(uint64_t at) { return *(const volatile uint32_t *)at == ATF_TRAP; }

static inline void atf_code_changed(const void *at, size_t bytes) { __builtin___clear_cache((char *)(uintptr_t)at, (char *)(uintptr_t)at + bytes); }

/* All processors that run threads of this process take in what was changed. Threads that stood in a signal handler do so on their
 * way out of it; this is for those that were left alone. A kernel that knows nothing of it has nothing to offer. */
static inline void atf_code_changed_all(void)
{
    enum { MEMBARRIER = 283, SYNC_CORE = 1 << 5, REGISTER_SYNC_CORE = 1 << 6 };
    if (atf_arch_call(MEMBARRIER, REGISTER_SYNC_CORE, 0, 0, 0, 0, 0) == 0) atf_arch_call(MEMBARRIER, SYNC_CORE, 0, 0, 0, 0, 0);
}

/* A branch of ours, to where. 0: it is none. */
static inline uint64_t atf_jump_at(const uint8_t *p)
{
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word >> 26 == 5 ? (uint64_t)((int64_t)(uintptr_t)p + ((int64_t)(int32_t)(word << 6) >> 4)) : 0;
}

/* The bytes at a function's start that an indirect call must find: bti c, bti j, bti jc. */
static inline uint32_t atf_landing(const uint8_t *p)
{
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word == 0xD503245F || word == 0xD503249F || word == 0xD50324DF ? 4 : 0;
}

/* Of a function that does nothing. */
static inline uint32_t atf_least_bytes(const uint8_t *p) { return 4 + atf_landing(p); }

/* The offset of `ra` in libgcc's contexts, from the code of _Unwind_SetIP: str x1, [x0, #offset]. 0: another's. */
static inline uint32_t atf_context_ra(const uint8_t *code)
{
    uint32_t word;
    code += atf_landing(code);
    __builtin_memcpy(&word, code, 4);
    return (word & 0xFFC003FF) == 0xF9000001 ? (word >> 10 & 0xFFF) * 8 : 0;
}
#endif
#endif
