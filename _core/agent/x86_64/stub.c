/* Stubs of x86-64, and the record path's copy at the head of each arena. */
#include "../trap.h"
#include <sys/syscall.h>

_Static_assert(ATF_STUB_MOST == STUB_BODY + STUB_FRAMED_POP + ATF_MOVED_MAX, "stub");

extern const uint8_t atf_hot_begin[], atf_hot_enter[], atf_hot_entry_only[], atf_hot_leave[], atf_hot_enter_framed[], atf_hot_literals[], atf_hot_end[];
extern const uint8_t atf_hot_enter_timed[], atf_hot_leave_timed[], atf_hot_enter_details[], atf_hot_leave_details[];
#define FASTS 6
#define SEQUENCES 6
extern const uint64_t atf_hot_cs[SEQUENCES][3], atf_hot_offsets[FASTS + SEQUENCES];

/* As the assembly has them. */
typedef struct atf_rseq_cs {
    uint32_t version, flags;
    uint64_t start, length, abort;
} atf_rseq_cs;
typedef struct atf_literals {
    atf_rseq_cs cs[SEQUENCES];
    uint64_t enter, leave, enter_details, leave_details;
} atf_literals;
_Static_assert(sizeof(atf_literals) == 224, "literals");

uint32_t atf_hot_put(uint8_t *p)
{
    size_t code = (size_t)(atf_hot_end - atf_hot_begin);
    memcpy(p, atf_hot_begin, code);
    atf_literals l = {0};
    char *thread = __builtin_thread_pointer();
    int64_t from_thread = (char *)&atf_agent_fast - thread;
    __asm__("" : "+r"(from_thread)); /* a plain load of 64 bits: the only one that a linker of programs (of our tests) can replace */
    int32_t fast = (int32_t)from_thread;
    int32_t sequence = (int32_t)atf_rseq_place();
    for (int i = 0; i < FASTS + SEQUENCES; i++) memcpy(p + atf_hot_offsets[i] - 4, i < FASTS ? &fast : &sequence, 4);
    l.enter = (uint64_t)(uintptr_t)atf_agent_enter;
    l.leave = (uint64_t)(uintptr_t)atf_agent_leave;
    l.enter_details = (uint64_t)(uintptr_t)atf_agent_enter_details;
    l.leave_details = (uint64_t)(uintptr_t)atf_agent_leave_details;
    for (int i = 0; i < SEQUENCES; i++) l.cs[i] = (atf_rseq_cs){0, 0, (uint64_t)p + atf_hot_cs[i][0], atf_hot_cs[i][1] - atf_hot_cs[i][0], (uint64_t)p + atf_hot_cs[i][2]};
    memcpy(p + (atf_hot_literals - atf_hot_begin), &l, sizeof l);
    return (uint32_t)code;
}

/* Five bytes to `out` that will stand at `at`. */
static void branch_at(uint8_t *out, const uint8_t *at, uint8_t op, const uint8_t *target)
{
    int32_t d = (int32_t)(target - (at + 5));
    *out = op;
    memcpy(out + 1, &d, 4);
}
static void branch(uint8_t *at, uint8_t op, const uint8_t *target) { branch_at(at, at, op, target); }

/* The record path of a stub: [entry], [return]. */
static const uint8_t *hot_of(uint32_t flags, int leaves)
{
    if (flags & STUB_DETAILS || (flags & STUB_TIMED && flags & STUB_ENTRY_ONLY)) return leaves ? atf_hot_leave_details : atf_hot_enter_details;
    if (flags & STUB_TIMED) return leaves ? atf_hot_leave_timed : atf_hot_enter_timed;
    return leaves ? atf_hot_leave : flags & STUB_ENTRY_ONLY ? atf_hot_entry_only : atf_hot_enter;
}

int atf_stub_build(atf_arena *a, uint8_t *start, uint32_t size, uint32_t room, uint64_t id, uint32_t flags, void *wrapper, atf_hook *h)
{
    uint8_t *s = a->at, *hot = a->start;
    atf_entry e;
    if (s + ATF_STUB_MOST > a->end - sizeof(atf_arena)) return ATF_WHY_REACH;
    h->bytes = flags & ATF_FN_TRAP ? ATF_TRAP_BYTES : ATF_PATCH_BYTES;
    memset(&e, 0, sizeof e);
    int why = flags & ATF_FN_TRAP ? 0 : atf_entry_find(start, size, room, flags & ATF_FN_PROFILED, &e);
    /* Behind a prologue the arguments' registers may hold other things, and the stack pointer is another. */
    if (!why && e.framed && flags & (STUB_DETAILS | STUB_TIMED)) why = ATF_WHY_PROFILER_FRAME;
    if (why) return why;
    flags = (flags & ~ATF_FN_PROFILED) | (e.framed && !(flags & STUB_ENTRY_ONLY) ? STUB_FRAMED : 0);
    uint8_t *code = start + e.offset, *body = s + STUB_BODY + (flags & STUB_FRAMED ? STUB_FRAMED_POP : 0);
    if (e.way == ATF_WAY_NOPS) why = atf_entry_nops(code, e.nops, body, &h->moved);
    else if (flags & ATF_FN_TRAP) why = atf_move_first(code, room, body, &h->moved);
    else why = atf_relocate(code, size - e.offset, room - e.offset, body, &h->moved);
    if (why) return why;
    h->way = (uint8_t)e.way;
    memset(s, 0xCC, STUB_BODY);
    if (wrapper) {
        memcpy(s, "\xFF\x25\x02\x00\x00\x00", 6); /* jmp *2(%rip) */
        memcpy(s + 8, &wrapper, 8);
    } else if (flags & STUB_ENTRY_ONLY) {
        branch(s, 0xE8, hot + (hot_of(flags, 0) - atf_hot_begin));
        branch(s + 5, 0xE9, s + STUB_BODY);
    } else if (flags & STUB_FRAMED) {
        branch(s, 0xE8, hot + (atf_hot_enter_framed - atf_hot_begin));
        memcpy(s + 5, "\x0F\x1F\x44\x00\x00", 5); /* nop */
        branch(s + 10, 0xE8, s + STUB_BODY);
        branch(s + STUB_RET_BODY, 0xE9, hot + (atf_hot_leave - atf_hot_begin));
        memcpy(s + STUB_BODY, "\x8F\x45\x08", STUB_FRAMED_POP); /* pop 8(%rbp): what the call pushed becomes the return address */
        for (uint32_t i = 0; i < h->moved.count; i++) h->moved.moved_at[i] = (uint8_t)(h->moved.moved_at[i] + STUB_FRAMED_POP);
        h->moved.bytes = (uint8_t)(h->moved.bytes + STUB_FRAMED_POP);
    } else {
        branch(s, 0xE8, hot + (hot_of(flags, 0) - atf_hot_begin));
        memcpy(s + 5, "\x48\x8D\x64\x24\x08", 5); /* lea 8(%rsp), %rsp: the call below writes over the return address */
        branch(s + 10, 0xE8, s + STUB_BODY);
        branch(s + STUB_RET_BODY, 0xE9, hot + (hot_of(flags, 1) - atf_hot_begin));
    }
    if (!wrapper) {
        memcpy(s + STUB_FLAGS, &flags, 4);
        memcpy(s + STUB_ID, &id, 8);
    }
    h->address = code;
    h->stub = s;
    memcpy(h->original, code, h->bytes);
    if (flags & ATF_FN_TRAP) h->patch[0] = 0xCC;
    else branch_at(h->patch, code, 0xE9, s);
    a->at = s + (STUB_BODY + h->moved.bytes + 15) / 16 * 16;
    return 0;
}

/* A shadow stack of the processor's would take our return addresses for an attack. */
int atf_shadow_stack(void)
{
    uint64_t features = 0;
    return atf_call(SYS_arch_prctl, 0x5005 /* ARCH_SHSTK_STATUS */, (long)&features, 0, 0, 0, 0) == 0 && (features & 1);
}
