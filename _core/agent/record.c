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
_Thread_local atf_agent_thread *atf_self_block ATF_IE;
_Thread_local uint64_t atf_agent_busy ATF_IE; /* the stack pointer in the agent; 0: not there */
#define busy atf_agent_busy
static atf_plan nobody;
atf_plan *atf_agent_counts = &nobody;
void atf_orphan_forked(void);

static pthread_key_t end_key;
static uint64_t no_head; /* what `head` points to without a ring: 0 records of 0 */
atf_control *atf_recording;
static void *mapped[3];
static uint32_t serial, owner;
static int registering;

/* ---------------------------------------------------------------- in and out */
/* errno stands at a constant distance from the thread pointer; asking the C library for its place may be traced. */
static int64_t error_at;
int atf_error_now(void) { return *(int *)((char *)__builtin_thread_pointer() + error_at); }
void atf_error_back(int error) { *(int *)((char *)__builtin_thread_pointer() + error_at) = error; }

/* A handler that left the agent by longjmp never came back here: the stack is above where it was. */
int atf_work_begin(uint64_t sp)
{
    if (ATF_UNLIKELY(busy)) {
        if (!atf_self_block || busy >= sp || sp >= atf_self_block->home_high || busy < atf_self_block->home_low) return 0;
    }
    busy = sp;
    if (atf_self_block) atf_self_block->at_work = 1;
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
void atf_work_kept(atf_agent_thread *t)
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
void atf_work_end(atf_agent_thread *t)
{
    int fast = 0;
    do {
        if (t) {
            busy = busy ? busy : 1;
            atf_work_kept(t);
            fast = publish(t);
        }
        if (atf_self_block) atf_self_block->at_work = 0;
        ATF_BARRIER();
        busy = 0;
        ATF_BARRIER();
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

/* The only function of the C library that a slow path calls; it may be traced. */
static void come_back(atf_agent_thread *t)
{
    uint64_t sp = busy;
    busy = ATF_QUIET;
    pthread_setspecific(end_key, t);
    busy = sp;
}

/* Runs in every round of the destructors of thread-specific data but the last, so that what they call is recorded too. */
static void thread_ends(void *value)
{
    atf_agent_thread *t = value;
    uint64_t sp = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    if (!atf_work_begin(sp)) return;
    int error = atf_error_now();
    if (++t->rounds < 4) {
        come_back(t);
        atf_work_end(t);
    } else {
        take_over(t);
        t->core.seq_base += t->unwritten; /* what is missing at the end shows in the slot's last number */
        t->unwritten = 0;
        if (atf_self == &t->core && t->serial == serial && atf_recording) atf_thread_exit(&t->core);
        t->core.live = 0;
        t->head = &no_head;
        atf_store_release32(&t->finished, 1);
        atf_work_end(t);
    }
    atf_error_back(error);
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
        if (t != atf_self_block) t->finished = 2;
    }
    atf_recording = NULL;
    atf_agent_fast = NULL;
    for (int i = 0; i < 3; i++)
        if (mapped[i]) atf_call(SYS_shmdt, (long)mapped[i], 0, 0, 0, 0, 0);
    mapped[0] = mapped[1] = mapped[2] = NULL;
}

static void forked_by_libc(void)
{
    if (atf_work_begin((uint64_t)(uintptr_t)__builtin_frame_address(0))) {
        forked();
        owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
        busy = 0;
    }
}

/* This thread's record path, ready to write; NULL: nothing is recorded. */
atf_thread *atf_work_ready(atf_agent_thread *t)
{
    if (*atf_seen(t) == 0 && owner != (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0)) {
        forked(); /* by a plain system call: nobody told us */
        owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    }
    if (!atf_recording || t->finished) return NULL;
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

atf_agent_thread *atf_work_first(void)
{
    atf_agent_thread *t = atf_block_new();
    if (!t) return NULL;
    t->gate = &t->core.gate_seen;
    t->head = &no_head;
    t->restartable = atf_rseq_by_libc() || atf_call(SYS_rseq, (long)&atf_agent_rseq, sizeof atf_agent_rseq, 0, 0x53053053, 0, 0) == 0;
    atf_self_block = t;
    come_back(t);
    return t;
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
    atf_recording = c;
    return 0;
}

/* While the other threads stand, none of them inside a stub. 1: nobody holds a pointer into the segments any more. */
int atf_agent_record_end(void)
{
    if (!atf_recording) return 1;
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next)
        if (t->at_work && t != atf_self_block) return 0;
    if (atf_self_block) take_over(atf_self_block);
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next) {
        if (t != atf_self_block) take_over(t);
        let_go(t);
    }
    atf_recording = NULL;
    atf_session_close();
    mapped[0] = mapped[1] = mapped[2] = NULL;
    return 1;
}

/* What this thread calls from now on is not traced; returns what to give back to it later. */
uint64_t atf_agent_quiet(uint64_t on)
{
    uint64_t was = busy;
    busy = on == 1 ? ATF_QUIET : on;
    atf_agent_fast = NULL;
    return was;
}
