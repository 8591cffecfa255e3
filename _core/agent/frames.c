/* Frames: which return addresses are ours, and what becomes of them when they leave the order of calls and returns. Compiled for
 * general registers only, like record.c, whose half of the slow paths brackets every function here. */
#include "agent.h"
#include <signal.h>
#include <sys/syscall.h>

static int at_home(const atf_agent_thread *t, uint64_t a) { return a >= t->home_low && a < t->home_high; }
static uint64_t ours(const atf_frame *f) { return (uint64_t)(uintptr_t)(f->stub + STUB_RET_BODY - STUB_RET_ENTER); } /* where its function returns to */
static int hijacked(const atf_frame *f) { return atf_slot_taken((const uint64_t *)f->slot, ours(f)); }
static void pop(atf_agent_thread *t)
{
    t->top->slot = 0;
    t->top->start = 0;
    t->top--;
    if (t->top < t->raised) t->raised = t->top;
}

/* A frame that was left without returning. */
static void pop_dead(atf_agent_thread *t, uint32_t kind)
{
    atf_frame f = *t->top;
    pop(t);
    if (f.stub) atf_call_end(t, &f, kind, NULL);
}

/* A frame off the order is recorded however long it lasts: what comes now would be older than its CALL. */
static void orphan(atf_agent_thread *t, int mine)
{
    if (t->top->slot && t->top->stub) { /* Python's calls are no function's: they have nowhere to return to */
        if (mine && t->core.live) atf_calls_out(t, UINT64_MAX);
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
            if (atf_slot_return(at) == ours(f)) return f;
            if (!ATF_SLOTS_HOLD) atf_orphan_put(f); /* alive perhaps: hand-written code that keeps its return address in a register */
            pop_dead(t, t->unwinding ? ATF_EXCEPTION : 0);
        } else if (at_home(t, slot) && at_home(t, f->slot)) pop_dead(t, t->unwinding ? ATF_EXCEPTION : 0); /* longjmp, an exception, a thread that was cancelled */
        else if (on_signal_stack()) return NULL;
        else if (at_home(t, slot)) orphan(t, 1); /* a coroutine that was switched away */
        else return NULL;
    }
}

/* 0: left by longjmp, and what was called since stands where its return address was. */
int atf_frame_holds(const atf_agent_thread *t, const atf_frame *f)
{
    return f == t->bottom || !f->stub || atf_frame_reported(f) || !at_home(t, f->slot) || hijacked(f) || t->unwinding;
}

void atf_frames_settle_python(atf_agent_thread *t, uint64_t sp)
{
    settle(t, (uint64_t *)(uintptr_t)sp);
    while (!atf_frame_holds(t, t->top)) pop_dead(t, 0);
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
    f->ret = atf_slot_return(slot);
    f->stub = stub;
    f->depth = depth + 1;
    return f;
}

static int keep(atf_agent_thread *t, uint32_t kind, const uint8_t *stub, uint32_t depth)
{
    uint32_t n = t->aside;
    t->kept[n] = (atf_event){atf_ticks(t->core.clock_type), atf_stub_id(stub), t->tid, kind, depth, ATF_NO_DETAIL};
    ATF_BARRIER();
    t->aside = n + 1;
    return 1;
}

/* The top frame's call is over, its frame goes on with another call. */
static void ended_by_tail_call(atf_agent_thread *t)
{
    atf_frame f = *t->top;
    pop(t);
    atf_call_end(t, &f, ATF_RETURN, NULL);
    f.start = 0;
    t->top[1] = f; /* a handler's frames may have stood there */
    ATF_BARRIER();
    t->top++;
}

/* In a signal handler, while this thread is in a slow path: kept until it leaves it, if there is room for the return too. */
static uint32_t enter_aside(atf_agent_thread *t, uint64_t *slot, const uint8_t *stub)
{
    atf_frame *f = NULL;
    int room = t && t->core.live && atf_recording && !atf_load_relaxed32(&t->finished) && t->aside + t->aside_open + 2 <= ATF_KEPT;
    if (room && (atf_stub_flags(stub) & STUB_ENTRY_ONLY)) {
        keep(t, ATF_CALL, stub, t->top->depth + 1);
        return 0;
    }
    if (room) f = push(t, slot, stub);
    if (!f) {
        atf_agent_counts->skipped++;
        if (t) t->unwritten += 1 + !(atf_stub_flags(stub) & STUB_ENTRY_ONLY);
        return 0;
    }
    t->aside_open++;
    t->undetailed += !!(atf_stub_flags(stub) & STUB_DETAILS);
    return (uint32_t)keep(t, ATF_CALL, stub, f->depth);
}

static uint32_t enter(uint64_t *slot, const uint8_t *stub, const atf_registers *r)
{
    uint32_t flags = atf_stub_flags(stub);
    if (flags & STUB_ENTRY_ONLY && flags & STUB_TIMED) return 0; /* how long it lasts nobody will know */
    if (!atf_work_begin((uint64_t)(uintptr_t)slot)) return atf_agent_busy == ATF_QUIET ? 0 : enter_aside(atf_self_block, slot, stub);
    int error = atf_error_now();
    uint32_t traced = 0;
    atf_agent_thread *t = atf_self_block ? atf_self_block : atf_work_first();
    atf_thread *c = t ? atf_work_ready(t) : NULL;
    if (c) {
        atf_frame *replaced = settle(t, slot);
        if (replaced) ended_by_tail_call(t);
        if (flags & STUB_ENTRY_ONLY) {
            if (replaced) { /* what it would return to is ours: it must be there still */
                atf_call_alone(t, stub, replaced->depth, r);
                atf_write(c, ATF_RETURN, atf_stub_id(stub), replaced->depth, ATF_NO_DETAIL);
                atf_call_begin(t, replaced, NULL);
            } else atf_call_alone(t, stub, t->top->depth + 1, r);
        } else if (replaced) {
            replaced->stub = stub;
            traced = 1;
        } else traced = push(t, slot, stub) != NULL;
        if (traced) atf_call_begin(t, t->top, r);
    }
    atf_error_back(error);
    atf_work_end(t);
    return traced;
}

uint32_t atf_agent_enter(uint64_t *slot, const uint8_t *stub) { return enter(slot, stub, NULL); }
uint32_t atf_agent_enter_details(const atf_registers *r)
{
    uint64_t *slot = (uint64_t *)r->slot;
    return enter(slot, (const uint8_t *)(uintptr_t)atf_slot_stub(slot), r);
}

/* A frame of this thread's shadow stack, else one off the order, else one of another thread (a coroutine that moved). */
static int find(atf_agent_thread *t, uint64_t slot, atf_frame *found, int mine)
{
    for (atf_frame *f = t->top; f > t->bottom; f--)
        if (f->slot == slot) {
            while (t->top > f) {
                if (at_home(t, slot) && at_home(t, t->top->slot) && t->top->slot < slot) mine && t->core.live ? pop_dead(t, 0) : pop(t);
                else orphan(t, mine);
            }
            *found = *f;
            pop(t);
            return 1;
        }
    if (atf_orphan_take(slot, found)) {
        if (found->start) found->start = ATF_START_TO_COME; /* later than now: its CALL cannot be written here, it counts as too short */
        return 1;
    }
    for (atf_agent_thread *o = atf_block_first(); o; o = o->next)
        for (atf_frame *f = o == t ? o->bottom : atf_load_acquire32(&o->finished) ? o->bottom : o->top; f > o->bottom; f--)
            if (f->slot == slot) {
                *found = *f;
                if (found->start) found->start = ATF_START_TO_COME;
                return 1;
            }
    return 0;
}

static uint64_t leave(uint64_t *slot, const atf_registers *r)
{
    int mine = atf_work_begin((uint64_t)(uintptr_t)slot);
    int error = atf_error_now();
    atf_frame f;
    atf_agent_thread *t = atf_self_block ? atf_self_block : atf_work_first();
    atf_thread *c = mine && t ? atf_work_ready(t) : NULL; /* first: a forked child's lane begins with the frames that are there */
    if (!t || !find(t, (uint64_t)(uintptr_t)slot, &f, mine)) __builtin_trap(); /* nobody knows where to go on */
    if (mine) {
        if (c) atf_call_end(t, &f, ATF_RETURN, r);
    } else if (t->aside_open && t->aside < ATF_KEPT) {
        t->aside_open--;
        keep(t, ATF_RETURN, f.stub, f.depth);
    }
    atf_error_back(error);
    if (mine) atf_work_end(t);
    return f.ret;
}

uint64_t atf_agent_leave(uint64_t *slot) { return leave(slot, NULL); }
uint64_t atf_agent_leave_details(const atf_registers *r) { return leave((uint64_t *)r->slot, r); }

/* ---------------------------------------------------------------- unwinders */
static void back(atf_frame *f)
{
    atf_slot_put((uint64_t *)f->slot, ours(f), f->ret);
}
static void again(atf_frame *f)
{
    if (!atf_frame_reported(f)) atf_slot_put((uint64_t *)f->slot, f->ret, ours(f));
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

uint64_t atf_agent_returns_to(uint64_t slot, uint64_t address)
{
    atf_agent_thread *t = atf_self_block;
    atf_frame away;
    for (atf_frame *f = t ? t->top : NULL; t && f > t->bottom; f--)
        if (f->slot == slot && f->stub && ours(f) == address) return f->ret;
    if (atf_orphan_take(slot, &away)) {
        atf_orphan_put(&away);
        if (ours(&away) == address) return away.ret;
    }
    for (atf_agent_thread *o = atf_block_first(); o; o = o->next)
        for (atf_frame *f = o == t || atf_load_acquire32(&o->finished) ? o->bottom : o->top; f > o->bottom; f--)
            if (f->slot == slot && f->stub && ours(f) == address) return f->ret;
    return 0;
}

void atf_agent_frames_back(uint64_t above)
{
    int mine = atf_work_begin(above), error = atf_error_now();
    each_frame(above, back);
    if (atf_self_block) atf_self_block->unwinding = atf_self_block->raising = 1, atf_self_block->raised = atf_self_block->top;
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
        /* A reported frame's slot is its function's stack pointer, which stands at `above` where that function catches. */
        while (t->top > t->bottom && t->top->slot && t->top->slot + 8 * atf_frame_reported(t->top) <= above && at_home(t, above) == at_home(t, t->top->slot)) {
            if (c) pop_dead(t, ATF_EXCEPTION);
            else pop(t);
        }
        each_frame(above, again);
        t->unwinding = t->raising = 0;
    }
    atf_error_back(error);
    atf_work_end(t);
}

/* Frames of the unwinder and of the personality routine, where they are traced too, are younger and alive: their slots are ours. */
void atf_agent_frames_land(uint64_t cfa)
{
    uint64_t sp = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    if (!atf_work_begin(sp)) return;
    int error = atf_error_now();
    atf_agent_thread *t = atf_self_block;
    if (t && t->unwinding) {
        atf_thread *c = atf_work_ready(t);
        for (atf_frame *f = t->top; f > t->bottom && f->slot + ATF_SLOT_BELOW_CFA <= cfa; f--) {
            int younger = ATF_SLOTS_HOLD ? !atf_frame_reported(f) && hijacked(f) : f > t->raised;
            if (f->slot <= sp || younger) continue;
            if (c && f->stub) atf_call_end_inside(t, f, ATF_EXCEPTION);
            atf_frame_out(t, f);
            pop(t);
        }
        each_frame(cfa - ATF_SLOT_BELOW_CFA, again);
        t->unwinding = 0;
    }
    atf_error_back(error);
    atf_work_end(t);
}

/* ---------------------------------------------------------------- for cyg.c and profiler.c */
uint32_t atf_frame_reported(const atf_frame *f) { return f->stub && (atf_stub_flags(f->stub) & STUB_CYG) != 0; }
void atf_frame_pop(atf_agent_thread *t) { pop(t); }
void atf_frame_dead(atf_agent_thread *t) { pop_dead(t, t->raising ? ATF_EXCEPTION : 0); }
void atf_frame_orphan(atf_agent_thread *t) { orphan(t, 1); }
void atf_frame_returned(atf_agent_thread *t) { pop_dead(t, ATF_RETURN); }
atf_frame *atf_frames_settle(atf_agent_thread *t, uint64_t slot) { return settle(t, (uint64_t *)slot); }
atf_frame *atf_frames_push(atf_agent_thread *t, uint64_t slot, const uint8_t *stub) { return push(t, (uint64_t *)slot, stub); }
uint32_t atf_frames_enter_aside(atf_agent_thread *t, uint64_t slot, const uint8_t *stub) { return enter_aside(t, (uint64_t *)slot, stub); }

void atf_frames_leave_aside(atf_agent_thread *t)
{
    t->aside_open--;
    keep(t, ATF_RETURN, t->top->stub, t->top->depth);
    pop(t);
}
