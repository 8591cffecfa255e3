/* The record path's slow half: a thread's first event, ring swaps, frames out of order, and everything while the fast path is
 * not ready. Compiled for general registers only. `busy` is set before anything else: what the agent itself calls may be traced. */
#include "agent.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

_Thread_local atf_agent_thread *atf_agent_fast ATF_IE;
_Thread_local atf_rseq atf_agent_rseq ATF_IE;
static _Thread_local atf_agent_thread *self __attribute__((tls_model("initial-exec")));
static _Thread_local uint64_t busy __attribute__((tls_model("initial-exec"))); /* the stack pointer in the agent; 0: not there */
static atf_plan nobody;
atf_plan *atf_agent_counts = &nobody;
void atf_orphan_forked(void);

static pthread_key_t end_key;
static uint64_t no_head; /* what `head` points to without a ring: 0 records of 0 */
static atf_control *control;
static void *mapped[3];
static uint32_t serial, owner;
static int registering;

/* Keeps the compiler from moving stores: a signal handler of this thread sees them in the order written. */
#define BARRIER() __asm__ __volatile__("" : : : "memory")

/* ---------------------------------------------------------------- in and out */
/* errno stands at a constant distance from the thread pointer; asking the C library for its place may be traced. */
static int64_t error_at;
static int error_now(void) { return *(int *)((char *)__builtin_thread_pointer() + error_at); }
static void error_back(int error) { *(int *)((char *)__builtin_thread_pointer() + error_at) = error; }

/* A handler that left the agent by longjmp never came back here: the stack is above where it was. */
static int enter(uint64_t sp)
{
    if (ATF_UNLIKELY(busy)) {
        if (!self || busy >= sp || sp >= self->home_high || busy < self->home_low) return 0;
    }
    busy = sp;
    if (self) self->at_work = 1;
    atf_agent_fast = NULL;
    return 1;
}

/* What the fast path needs from the record path's own books; 1: it may begin. */
static int publish(atf_agent_thread *t)
{
    atf_thread *c = &t->core;
    int ring = c->live && c->slot && c->cursor && c->cursor != c->end;
    t->gate = c->gate;
    t->base = ring ? c->cursor - c->count : NULL;
    t->negcap = ring ? -(int64_t)(c->end - t->base) : 0;
    t->head = ring ? c->head : &no_head;
    *atf_seen(t) = T_SEEN_BIAS - c->gate_seen;
    return ring && c->clock_type == ATF_CLOCK_TSC && t->restartable && !t->finished;
}

/* The other way: the fast path counts in the ring's head alone. */
static void take_over(atf_agent_thread *t)
{
    if (t->head == &no_head || !t->core.live) return;
    t->core.count = atf_load_relaxed64(t->head);
    t->core.cursor = t->base + t->core.count;
}

/* Calls and returns of signal handlers that came meanwhile: they are younger than what was written here. */
static void write_kept(atf_agent_thread *t)
{
    for (uint32_t i = 0;;) {
        uint32_t n = atf_load_acquire32(&t->aside);
        if (i == n) {
            if (!n || atf_cas_acq_rel32(&t->aside, n, 0)) return;
            continue;
        }
        const atf_event *e = &t->kept[i++];
        if (t->core.live) atf_write_at(&t->core, e->timestamp_ns, e->event_kind, e->function_id, e->call_depth, ATF_NO_DETAIL);
    }
}

/* A handler that comes between the last three steps does all of this for itself. */
static void leave(atf_agent_thread *t)
{
    int fast = 0;
    do {
        if (t) {
            busy = busy ? busy : 1;
            write_kept(t);
            fast = publish(t);
            t->at_work = 0;
        }
        BARRIER();
        busy = 0;
        BARRIER();
    } while (t && t->aside);
    if (fast) atf_agent_fast = t;
}

/* ---------------------------------------------------------------- threads */
static void name_thread(atf_thread *t)
{
    char name[16];
    if (!t->slot || t->tid == owner || atf_call(SYS_prctl, PR_GET_NAME, (long)name, 0, 0, 0, 0) != 0) {
        t->unnamed = 0;
        return;
    }
    size_t n = 0;
    while (n < 15 && name[n]) n++;
    atf_slot_name_put(t->slot, name, n);
    t->unnamed = 0;
}

/* Runs in every round of the destructors of thread-specific data but the last, so that what they call is recorded too. */
static void thread_ends(void *value)
{
    atf_agent_thread *t = value;
    uint64_t sp = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    if (!enter(sp)) return;
    int error = error_now();
    if (++t->rounds < 4) {
        pthread_setspecific(end_key, t);
        leave(t);
    } else {
        take_over(t);
        t->core.seq_base += t->unwritten; /* what is missing at the end shows in the slot's last number */
        t->unwritten = 0;
        if (atf_self == &t->core && t->serial == serial && control) atf_thread_exit(&t->core);
        t->core.live = 0;
        t->head = &no_head;
        atf_store_release32(&t->finished, 1);
        leave(t);
    }
    error_back(error);
}

/* Nothing in the block points into the segments any more; the fast path, where it is enabled, ends at its first check. */
static void let_go(atf_agent_thread *t)
{
    t->gate = &t->core.gate_seen;
    t->head = &no_head, t->base = NULL, t->negcap = 0;
    *atf_seen(t) = 0;
}

/* A forked child lets go of what is its parent's. Its shadow stack is its own copy. */
static void forked(void)
{
    atf_session_forked();
    atf_orphan_forked();
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next) {
        let_go(t);
        t->core.live = 0;
        if (t != self) t->finished = 2;
    }
    control = NULL;
    atf_agent_fast = NULL;
    for (int i = 0; i < 3; i++)
        if (mapped[i]) atf_call(SYS_shmdt, (long)mapped[i], 0, 0, 0, 0, 0);
    mapped[0] = mapped[1] = mapped[2] = NULL;
}

static void forked_by_libc(void)
{
    if (enter((uint64_t)(uintptr_t)__builtin_frame_address(0))) {
        forked();
        owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
        busy = 0;
    }
}

/* This thread's record path, ready to write; NULL: nothing is recorded. */
static atf_thread *ready(atf_agent_thread *t)
{
    if (*atf_seen(t) == 0 && owner != (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0)) {
        forked(); /* by a plain system call: nobody told us */
        owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    }
    if (!control || t->finished) return NULL;
    if (t->serial != serial) {
        if (atf_self) atf_self->live = 0;
        t->serial = serial;
    } else take_over(t);
    atf_agent_mine = &t->core;
    atf_thread *c = atf_enter_slow();
    if (c && t->unwritten && c->slot && c->cursor == c->end) { /* at a ring's end numbers may be left out */
        uint64_t lost = t->unwritten;
        t->unwritten = 0;
        c->seq_base += lost;
        atf_count64(&c->slot->lost_newest, lost);
    }
    if (c && t->call_word != (c->tid | (uint64_t)ATF_CALL << 32)) {
        t->call_word = c->tid | (uint64_t)ATF_CALL << 32;
        t->return_word = c->tid | (uint64_t)ATF_RETURN << 32;
    }
    return c;
}

static atf_agent_thread *first_event(void)
{
    atf_agent_thread *t = atf_block_new();
    if (!t) return NULL;
    t->gate = &t->core.gate_seen;
    t->head = &no_head;
    t->restartable = atf_rseq_by_libc() || atf_call(SYS_rseq, (long)&atf_agent_rseq, sizeof atf_agent_rseq, 0, 0x53053053, 0, 0) == 0;
    self = t;
    pthread_setspecific(end_key, t);
    return t;
}

/* ---------------------------------------------------------------- frames */
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

static void orphan(atf_agent_thread *t)
{
    if (t->top->slot) {
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
            pop(t);
        } else if (at_home(t, slot) && at_home(t, f->slot)) pop(t); /* longjmp, an exception, a thread that was cancelled */
        else if (on_signal_stack()) return NULL;
        else if (at_home(t, slot)) orphan(t); /* a coroutine that was switched away */
        else return NULL;
    }
}

static atf_frame *push(atf_agent_thread *t, uint64_t *slot, const uint8_t *stub)
{
    atf_frame *f = t->top + 1;
    if (f->wall) return NULL;
    uint32_t depth = t->top->depth;
    if (t->top != t->bottom && t->top->slot == 0) depth = t->top[-1].depth + 1; /* being made: not filled in yet */
    t->top = f;
    BARRIER();
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
    BARRIER();
    t->aside = n + 1;
    return 1;
}

/* In a signal handler, while this thread is in a slow path: kept until it leaves it, if there is room for the return too. */
static uint32_t enter_aside(atf_agent_thread *t, uint64_t *slot, const uint8_t *stub)
{
    atf_frame *f = NULL;
    int room = t && t->core.live && control && !t->finished && t->aside + t->aside_open + 2 <= ATF_KEPT;
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
    if (!enter((uint64_t)(uintptr_t)slot)) return enter_aside(self, slot, stub);
    int error = error_now();
    uint32_t traced = 0;
    atf_agent_thread *t = self ? self : first_event();
    atf_thread *c = t ? ready(t) : NULL;
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
    error_back(error);
    leave(t);
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
    int mine = enter((uint64_t)(uintptr_t)slot);
    int error = error_now();
    atf_frame f;
    atf_agent_thread *t = self ? self : first_event();
    if (!t || !find(t, (uint64_t)(uintptr_t)slot, &f)) __builtin_trap(); /* nobody knows where to go on */
    if (mine) {
        atf_thread *c = ready(t);
        if (c) atf_write(c, ATF_RETURN, id_of(f.stub), f.depth, ATF_NO_DETAIL);
    } else if (t->aside_open && t->aside < ATF_KEPT) {
        t->aside_open--;
        keep(t, ATF_RETURN, f.stub, f.depth);
    }
    error_back(error);
    if (mine) leave(t);
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
    atf_agent_thread *t = self;
    uint64_t high;
    if (!t) return;
    stack_of(t, above, &high);
    for (atf_frame *f = t->top; f > t->bottom; f--)
        if (f->slot >= above && f->slot < high) each(f);
    if (!at_home(t, above)) atf_orphan_each(above, high, each);
}

void atf_agent_frames_back(uint64_t above)
{
    int mine = enter(above), error = error_now();
    each_frame(above, back);
    error_back(error);
    if (!mine) return;
    if (self) self->at_work = 0;
    busy = 0;
}

void atf_agent_frames_again(uint64_t above)
{
    if (!enter(above)) return;
    int error = error_now();
    atf_agent_thread *t = self;
    if (t) {
        atf_thread *c = ready(t);
        while (t->top > t->bottom && t->top->slot && t->top->slot < above && at_home(t, above) == at_home(t, t->top->slot)) {
            if (c) atf_write(c, ATF_EXCEPTION, id_of(t->top->stub), t->top->depth, ATF_NO_DETAIL);
            pop(t);
        }
        each_frame(above, again);
    }
    error_back(error);
    leave(t);
}

/* ---------------------------------------------------------------- sessions */
void atf_agent_record_open(void)
{
    if (registering) return;
    registering = 1;
    error_at = (char *)&errno - (char *)__builtin_thread_pointer();
    pthread_key_create(&end_key, thread_ends);
    pthread_atfork(NULL, NULL, forked_by_libc);
    atf_thread_named = name_thread;
    owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

int atf_agent_record_begin(atf_control *c, atf_registry *r, atf_global_lane *g)
{
    owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    atf_session_open(c, r, g);
    mapped[0] = c, mapped[1] = r, mapped[2] = g;
    serial++;
    control = c;
    return 0;
}

/* While the other threads stand, none of them inside a stub. 1: nobody holds a pointer into the segments any more. */
int atf_agent_record_end(void)
{
    if (!control) return 1;
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next)
        if (t->at_work && t != self) return 0;
    if (self) take_over(self);
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next) {
        if (t != self) take_over(t);
        let_go(t);
    }
    control = NULL;
    atf_session_close();
    mapped[0] = mapped[1] = mapped[2] = NULL;
    return 1;
}

/* What this thread calls from now on is not traced; returns what to give back to it later. */
uint64_t atf_agent_quiet(uint64_t on)
{
    uint64_t was = busy;
    busy = on == 1 ? UINT64_MAX >> 1 : on;
    atf_agent_fast = NULL;
    return was;
}
