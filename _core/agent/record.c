/* The record path's slow half: a thread's first event, ring swaps, frames out of order, and everything while the fast path is
 * not ready. Compiled for general registers only. `busy` is set before anything else: what the agent itself calls may be traced. */
#include "agent.h"
#include "../lane.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
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
static const uint32_t never_forked = 1;
static uint32_t *fork_mark = (uint32_t *)&never_forked; /* in a page that the kernel zeroes in a forked child, and not after vfork */

/* ---------------------------------------------------------------- in and out */
/* errno stands at a constant distance from the thread pointer; asking the C library for its place may be traced. */
static int64_t error_at;
int atf_error_now(void) { return *(int *)((char *)__builtin_thread_pointer() + error_at); }
void atf_error_back(int error) { *(int *)((char *)__builtin_thread_pointer() + error_at) = error; }

#define HANDLER_BYTES 1024 /* what the kernel saves of a thread before a handler runs, at least, and the red zone */

/* Whether the slow path that began at `busy` goes on below this stack pointer: then a signal handler is asking. A handler may also
 * have left it by longjmp: the thread is above it, or so close below that it writes over it, or on its first stack again. */
static int goes_on(const atf_agent_thread *t, uint64_t sp)
{
    if (busy == ATF_QUIET || busy == ATF_HELD || !t) return 1;
    int home = sp >= t->home_low && sp < t->home_high, began_home = busy >= t->home_low && busy < t->home_high;
    if (home != began_home) return began_home; /* on a signal stack */
    return sp + HANDLER_BYTES < busy || (!home && sp > busy);
}

int atf_work_begin(uint64_t sp)
{
    atf_agent_thread *t = atf_self_block;
    if (ATF_UNLIKELY(busy)) {
        if (goes_on(t, sp)) return 0;
        t->aside_open = 0; /* what has not returned never will */
    }
    busy = sp;
    if (t) t->at_work = 1;
    atf_agent_fast = NULL;
    return 1;
}

/* What the fast path needs from the record path's own books; 1: it may begin. */
static int publish(atf_agent_thread *t)
{
    atf_thread *c = &t->core;
    int ring = c->live && c->slot && c->cursor && c->cursor != c->end && t->restartable;
    t->gate = c->gate;
    t->base = ring ? c->cursor - c->count : NULL;
    t->negcap = ring ? -(int64_t)(c->end - t->base) : 0;
    t->head = ring ? c->head : &no_head;
    *atf_seen(t) = T_SEEN_BIAS - c->gate_seen;
    t->least = atf_agent_wanted.least;
    return (ring || t->least) && c->live && c->clock_type == ATF_CLOCK_TSC && !atf_load_relaxed32(&t->finished);
}

/* The other way: the fast path counts in the ring's head alone. Nor is anything but the head to be believed when a handler left a
 * slow path by longjmp. */
static void take_over(atf_agent_thread *t)
{
    atf_thread *c = &t->core;
    if (!c->live || !c->slot || c->index_ring == ATF_NO_RING) return;
    atf_lane lane = atf_index_lane(atf_current.registry, c->slot);
    const atf_ring *r = atf_lane_ring(&lane, c->index_ring);
    c->count = atf_load_relaxed64(&r->head);
    c->cursor = (atf_event *)((char *)atf_current.global + r->offset) + c->count;
}

/* Calls and returns of signal handlers that came meanwhile: they are younger than what was written here. A handler is over
 * before this goes on, so what stands there is whole. */
void atf_work_kept(atf_agent_thread *t)
{
    for (uint32_t i = 0, judged = 0;;) {
        uint32_t n = atf_load_acquire32(&t->aside);
        if (i == n) {
            if (!n || atf_cas_acq_rel32(&t->aside, n, 0)) break;
            continue;
        }
        if (atf_agent_wanted.least && judged < n) {
            uint32_t out = atf_short_out(t->kept + judged, n - judged);
            __atomic_fetch_add(&t->filtered, out, __ATOMIC_RELAXED);
            judged = n;
        }
        const atf_event *e = &t->kept[i++];
        if (!t->core.live || !e->event_kind) continue;
        atf_calls_out(t, e->timestamp_ns);
        atf_write_at(&t->core, e->timestamp_ns, e->event_kind, e->function_id, e->call_depth, ATF_NO_DETAIL);
    }
    uint32_t undetailed = t->undetailed;
    if (!undetailed) return;
    __atomic_fetch_sub(&t->undetailed, undetailed, __ATOMIC_RELAXED);
    if (t->core.live && t->core.slot) atf_count64(&t->core.slot->details_lost, undetailed);
}

/* A handler that comes between the last three steps does all of this for itself. */
void atf_work_end(atf_agent_thread *t)
{
    int fast = 0;
    uint64_t began = busy;
    do {
        if (t) {
            busy = began;
            atf_work_kept(t);
            atf_filtered_tell(t, 4096);
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

#ifndef ATF_END_ROUNDS
#define ATF_END_ROUNDS 4 /* PTHREAD_DESTRUCTOR_ITERATIONS; a sanitizer needs the last for itself */
#endif

/* The only function of the C library that a slow path calls; it may be traced. */
static void come_back(atf_agent_thread *t)
{
    uint64_t sp = busy;
    busy = ATF_QUIET;
    pthread_setspecific(end_key, t);
    busy = sp;
}

/* Runs in every round of the destructors of thread-specific data, so that what they call is recorded too; ends in the last. */
static void thread_ends(void *value)
{
    atf_agent_thread *t = value;
    uint64_t sp = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    if (!atf_work_begin(sp)) return;
    int error = atf_error_now();
    if (++t->rounds < ATF_END_ROUNDS) {
        come_back(t);
        atf_work_end(t);
    } else {
        take_over(t);
        if (atf_recording && t->serial == serial) atf_calls_left(t);
        atf_filtered_tell(t, 1);
        t->core.seq_base += t->unwritten; /* what is missing at the end shows in the slot's last number */
        t->unwritten = 0;
        if (atf_self == &t->core && t->serial == serial && atf_recording) atf_thread_exit(&t->core);
        t->core.live = 0;
        t->head = &no_head;
        atf_store_relaxed32(&t->finished, 2); /* nothing is recorded from here on, and the block is nobody else's yet */
        atf_work_end(t);
        atf_store_release32(&t->finished, 1); /* pairs with who uses the block again: the last that is done to it */
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
    atf_child_forked(atf_recording && atf_load_acquire32(&atf_recording->state) == ATF_STATE_RECORDING, atf_self_block);
    if (fork_mark != &never_forked) atf_store_release32(fork_mark, 1);
    owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    atf_session_forked();
    atf_orphan_forked();
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next) {
        let_go(t);
        t->core.live = 0;
        if (t != atf_self_block) atf_store_relaxed32(&t->finished, 2);
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
        busy = 0;
    }
}

/* This thread's record path, ready to write; NULL: nothing is recorded. */
atf_thread *atf_work_ready(atf_agent_thread *t)
{
    if (!atf_load_acquire32(fork_mark)) forked(); /* by a plain system call: nobody told us */
    if (!__atomic_load_n(&atf_recording, __ATOMIC_ACQUIRE)) atf_child_begin();
    if (!__atomic_load_n(&atf_recording, __ATOMIC_ACQUIRE) || atf_load_relaxed32(&t->finished)) return NULL;
    if (t->serial != serial) {
        if (atf_self) atf_self->live = 0;
        t->serial = serial;
        atf_cyg_forget(t);
    } else take_over(t);
    atf_agent_mine = &t->core;
    atf_thread *c = atf_enter_slow();
    if (c && t->aside) atf_work_kept(t); /* of a handler that left by longjmp: older than what comes now */
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
    t->at_work = 1; /* as atf_work_begin would have set it */
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
    long page = atf_call(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if ((page > 0 || page < -4096) && atf_call(SYS_madvise, page, 4096, MADV_WIPEONFORK, 0, 0, 0) == 0) {
        fork_mark = (uint32_t *)page;
        *fork_mark = 1;
    }
    atf_thread_named = name_thread;
    owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

int atf_agent_record_begin(atf_control *c, atf_registry *r, atf_global_lane *g)
{
    owner = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    atf_session_open(c, r, g);
    mapped[0] = c, mapped[1] = r, mapped[2] = g;
    serial++;
    __atomic_store_n(&atf_recording, c, __ATOMIC_RELEASE); /* pairs with atf_work_ready: threads may be on their way back through stubs */
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
    atf_filtered_tell_all();
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
