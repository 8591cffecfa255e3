/* Frames: which return addresses are ours, and what becomes of them when they leave the order of calls and returns. Compiled for
 * general registers only, like record.c, whose half of the slow paths brackets every function here. */
#include "agent.h"
#include <signal.h>
#include <sys/syscall.h>

static int at_home(const atf_agent_thread *t, uint64_t a) { return a >= t->home_low && a < t->home_high; }
static int hijacked(const atf_frame *f) { return *(const uint64_t *)f->slot == (uint64_t)(uintptr_t)(f->stub + STUB_RET_BODY - STUB_RET_ENTER); }
static uint64_t id_of(const uint8_t *stub)
{
    uint64_t id;
    memcpy(&id, stub + STUB_ID - STUB_RET_ENTER, 8);
    return id;
}

static void pop(atf_agent_thread *t)
{
    t->top->slot = 0;
    t->top--;
}

/* A frame that was left without returning. */
static void pop_dead(atf_agent_thread *t)
{
    if (t->unwinding && t->top->stub) atf_write(&t->core, ATF_EXCEPTION, id_of(t->top->stub), t->top->depth, ATF_NO_DETAIL);
    pop(t);
}

static void orphan(atf_agent_thread *t)
{
    if (t->top->slot && t->top->stub) { /* Python's calls are no function's: they have nowhere to return to */
        atf_orphan_put(t->top);
        atf_agent_counts->orphans++;
    }
    pop(t);
}

static int on_signal_stack(void)
{
    stack_t now = {0};
    return atf_call(SYS_sigaltstack, 0, (long)&now, 0, 0, 0, 0) == 0 && (now.ss_flags & SS_ONSTACK);
}

/* Brings the shadow stack in line with a frame that begins at `slot`: takes off what was left without returning. Returns the
 * frame that this one replaces by a tail call, else NULL. */
static atf_frame *settle(atf_agent_thread *t, uint64_t *at)
{
    uint64_t slot = (uint64_t)(uintptr_t)at;
    for (;;) {
        atf_frame *f = t->top;
        if (f->slot == 0 || slot < f->slot) return NULL;
        if (slot == f->slot) {
            if (hijacked(f)) return f;
            pop_dead(t);
        } else if (at_home(t, slot) && at_home(t, f->slot)) pop_dead(t); /* longjmp, an exception, a thread that was cancelled */
        else if (on_signal_stack()) return NULL;
        else if (at_home(t, slot)) orphan(t); /* a coroutine that was switched away */
        else return NULL;
    }
}

/* 0: left by longjmp, and what was called since stands where its return address was. */
int atf_frame_holds(const atf_agent_thread *t, const atf_frame *f)
{
    return f == t->bottom || !f->stub || !at_home(t, f->slot) || hijacked(f) || t->unwinding;
}

void atf_frames_settle(atf_agent_thread *t, uint64_t sp)
{
    settle(t, (uint64_t *)(uintptr_t)sp);
    while (!atf_frame_holds(t, t->top)) pop_dead(t);
}

static atf_frame *push(atf_agent_thread *t, uint64_t *slot, const uint8_t *stub)
{
    atf_frame *f = t->top + 1;
    if (f->wall) return NULL;
    uint32_t depth = t->top->depth;
    if (t->top != t->bottom && t->top->slot == 0) depth = t->top[-1].depth + 1; /* being made: not filled in yet */
    t->top = f;
    ATF_BARRIER();
    f->slot = (uint64_t)(uintptr_t)slot;
    f->ret = *slot;
    f->stub = stub;
    f->depth = depth + 1;
    return f;
}

static uint32_t flags_of(const uint8_t *stub)
{
    uint32_t flags;
    memcpy(&flags, stub + STUB_FLAGS - STUB_RET_ENTER, 4);
    return flags;
}

static int keep(atf_agent_thread *t, uint32_t kind, const uint8_t *stub, uint32_t depth)
{
    uint32_t n = t->aside;
    t->kept[n] = (atf_event){atf_ticks(t->core.clock_type), id_of(stub), t->tid, kind, depth, ATF_NO_DETAIL};
    ATF_BARRIER();
    t->aside = n + 1;
    return 1;
}

/* In a signal handler, while this thread is in a slow path: kept until it leaves it, if there is room for the return too. */
static uint32_t enter_aside(atf_agent_thread *t, uint64_t *slot, const uint8_t *stub)
{
    atf_frame *f = NULL;
    int room = t && t->core.live && atf_recording && !t->finished && t->aside + t->aside_open + 2 <= ATF_KEPT;
    if (room && (flags_of(stub) & STUB_ENTRY_ONLY)) {
        keep(t, ATF_CALL, stub, t->top->depth + 1);
        return 0;
    }
    if (room) f = push(t, slot, stub);
    if (!f) {
        atf_agent_counts->skipped++;
        if (t) t->unwritten += 1 + !(flags_of(stub) & STUB_ENTRY_ONLY);
        return 0;
    }
    t->aside_open++;
    return (uint32_t)keep(t, ATF_CALL, stub, f->depth);
}

uint32_t atf_agent_enter(uint64_t *slot, const uint8_t *stub)
{
    if (!atf_work_begin((uint64_t)(uintptr_t)slot)) return atf_agent_busy == ATF_QUIET ? 0 : enter_aside(atf_self_block, slot, stub);
    int error = atf_error_now();
    uint32_t traced = 0;
    atf_agent_thread *t = atf_self_block ? atf_self_block : atf_work_first();
    atf_thread *c = t ? atf_work_ready(t) : NULL;
    if (c) {
        atf_frame *replaced = settle(t, slot);
        if (replaced) atf_write(c, ATF_RETURN, id_of(replaced->stub), replaced->depth, ATF_NO_DETAIL);
        if (flags_of(stub) & STUB_ENTRY_ONLY) {
            if (replaced) { /* what it would return to is ours: it must be there still */
                atf_write(c, ATF_CALL, id_of(stub), replaced->depth, ATF_NO_DETAIL);
                atf_write(c, ATF_RETURN, id_of(stub), replaced->depth, ATF_NO_DETAIL);
                atf_write(c, ATF_CALL, id_of(replaced->stub), replaced->depth, ATF_NO_DETAIL);
            } else atf_write(c, ATF_CALL, id_of(stub), t->top->depth + 1, ATF_NO_DETAIL);
        } else if (replaced) {
            replaced->stub = stub;
            traced = 1;
        } else traced = push(t, slot, stub) != NULL;
        if (traced) atf_write(c, ATF_CALL, id_of(stub), t->top->depth, ATF_NO_DETAIL);
    }
    atf_error_back(error);
    atf_work_end(t);
    return traced;
}

/* A frame of this thread's shadow stack, else one off the order, else one of another thread (a coroutine that moved). */
static int find(atf_agent_thread *t, uint64_t slot, atf_frame *found)
{
    for (atf_frame *f = t->top; f > t->bottom; f--)
        if (f->slot == slot) {
            while (t->top > f) {
                if (at_home(t, slot) && at_home(t, t->top->slot) && t->top->slot < slot) pop(t);
                else orphan(t);
            }
            *found = *f;
            pop(t);
            return 1;
        }
    if (atf_orphan_take(slot, found)) return 1;
    for (atf_agent_thread *o = atf_block_first(); o; o = o->next)
        for (atf_frame *f = o == t ? o->bottom : atf_load_acquire32(&o->finished) ? o->bottom : o->top; f > o->bottom; f--)
            if (f->slot == slot) {
                *found = *f;
                return 1;
            }
    return 0;
}

uint64_t atf_agent_leave(uint64_t *slot)
{
    int mine = atf_work_begin((uint64_t)(uintptr_t)slot);
    int error = atf_error_now();
    atf_frame f;
    atf_agent_thread *t = atf_self_block ? atf_self_block : atf_work_first();
    if (!t || !find(t, (uint64_t)(uintptr_t)slot, &f)) __builtin_trap(); /* nobody knows where to go on */
    if (mine) {
        atf_thread *c = atf_work_ready(t);
        if (c) atf_write(c, ATF_RETURN, id_of(f.stub), f.depth, ATF_NO_DETAIL);
    } else if (t->aside_open && t->aside < ATF_KEPT) {
        t->aside_open--;
        keep(t, ATF_RETURN, f.stub, f.depth);
    }
    atf_error_back(error);
    if (mine) atf_work_end(t);
    return f.ret;
}

/* ---------------------------------------------------------------- unwinders */
static void back(atf_frame *f)
{
    if (hijacked(f)) *(uint64_t *)f->slot = f->ret;
}
static void again(atf_frame *f)
{
    if (*(uint64_t *)f->slot == f->ret) *(uint64_t *)f->slot = (uint64_t)(uintptr_t)(f->stub + STUB_RET_BODY - STUB_RET_ENTER);
}

static void stack_of(atf_agent_thread *t, uint64_t sp, uint64_t *high)
{
    uint64_t low;
    *high = t->home_high;
    if (!at_home(t, sp) && !atf_block_home(sp, &low, high)) *high = sp + 4096;
}

static void each_frame(uint64_t above, void (*each)(atf_frame *f))
{
    atf_agent_thread *t = atf_self_block;
    uint64_t high;
    if (!t) return;
    stack_of(t, above, &high);
    for (atf_frame *f = t->top; f > t->bottom; f--)
        if (f->stub && f->slot > above && f->slot < high) each(f);
    if (!at_home(t, above)) atf_orphan_each(above + 1, high, each);
}

void atf_agent_frames_back(uint64_t above)
{
    int mine = atf_work_begin(above), error = atf_error_now();
    each_frame(above, back);
    if (atf_self_block) atf_self_block->unwinding = 1;
    atf_error_back(error);
    if (mine) atf_work_end(NULL);
}

void atf_agent_frames_again(uint64_t above)
{
    if (!atf_work_begin(above)) return;
    int error = atf_error_now();
    atf_agent_thread *t = atf_self_block;
    if (t) {
        atf_thread *c = atf_work_ready(t);
        while (t->top > t->bottom && t->top->slot && t->top->slot <= above && at_home(t, above) == at_home(t, t->top->slot)) {
            if (c && t->top->stub) atf_write(c, ATF_EXCEPTION, id_of(t->top->stub), t->top->depth, ATF_NO_DETAIL);
            pop(t);
        }
        each_frame(above, again);
        t->unwinding = 0;
    }
    atf_error_back(error);
    atf_work_end(t);
}
