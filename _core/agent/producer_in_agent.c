/* The record path's slow half, the same source as in the Python-side recorder, with its ties to the C library cut: that library may
 * be traced, and its locks may be held. Memory is the agent's, locks spin, the rest are system calls. A thread's end comes from the
 * agent's own key. */
#include "agent.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A signal handler may leave by longjmp, and never come back to what it interrupted. What must not be left half done stands between
 * these two: rings, cells and slots between two owners, and locks. */
static _Thread_local uint64_t mask_before __attribute__((tls_model("initial-exec")));
static const uint64_t every_signal = UINT64_MAX;
void atf_signals_hold(uint64_t *before) { atf_call(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&every_signal, (long)before, 8, 0, 0); }
void atf_signals_free(const uint64_t *before) { atf_call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)before, 0, 8, 0, 0); }

/* The same for this file's slow paths: never one inside another, and a handler has its own while a path waits. */
static _Thread_local int held __attribute__((tls_model("initial-exec")));
static void hold(void)
{
    atf_signals_hold(&mask_before);
    held = 1;
}
static void let_go(void)
{
    held = 0;
    atf_signals_free(&mask_before);
}

/* While it waits for the drain nothing is half done: signals come as they would without us. */
static long nap_in_peace(const struct timespec *nap)
{
    int mine = held;
    if (mine) let_go();
    long result = atf_call(SYS_nanosleep, (long)nap, 0, 0, 0, 0, 0);
    if (mine) hold();
    return result;
}

static void *thread_memory(void);
static void nothing(void *p) { (void)p; }

static int spin_hold(uint32_t *word)
{
    while (!atf_cas_acq_rel32(word, 0, 1)) atf_pause();
    return 0;
}
#define calloc(n, size) thread_memory()
#define free(p) nothing(p)
#define pthread_setspecific(key, value) ((void)(key))
#define pthread_key_create(key, end) ((void)(end))
#define pthread_atfork(before, parent, child) ((void)(child))
#define pthread_mutex_t uint32_t
#undef PTHREAD_MUTEX_INITIALIZER
#define PTHREAD_MUTEX_INITIALIZER 0
#define pthread_mutex_init(m, a) atf_store_release32(m, 0)
#define pthread_mutex_lock(m) spin_hold(m)
#define pthread_mutex_unlock(m) atf_store_release32(m, 0)
#define pthread_once(o, f) ((void)(o), (void)(f))
#define nanosleep(nap, rest) nap_in_peace(nap)
#define madvise(at, bytes, what) (int)atf_call(SYS_madvise, (long)(at), (long)(bytes), what, 0, 0, 0)
#define syscall(number) atf_call(number, 0, 0, 0, 0, 0, 0)
#define getpid() atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0)
#define ATF_IN_AGENT
static atf_thread *bare_enter_slow(void);
static int bare_next_ring(atf_thread *t);
static void bare_write_global(atf_thread *t, const atf_event *e);
static uint8_t *bare_detail_slow(atf_thread *t, uint32_t bytes);
static void bare_thread_exit(void *thread);
#define atf_enter_slow bare_enter_slow
#define atf_next_ring bare_next_ring
#define atf_write_global bare_write_global
#define atf_detail_slow bare_detail_slow
#define atf_thread_exit bare_thread_exit
#include "../producer.c"
#undef calloc
#undef atf_enter_slow
#undef atf_next_ring
#undef atf_write_global
#undef atf_detail_slow
#undef atf_thread_exit
#include "../detail.c" /* its slow path is the one below */

atf_thread *atf_enter_slow(void)
{
    const atf_control *c = atf_current.control;
    /* While a recording ends every event comes here: a thread that held its signals back each time could not be made to stand. */
    if (!c || atf_load_acquire32(&c->state) != ATF_STATE_RECORDING) return NULL;
    hold();
    atf_thread *t = bare_enter_slow();
    let_go();
    return t;
}
int atf_next_ring(atf_thread *t)
{
    hold();
    int there = bare_next_ring(t);
    let_go();
    return there;
}
void atf_write_global(atf_thread *t, const atf_event *e)
{
    hold();
    bare_write_global(t, e);
    let_go();
}
uint8_t *atf_detail_slow(atf_thread *t, uint32_t bytes)
{
    hold();
    uint8_t *p = bare_detail_slow(t, bytes);
    let_go();
    return p;
}
void atf_thread_exit(void *thread)
{
    hold();
    bare_thread_exit(thread);
    let_go();
}

/* What the next atf_enter_slow of this thread takes for its memory. */
_Thread_local atf_thread *atf_agent_mine ATF_IE;
static void *thread_memory(void) { return atf_agent_mine; }
