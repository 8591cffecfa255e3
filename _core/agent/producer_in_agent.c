/* The record path's slow half, the same source as in the Python-side recorder, with its ties to the C library cut: that library may
 * be traced, and its locks may be held. Memory is the agent's, locks spin, the rest are system calls. A thread's end comes from the
 * agent's own key. */
#include "agent.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

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
#define nanosleep(nap, rest) atf_call(SYS_nanosleep, (long)(nap), (long)(rest), 0, 0, 0, 0)
#define madvise(at, bytes, what) (int)atf_call(SYS_madvise, (long)(at), (long)(bytes), what, 0, 0, 0)
#define syscall(number) atf_call(number, 0, 0, 0, 0, 0, 0)
#define getpid() atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0)
#define ATF_IN_AGENT
#include "../producer.c"
#undef calloc

/* What the next atf_enter_slow of this thread takes for its memory. */
_Thread_local atf_thread *atf_agent_mine ATF_IE;
static void *thread_memory(void) { return atf_agent_mine; }
