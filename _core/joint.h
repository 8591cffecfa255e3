/* One lane for a thread's Python calls and its native calls. When the native agent is in a Python process, its record of a thread
 * is the only writer: the ring's position and the depth stand there alone, and this table is how the Python side reaches it.
 *
 * The Python side keeps an atf_thread of its own for each thread, a shell: its gate is closed and it has no ring, so that every event
 * takes the slow paths of producer.c, which lead here. The paths of a process without the agent are the same instructions as ever.
 *
 * The depth is one number for both: a Python call has a frame on the agent's shadow stack, one that no function returns through, so
 * a native call finds its depth where it always does. Never includes Python.h. */
#ifndef ATF_JOINT_H
#define ATF_JOINT_H
#include "producer.h"

#define ATF_JOINT_VERSION 1u

typedef struct atf_joint {
    uint32_t version, bytes; /* of this table */
    /* The calling thread's calls in progress, both kinds; registers it at its first event. 0: nothing is recorded. */
    int (*enter)(uint32_t *depth);
    /* One record. Its depth is the one that `enter` told and the hook counted on from, its time is moved up to that of the record before.
     * The exit of a Python call is written at the depth of its entry, whatever stands above. */
    void (*write)(const atf_event *e);
    /* A detail of the record that is written next, which must follow: until then this thread's native calls are kept back. */
    uint32_t (*detail)(uint16_t type, const void *payload, uint32_t bytes, uint64_t ticks);
    /* How many Python calls of this function are in progress in the thread; 0 when the innermost is another's. */
    uint32_t (*open)(uint64_t function_id);
    /* The thread's place in the registry, or -1: it has none. */
    int32_t (*slot)(void);
    /* 1: what this thread calls is not recorded natively; returns what to pass to end that. */
    uint64_t (*quiet)(uint64_t on);
    int (*stop)(void); /* ends the native recording and restores the code */
} atf_joint;

#ifdef ATF_IN_AGENT
#define atf_joint_now ((const atf_joint *)0)
static inline atf_thread *atf_joint_enter(atf_thread *t) { return t; }
#else
extern const atf_joint *atf_joint_now __attribute__((visibility("hidden"))); /* NULL: this process is recorded in Python alone */
atf_thread *atf_joint_enter(atf_thread *t); /* t: this thread's, or NULL */
#endif

/* Brings the agent into this process and lets it start by a plan; what this thread calls is not recorded until atf_joint_begin.
 * Before the session is opened. 0, an atf_plan_error, or -1: it could not be loaded, `why` says more. */
int atf_joint_load(const char *agent, const char *plan, char *why, uint32_t why_bytes);
void atf_joint_begin(int returns); /* after the hooks are in place. returns: exits are recorded too */
void atf_joint_end(void);          /* the agent goes, as far as it can */
void atf_joint_forget(void);       /* in a forked child, or when the session is over: Python alone from now on */

/* Around what the hooks do for themselves: that is not the program's. */
static inline uint64_t atf_joint_hush(void) { return atf_joint_now ? atf_joint_now->quiet(1) : 0; }
static inline void atf_joint_speak(uint64_t was)
{
    if (atf_joint_now) atf_joint_now->quiet(was);
}

/* producer.c's, for joint.c */
atf_thread *atf_thread_new(void);
void atf_thread_close_gate(atf_thread *t);
#endif
