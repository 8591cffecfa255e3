/* Inside of the agent: what its files share. Never includes Python.h. */
#ifndef ATF_AGENT_H
#define ATF_AGENT_H
#include <sys/syscall.h>
#include <time.h>

/* A system call; minus errno on failure, errno itself untouched. The C library's clock may be traced: this stands in for it. */
long atf_call(long number, long a, long b, long c, long d, long e, long f);
static inline int atf_clock_call(clockid_t id, struct timespec *t) { return (int)atf_call(SYS_clock_gettime, id, (long)t, 0, 0, 0, 0); }
#define clock_gettime atf_clock_call

#include "plan.h"
#include "entry.h"
#include "thread.h"
#include "capture.h"

#define ATF_PUBLIC __attribute__((visibility("default")))
#define ATF_IE __attribute__((tls_model("initial-exec"), visibility("hidden")))

/* ---- record.c ---- */
/* The thread's block while its record path is ready, else NULL: the only thing the assembly asks first. */
extern _Thread_local atf_agent_thread *atf_agent_fast ATF_IE;
/* Where the kernel looks for a thread's restartable sequence, when the C library registered no place of its own. */
typedef struct atf_rseq {
    uint32_t cpu_start, cpu;
    uint64_t sequence;
    uint32_t flags, rest[3];
} __attribute__((aligned(32))) atf_rseq;
extern _Thread_local atf_rseq atf_agent_rseq ATF_IE;
int atf_rseq_by_libc(void);

extern _Thread_local atf_agent_thread *atf_self_block ATF_IE; /* NULL: no event yet */
extern atf_control *atf_recording;                           /* NULL: no session */

/* Keeps the compiler from moving stores: a signal handler of this thread sees them in the order written. */
#define ATF_BARRIER() __asm__ __volatile__("" : : : "memory")

/* A slow path begins, at this stack pointer; 0: this thread is in one already. Until its end nothing that it calls is traced. */
int atf_work_begin(uint64_t sp);
void atf_work_end(atf_agent_thread *t);             /* t: its fast path may be used again; NULL: not yet */
atf_thread *atf_work_ready(atf_agent_thread *t);    /* the record path; NULL: nothing is recorded */
void atf_work_kept(atf_agent_thread *t);            /* writes what signal handlers did meanwhile */
atf_agent_thread *atf_work_first(void);             /* a thread's first event; NULL: no memory */
int atf_error_now(void);
void atf_error_back(int error);

void atf_agent_record_open(void);                   /* once in a process */
int atf_agent_record_begin(atf_control *c, atf_registry *r, atf_global_lane *g);
extern _Thread_local uint64_t atf_agent_busy ATF_IE;         /* where the thread is at work in the agent, ATF_QUIET, or 0 */
#define ATF_QUIET (UINT64_MAX >> 1)
#define ATF_HELD 1u /* at work, wherever the stack pointer stands: between a detail and its record */
uint64_t atf_agent_quiet(uint64_t on); /* 1: what this thread calls is not traced; returns what to pass to end that */
int atf_agent_record_end(void); /* 0: some thread is at work in the agent, the segments stay */
extern atf_plan *atf_agent_counts; /* whose `skipped` and `orphans` count */

/* ---- frames.c ---- */
uint32_t atf_agent_enter(uint64_t *slot, const uint8_t *stub); /* 1: its return is ours; 0: straight on */
uint64_t atf_agent_leave(uint64_t *slot);                      /* where it returns to */
uint32_t atf_agent_enter_details(const atf_registers *r);      /* the same with registers */
uint64_t atf_agent_leave_details(const atf_registers *r);
void atf_agent_frames_back(uint64_t above);  /* gives return addresses of this stack's frames back: an unwinder comes */
void atf_agent_frames_again(uint64_t above); /* takes them again; frames up to `above`, the caller's own slot, ended by an exception */
void atf_agent_frames_land(uint64_t cfa); /* the unwinder lands in the frame that called down to `cfa`: what is below ended, the rest is taken again */

uint64_t atf_agent_returns_to(uint64_t slot, uint64_t ours); /* where the frame there returns to, whose function was given `ours`; 0: unknown */

/* The shadow stack, for cyg.c and profiler.c. A reported frame is no return address of ours. */
uint32_t atf_frame_reported(const atf_frame *f);
void atf_frame_pop(atf_agent_thread *t);
void atf_frame_dead(atf_agent_thread *t);   /* the top one was left without returning */
void atf_frame_orphan(atf_agent_thread *t); /* the top one belongs to another stack */
atf_frame *atf_frames_settle(atf_agent_thread *t, uint64_t slot); /* takes off what was left below `slot`; the frame that stands there and is to be replaced, else NULL */
void atf_frame_returned(atf_agent_thread *t);
atf_frame *atf_frames_push(atf_agent_thread *t, uint64_t slot, const uint8_t *stub);
uint32_t atf_frames_enter_aside(atf_agent_thread *t, uint64_t slot, const uint8_t *stub); /* 1: a frame was pushed */
void atf_frames_leave_aside(atf_agent_thread *t);

/* ---- cyg.c ---- */
void atf_cyg_forget(atf_agent_thread *t); /* reported frames of an earlier session */

/* Takes frames off that were left without returning, seen from this stack pointer. */
void atf_frames_settle_python(atf_agent_thread *t, uint64_t sp);
int atf_frame_holds(const atf_agent_thread *t, const atf_frame *f);

/* ---- agent.c ---- */
int atf_agent_stop(void) __attribute__((visibility("default")));

/* ---- producer_in_agent.c ---- */
extern _Thread_local atf_thread *atf_agent_mine ATF_IE;
void atf_signals_hold(uint64_t *before); /* no signal handler of this thread runs from here ... */
void atf_signals_free(const uint64_t *before); /* ... to here */

/* ---- block.c: memory of a thread ---- */
atf_agent_thread *atf_block_first(void); /* list of all, by ->next */
atf_agent_thread *atf_block_new(void);
int atf_block_home(uint64_t sp, uint64_t *low, uint64_t *high); /* the mapping around an address */

/* ---- orphans.c: frames off the order of the shadow stack, of all threads ---- */
void atf_orphan_put(const atf_frame *f);
int atf_orphan_take(uint64_t slot, atf_frame *f);
/* Calls `each` for every orphan whose slot lies in [low, high). */
void atf_orphan_each(uint64_t low, uint64_t high, void (*each)(atf_frame *f));

/* ---- arena.c: stubs near the code they trace ---- */
typedef struct atf_arena {
    uint8_t *start, *at, *end;
    struct atf_arena *next;
} atf_arena;

/* For code in [low, high), with room for `functions` stubs; NULL: no memory near enough. Writable until closed. */
atf_arena *atf_arena_new(uint64_t low, uint64_t high, uint32_t functions);
void atf_arena_close(atf_arena *a);
extern const uint8_t atf_path_begin[], atf_path_end[]; /* code that stubs or programs lead to and that stands in no arena */
int atf_in_arena(uint64_t address); /* or in a record path that stands elsewhere */
int64_t atf_rseq_place(void); /* of a thread's sequence pointer, from its thread pointer */
uint32_t atf_hot_put(uint8_t *to); /* what all stubs of an arena lead to; its bytes. This, and the next two, each processor has of its own */
int atf_shadow_stack(void); /* 1: return hooks are not possible in this process */

typedef struct atf_hook {
    uint8_t *address;
    uint8_t *stub;
    uint8_t original[ATF_PATCH_BYTES], patch[ATF_PATCH_BYTES];
    uint8_t active, way; /* way: atf_fn_way */
    atf_moved moved;
    uint32_t bytes; /* that are changed: ATF_PATCH_BYTES, or 1 for a trap */
    atf_plan_function *function; /* NULL: one of the agent's own */
} atf_hook;

/* Builds a stub for `code`; 0 or an atf_fn_reason. `wrapper`: C code to call instead of tracing. */
int atf_stub_build(atf_arena *a, uint8_t *code, uint32_t size, uint32_t room, uint64_t id, uint32_t flags, void *wrapper, atf_hook *h);

/* ---- patch.c ---- */
/* Writes the patch (or the original bytes) of n hooks, sorted by address; `live`: with the other threads stopped.
 * `stopped` is called while they stand. 0 or an atf_plan_error. */
int atf_patch_all(atf_hook **hooks, uint32_t n, int put, int live, void (*stopped)(void), atf_plan *report);

/* ---- check.c ---- */
int atf_plan_good(const atf_plan *p, uint64_t bytes); /* of the file as it is mapped; the agent's own fields are not looked at */
int atf_segment_good(const atf_segment_head *h, int kind, uint64_t bytes);
int atf_session_good(atf_registry *r, const atf_global_lane *g, uint64_t registry_bytes, uint64_t rings_bytes);

/* ---- hooks.c ---- */
void atf_agent_look_again(void);

/* ---- child.c ---- */
void atf_family_of_plan(const char *plan);   /* children of this process are followed, if the session has a family */
void atf_family_like(const atf_control *c, const atf_registry *r);
void atf_child_forked(int recorded, atf_agent_thread *self);
void atf_child_begin(void);
void atf_child_own_plans(void);

/* ---- exec.c and ask.c ---- */
int atf_exec_here(const char *session); /* where this library lies, for the programs that are executed; 0: it cannot tell */
int atf_exec_followed(void);
void *atf_exec_wrapper(uint32_t role, uint8_t ***at);
void atf_ask(const char *session);      /* an executed program asks what is to be done with it, and does that */

/* ---- agent.c ---- */
atf_plan *atf_agent_plan(uint32_t i); /* NULL: there are fewer */

/* ---- unwind.c ---- */
void *atf_wrapper_of(uint32_t role, uint8_t ***original);
int atf_wrapper_library(uint32_t role, uint8_t **address, uint32_t *size);

/* ---- plain.c: what the slow paths call instead of libc ---- */
void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memset(void *to, int value, size_t n);
#endif
