/* The Python side of one lane for Python and native calls: loads the agent, and passes events on to it. */
#include "joint.h"
#include "lane.h"
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

const atf_joint *atf_joint_now;
static int returns_recorded;
static uint64_t before_begin; /* what the starting thread's silence ends with */

int atf_joint_load(const char *agent, const char *plan, char *why, uint32_t why_bytes)
{
    void *library = dlopen(agent, RTLD_NOW | RTLD_LOCAL);
    const atf_joint *(*table)(void) = library ? (const atf_joint *(*)(void))dlsym(library, "atf_agent_joint") : NULL;
    int (*start)(const char *) = library ? (int (*)(const char *))dlsym(library, "atf_agent_start") : NULL;
    if (!table || !start) {
        const char *said = dlerror();
        snprintf(why, why_bytes, "%s", said ? said : "it is no agent");
        return -1;
    }
    const atf_joint *joint = table();
    if (joint->version != ATF_JOINT_VERSION || joint->bytes != sizeof *joint) {
        snprintf(why, why_bytes, "it was built from other sources than this recorder: build both again");
        return -1;
    }
    before_begin = joint->quiet(1);
    int error = start(plan);
    if (error) joint->quiet(before_begin);
    else atf_joint_now = joint;
    return error;
}

void atf_joint_begin(int returns)
{
    returns_recorded = returns;
    if (!atf_joint_now) return;
    atf_joint_now->quiet(before_begin);
    atf_enter(); /* the calls in progress come first, before a native call can be taken for their caller */
}

void atf_joint_end(void)
{
    const atf_joint *joint = atf_joint_now;
    if (joint) joint->stop();
}

void atf_joint_forget(void) { atf_joint_now = NULL; }

/* A thread's name stands in its slot, which the agent claimed; the slot is shown for this alone. */
static void name(atf_thread *t)
{
    int32_t place = atf_joint_now->slot();
    t->unnamed--;
    if (place < 0 || !atf_thread_named) return;
    t->slot = atf_slot_at(atf_current.registry, (uint32_t)place);
    uint64_t was = atf_joint_hush();
    atf_thread_named(t);
    atf_joint_speak(was);
    t->slot = NULL;
}

static __attribute__((noinline, cold)) atf_thread *first(atf_thread *t)
{
    uint64_t was = atf_joint_hush();
    uint32_t depth = 0;
    if (!t) t = atf_thread_new();
    int recorded = t && atf_joint_now->enter(&depth);
    if (recorded) {
        memset(t, 0, offsetof(atf_thread, next));
        atf_thread_close_gate(t);
        t->clock_type = atf_current.control->clock_type;
        t->index_ring = t->detail_ring = ATF_NO_RING;
        t->retry_at = UINT64_MAX; /* never a slot of its own */
        t->depth = returns_recorded ? depth : 0;
        t->unnamed = 4;
        t->live = 1;
        name(t);
    }
    if (recorded && atf_thread_started) {
        atf_thread_started(t);
        int32_t place = atf_joint_now->slot();
        if (place >= 0) atf_store_relaxed32(&atf_slot_at(atf_current.registry, (uint32_t)place)->entered, t->depth - (returns_recorded ? depth : 0));
    }
    atf_joint_speak(was);
    return recorded ? t : NULL;
}

atf_thread *atf_joint_enter(atf_thread *t)
{
    uint32_t depth;
    if (ATF_UNLIKELY(!t || !t->live)) return first(t);
    if (!atf_joint_now->enter(&depth)) return NULL;
    if (returns_recorded) t->depth = depth; /* without exits nobody else counts down */
    if (ATF_UNLIKELY(t->unnamed)) name(t);
    return t;
}
