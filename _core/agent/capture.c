/* The payload of a native detail: registers, the caller's stack, the return addresses of the open calls. Reads only what is
 * mapped for certain; compiled for general registers only. */
#include "agent.h"
#include <sys/uio.h>

/* As in the file; see docs/format.md. */
typedef struct __attribute__((packed)) atf_native_payload {
    uint64_t function_id, registers[8], lr, fp, sp;
    uint16_t stack_bytes, reserved;
} atf_native_payload;
_Static_assert(sizeof(atf_native_payload) == 100, "native detail");

typedef struct __attribute__((packed)) atf_block_head {
    uint16_t tag, bytes;
} atf_block_head;

#define MOST (sizeof(atf_native_payload) + ATF_STACK_BYTES_MOST + 3 * sizeof(atf_block_head) + 64 + 16 * ATF_BACKTRACE_MOST + 6 * (2 + ATF_TEXT_MOST))
_Static_assert(MOST <= ATF_CAPTURE_MOST, "room");

/* The end of the first thread's stack, as the loader knows it. */
extern void *__libc_stack_end __attribute__((weak));

static int inside(uint64_t a, uint64_t low, uint64_t high) { return a >= low && a < high; }

/* Bytes from `at` on that are the stack of this thread, up to `most`. The stack that a thread began on is mapped from its stack
 * pointer up to its thread block, or, the first thread's, up to its end. Of any other stack only the page of the return address
 * is certain: what lies behind it is read by the kernel, which refuses what is not there. */
static uint32_t stack_copy(const atf_agent_thread *t, uint64_t at, uint32_t most, uint8_t *to)
{
    uint64_t block = (uint64_t)(uintptr_t)__builtin_thread_pointer(), high = ((at - 8) & ~4095ull) + 4096;
    uint64_t end = &__libc_stack_end ? (uint64_t)(uintptr_t)__libc_stack_end : 0;
    int home = inside(at, t->home_low, t->home_high), first = home && inside(end, at, t->home_high);
    if (first) high = t->home_high;
    else if (home && inside(block, at, t->home_high) && block > high) high = block;
    uint32_t sure = at >= high ? 0 : high - at < most ? (uint32_t)(high - at) : most;
    memcpy(to, (const void *)(uintptr_t)at, sure);
    if (sure == most || first) return sure;
    struct iovec mine = {to + sure, most - sure}, theirs = {(void *)(uintptr_t)(at + sure), most - sure};
    long pid = atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    long more = atf_call(SYS_process_vm_readv, pid, (long)&mine, 1, (long)&theirs, 1, 0);
    return more > 0 ? sure + (uint32_t)more : sure;
}

static uint8_t *block(uint8_t *to, uint16_t tag, const void *from, uint32_t bytes)
{
    atf_block_head head = {tag, (uint16_t)bytes};
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, from, bytes);
    return to + sizeof head + bytes;
}

/* Pairs: where an open call returns to, and the traced call around it (0: none). The innermost first. */
static uint8_t *backtrace(const atf_agent_thread *t, const atf_frame *f, uint64_t ret, uint8_t *to)
{
    const atf_frame *outer = f ? f - 1 : t->top;
    uint8_t *at = to + sizeof(atf_block_head);
    uint32_t n = 0;
    for (; n < ATF_BACKTRACE_MOST; n++, outer--) {
        int last = outer <= t->bottom || !outer->slot;
        uint64_t pair[2] = {ret, last ? 0 : atf_stub_id(outer->stub)};
        memcpy(at + 16 * n, pair, sizeof pair);
        if (last) {
            n++;
            break;
        }
        ret = outer->ret;
    }
    atf_block_head head = {ATF_TAG_BACKTRACE, (uint16_t)(16 * n)};
    memcpy(to, &head, sizeof head);
    return at + 16 * n;
}

/* Texts as (register's number, bytes, content); the upper bit of `bytes`: the text goes on. The kernel reads, page by page, and
 * refuses what is not there; what cannot be read is left out. */
static uint8_t *texts(uint32_t mask, const atf_registers *r, uint8_t *to)
{
    const uint64_t *registers = (const uint64_t *)r;
    uint8_t *at = to + sizeof(atf_block_head);
    long pid = atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    for (uint32_t i = 0; i < 6; i++) {
        uint64_t text = registers[i], first = 4096 - (text & 4095);
        if (!(mask >> i & 1) || !text) continue;
        if (first > ATF_TEXT_MOST) first = ATF_TEXT_MOST;
        struct iovec mine = {at + 2, ATF_TEXT_MOST};
        struct iovec theirs[2] = {{(void *)(uintptr_t)text, first}, {(void *)(uintptr_t)(text + first), ATF_TEXT_MOST - first}};
        long n = atf_call(SYS_process_vm_readv, pid, (long)&mine, 1, (long)theirs, 2, 0);
        if (n <= 0) continue;
        uint32_t bytes = 0;
        while (bytes < n && at[2 + bytes]) bytes++;
        at[0] = (uint8_t)i;
        at[1] = (uint8_t)(bytes | (bytes == n ? 0x80 : 0));
        at += 2 + bytes;
    }
    atf_block_head head = {ATF_TAG_TEXTS, (uint16_t)(at - to - (long)sizeof(atf_block_head))};
    memcpy(to, &head, sizeof head);
    return at;
}

uint32_t atf_capture_call(const atf_agent_thread *t, const atf_frame *f, const uint8_t *stub, const atf_registers *r, uint8_t *to)
{
    const atf_wanted *w = &atf_agent_wanted;
    uint32_t mask = STUB_TEXTS(atf_stub_flags(stub));
    uint64_t id = atf_stub_id(stub);
    atf_native_payload p = {.function_id = id, .lr = f ? f->ret : atf_slot_return((const uint64_t *)(uintptr_t)r->slot), .fp = r->fp, .sp = r->slot};
    uint8_t *at = to + sizeof p;
    memcpy(p.registers, r, sizeof p.registers);
    if (w->stack_bytes) p.stack_bytes = (uint16_t)stack_copy(t, r->slot + ATF_SLOT_BELOW_CFA, w->stack_bytes, at);
    memcpy(to, &p, sizeof p);
    at += p.stack_bytes;
    if (w->args) at = block(at, ATF_TAG_VECTORS, r->vectors, sizeof r->vectors);
    if (w->backtrace) at = backtrace(t, f, p.lr, at);
    if (mask) at = texts(mask, r, at);
    return (uint32_t)(at - to);
}

uint32_t atf_capture_return(uint64_t id, uint64_t ret, const atf_registers *r, uint8_t *to)
{
    atf_native_payload p = {.function_id = id, .lr = ret, .fp = r->fp, .sp = r->slot};
    memcpy(p.registers, r, sizeof p.registers);
    p.registers[0] = atf_first_result(r);
    memcpy(to, &p, sizeof p);
    return (uint32_t)(block(to + sizeof p, ATF_TAG_VECTORS, r->vectors, ATF_RETURN_VECTORS * sizeof r->vectors[0]) - to);
}
