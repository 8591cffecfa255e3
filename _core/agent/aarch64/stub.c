/* Stubs of aarch64:
 *
 *   stub:   stp x16, x17, [sp, #-16]! ; adr x17, stub ; b enter    the hook's branch leads here
 *   +12     stp x16, x17, [sp, #-16]! ; adr x17, stub ; b leave    the function returns here
 *   +24     flags, id
 *   +40     ldp x16, x17, [sp], #16
 *   +44     the moved instruction, then on
 *
 * At an arena's head stand four ways on to hot.S, which may be too far for a branch. */
#include "../trap.h"
#include "encode.h"
#include <sys/syscall.h>

extern const uint8_t atf_hot_enter[], atf_hot_leave[], atf_hot_enter_details[], atf_hot_leave_details[];
enum { ENTER, LEAVE, ENTER_DETAILS, LEAVE_DETAILS, WAYS };
#define WAY_BYTES 16
#define PUSH 0xA9BF47F0u /* stp x16, x17, [sp, #-16]! */
#define POP 0xA8C147F0u  /* ldp x16, x17, [sp], #16 */
#define ADR_X17(back) (0x10000011u | ((uint32_t)(-(back) >> 2) & 0x7FFFF) << 5)

uint32_t atf_hot_put(uint8_t *to)
{
    const uint8_t *const ways[WAYS] = {atf_hot_enter, atf_hot_leave, atf_hot_enter_details, atf_hot_leave_details};
    for (int i = 0; i < WAYS; i++) {
        uint64_t target = (uint64_t)(uintptr_t)ways[i];
        uint32_t words[4] = {0x58000040u | A64_X16, A64_BR_X16, (uint32_t)target, (uint32_t)(target >> 32)};
        memcpy(to + WAY_BYTES * i, words, sizeof words);
    }
    return WAY_BYTES * WAYS;
}

static uint32_t branch_to(const uint8_t *at, const uint8_t *target)
{
    uint32_t word;
    return atf_a64_branch(&word, at, (uint64_t)(uintptr_t)target) ? word : 0;
}

/* Whether a branch of the function itself leads to the hook: a loop that begins there would count as calls. */
static int loops_to(const uint8_t *code, uint32_t size, uint32_t hook)
{
    for (uint32_t i = 0; i + 4 <= size; i += 4) {
        uint32_t w = atf_a64_word(code + i);
        int64_t d = 0;
        if ((w & 0xFC000000) == 0x14000000) d = atf_a64_signed(w, 0, 26);
        else if ((w & 0xFF000000) == 0x54000000 || (w & 0x7E000000) == 0x34000000) d = atf_a64_signed(w, 5, 19);
        else if ((w & 0x7E000000) == 0x36000000) d = atf_a64_signed(w, 5, 14);
        if (d && (int64_t)i + d * 4 == hook) return 1;
    }
    return 0;
}

int atf_stub_build(atf_arena *a, uint8_t *start, uint32_t size, uint32_t room, uint64_t id, uint32_t flags, void *wrapper, atf_hook *h)
{
    uint8_t *s = a->at, *hot = a->start;
    if (s + ATF_STUB_MOST > a->end - sizeof(atf_arena)) return ATF_WHY_REACH;
    if (size < 4 || room < 4) return ATF_WHY_SHORT;
    uint32_t offset = atf_landing(start);
    if (size < offset + 4) return ATF_WHY_SHORT;
    uint8_t *code = start + offset;
    if (!wrapper && loops_to(start, size, offset)) return ATF_WHY_JUMP_BACK;
    int why = atf_relocate(code, size - offset, room - offset, s + STUB_BODY, &h->moved);
    if (why) return why;
    uint32_t patch = flags & ATF_FN_TRAP ? ATF_TRAP : branch_to(code, s);
    if (!patch) return ATF_WHY_REACH;
    memset(s, 0, STUB_BODY);
    flags &= ~ATF_FN_PROFILED;
    if (wrapper) {
        uint64_t target = (uint64_t)(uintptr_t)wrapper;
        uint32_t words[4] = {0x58000040u | A64_X16, A64_BR_X16, (uint32_t)target, (uint32_t)(target >> 32)};
        memcpy(s, words, sizeof words);
    } else {
        int details = flags & STUB_DETAILS ? ENTER_DETAILS : ENTER;
        uint32_t words[6] = {PUSH, ADR_X17(4), branch_to(s + 8, hot + WAY_BYTES * details), PUSH, ADR_X17(16), branch_to(s + 20, hot + WAY_BYTES * (details + 1))};
        uint32_t pop = POP;
        memcpy(s, words, sizeof words);
        memcpy(s + STUB_BACK, &pop, 4);
        memcpy(s + STUB_FLAGS, &flags, 4);
        memcpy(s + STUB_ID, &id, 8);
    }
    h->bytes = ATF_PATCH_BYTES;
    h->way = ATF_WAY_JUMP;
    h->address = code;
    h->stub = s;
    memcpy(h->original, code, ATF_PATCH_BYTES);
    memcpy(h->patch, &patch, ATF_PATCH_BYTES);
    a->at = s + (STUB_BODY + h->moved.bytes + 15) / 16 * 16;
    return 0;
}

/* A guarded control stack of the processor's would take our return addresses for an attack. */
int atf_shadow_stack(void)
{
    uint64_t features = 0;
    return atf_call(SYS_prctl, 74 /* PR_GET_SHADOW_STACK_STATUS */, (long)&features, 0, 0, 0, 0) == 0 && (features & 1);
}
