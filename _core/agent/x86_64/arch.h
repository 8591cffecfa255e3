/* x86-64: the stub's layout for C and the assembly, and what generic C asks of the processor. See arch.h. */
#ifndef ATF_X86_64_ARCH_H
#define ATF_X86_64_ARCH_H

/* A stub: 32 bytes, then the moved instructions. `call enter` pushes stub + STUB_RET_ENTER, by which a stub is known from then on. */
#define STUB_RET_ENTER 5
#define STUB_RET_BODY 15 /* what stands in the frame's return slot while the function runs */
#define STUB_FLAGS 20    /* u32 */
#define STUB_ID 24       /* u64 */
#define STUB_BODY 32

/* What the stubs of STUB_DETAILS save: struct atf_registers. */
#define R_RAX 64
#define R_FLAGS 96
#define R_XMM 112
#define R_SIZE 176

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

#define ATF_PATCH_BYTES 5 /* that a hook changes: a jump */
#define ATF_TRAP_BYTES 1
#define ATF_MOVED_MAX 80   /* bytes that moved instructions and the jump behind them take at most */
#define ATF_STUB_MOST (STUB_BODY + 3 + ATF_MOVED_MAX)
#define ATF_REACH 0x7FF00000ull /* of a 32-bit displacement, less a margin */
#define ATF_REACH_DATA 1        /* stubs must be near their module's data too: moved instructions count from it */

/* As hot_details.h saves them; the first eight in the order of the file format. */
typedef struct atf_registers {
    uint64_t rdi, rsi, rdx, rcx, r8, r9, fp, slot; /* slot: rsp, where the return address stands */
    uint64_t rax, r10, r11, rbx, flags, spare;
    uint64_t vectors[8]; /* lower halves */
} atf_registers;
_Static_assert(sizeof(atf_registers) == R_SIZE && offsetof(atf_registers, vectors) == R_XMM, "registers");
_Static_assert(offsetof(atf_registers, flags) == R_FLAGS && offsetof(atf_registers, rax) == R_RAX, "registers");
#define ATF_RETURN_VECTORS 2 /* that may hold a result */
static inline uint64_t atf_first_result(const atf_registers *r) { return r->rax; }

/* A frame's slot is the place of its return address, on the stack and ours to change. */
static inline uint64_t atf_slot_return(const uint64_t *slot) { return *slot; }     /* while its entry is being made */
static inline uint64_t atf_slot_stub(const uint64_t *slot) { return slot[-1]; }    /* the same, in atf_agent_enter_details */
static inline int atf_slot_taken(const uint64_t *slot, uint64_t ours) { return *slot == ours; }
static inline void atf_slot_put(uint64_t *slot, uint64_t before, uint64_t now)
{
    if (*slot == before) *slot = now;
}
#define ATF_SLOTS_HOLD 1        /* a slot's content tells whether its frame was left */
#define ATF_SLOT_BELOW_CFA 8    /* bytes from it to where the stack pointer stood before the call */
#define ATF_OWN_CFA ((uint64_t)(uintptr_t)__builtin_frame_address(0) + 16)

static inline long atf_arch_call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ __volatile__("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return result;
}

static inline void atf_arch_copy(void *to, const void *from, size_t n) { __asm__ __volatile__("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory"); }
static inline void atf_arch_fill(void *to, int value, size_t n) { __asm__ __volatile__("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory"); }

#define ATF_PC(u) (*(uint64_t *)&(u)->uc_mcontext.gregs[REG_RIP])
#define ATF_TRAP_BEHIND 1 /* bytes from a trap to where the processor stands when it tells */
static inline int atf_trap_there(uint64_t at) { return *(const volatile uint8_t *)at == 0xCC; }

/* Code was changed: this processor sees it by itself. */
static inline void atf_code_changed(const void *at, size_t bytes) { (void)at, (void)bytes; }
static inline void atf_code_changed_all(void) {}

/* A jump of ours, to where. 0: it is none. */
static inline uint64_t atf_jump_at(const uint8_t *p)
{
    int32_t d;
    __builtin_memcpy(&d, p + 1, 4);
    return *p == 0xE9 ? (uint64_t)(uintptr_t)(p + 5) + (uint64_t)(int64_t)d : 0;
}

/* The bytes at a function's start that an indirect call must find. */
static inline uint32_t atf_landing(const uint8_t *p) { return __builtin_memcmp(p, "\xF3\x0F\x1E\xFA", 4) == 0 ? 4 : 0; } /* endbr64 */

/* Of a function that does nothing. */
static inline uint32_t atf_least_bytes(const uint8_t *p) { return (void)p, 1; }

/* The offset of `ra` in libgcc's contexts, from the code of _Unwind_SetIP: mov %rsi, offset(%rdi). 0: another's. */
static inline uint32_t atf_context_ra(const uint8_t *code)
{
    uint32_t offset;
    code += atf_landing(code);
    if (__builtin_memcmp(code, "\x48\x89\xB7", 3) != 0) return 0;
    __builtin_memcpy(&offset, code + 3, 4);
    return offset == 0x98 ? offset : 0;
}
#endif
#endif
