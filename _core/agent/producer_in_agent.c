/* The record path's slow half, the same source as in the Python-side recorder, with three of its ties to the C library cut: a
 * thread's memory is the agent's (no malloc inside a hooked malloc), and a thread's end comes from the agent's own key. */
#include "agent.h"
#include <pthread.h>
#include <stdlib.h>

static void *thread_memory(void);
static void nothing(void *p) { (void)p; }

#define calloc(n, size) thread_memory()
#define free(p) nothing(p)
#define pthread_setspecific(key, value) ((void)(key))
#define pthread_key_create(key, end) ((void)(end))
#define pthread_atfork(before, parent, child) ((void)(child))
#include "../producer.c"
#undef calloc

/* What the next atf_enter_slow of this thread takes for its memory. */
_Thread_local atf_thread *atf_agent_mine ATF_IE;
static void *thread_memory(void) { return atf_agent_mine; }
