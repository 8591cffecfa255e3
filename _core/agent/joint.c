/* Beside Python: the Python hooks of this process write through the agent's record of their thread, see joint.h. Compiled for general
 * registers only, like record.c.
 *
 * Python's calls in progress are frames of the shadow stack too: `ret` is the function's id, there is no `stub`, and the `slot` is one
 * that no function returns through, right below that of the native frame under them. */
#include "agent.h"
#include "../joint.h"

#define OVER UINT64_MAX /* as an id: the call has ended, but native frames stand above it */

static int is_python(const atf_agent_thread *t, const atf_frame *f) { return f > t->bottom && !f->stub; }

static int ready(const atf_agent_thread *t) { return t && *t->gate + *atf_seen((atf_agent_thread *)t) == T_SEEN_BIAS; }

static void drop(atf_agent_thread *t)
{
    t->top->slot = 0;
    t->top--;
}

/* A call began. Without exits (level calls) a depth that comes again ends what was deeper. The frame is reserved first: a signal
 * handler in between pushes above it. */
static void python_entered(atf_agent_thread *t, uint64_t function_id, uint32_t depth)
{
    while (is_python(t, t->top) && (t->top->ret == OVER || t->top->depth >= depth)) drop(t);
    atf_frame *f = t->top;
    if (f[1].wall) return;
    uint64_t below = is_python(t, f) ? f->slot : f->slot - 1;
    t->top = ++f;
    ATF_BARRIER();
    f->stub = NULL;
    f->start = 0;
    f->ret = function_id;
    f->depth = depth;
    ATF_BARRIER();
    f->slot = below;
}

/* A call ended: returns its depth. What stands above it was left without a word; native frames there (the interpreter's own,
 * around the hook) are still to return. */
static uint32_t python_left(atf_agent_thread *t, uint64_t function_id)
{
    atf_frame *f = t->top;
    while (f > t->bottom && (f->stub || f->ret != function_id)) f--;
    if (f == t->bottom) return t->top->depth + 1; /* an exit without its entry */
    uint32_t depth = f->depth;
    for (; f <= t->top; f++)
        if (!f->stub) f->ret = OVER;
    while (is_python(t, t->top) && t->top->ret == OVER) drop(t);
    return depth;
}

static uint32_t follow(atf_agent_thread *t, const atf_event *e)
{
    switch (e->event_kind) {
    case ATF_CALL:
    case ATF_RESUME: python_entered(t, e->function_id, e->call_depth); return e->call_depth;
    case ATF_RETURN:
    case ATF_EXCEPTION:
    case ATF_YIELD: return python_left(t, e->function_id);
    default: return e->call_depth;
    }
}

static int joint_enter(uint32_t *depth)
{
    uint64_t sp = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    atf_agent_thread *t = atf_agent_fast;
    if (ATF_LIKELY(ready(t) && t->top->slot > sp && atf_frame_holds(t, t->top))) {
        *depth = t->top->depth;
        return 1;
    }
    uint64_t was = atf_agent_quiet(0);
    atf_work_begin(sp);
    t = atf_self_block ? atf_self_block : atf_work_first();
    int recorded = t && atf_work_ready(t);
    if (recorded) {
        atf_frames_settle_python(t, sp + 1); /* odd: no function's slot */
        *depth = t->top->depth;
    }
    atf_work_end(t);
    if (was) atf_agent_quiet(was);
    return recorded;
}

/* What a handler did before the frame came or went has its depth from then, and comes first; not between a detail and its record. */
static void put(atf_agent_thread *t, atf_thread *c, const atf_event *e, uint32_t depth)
{
    uint64_t ticks = e->timestamp_ns;
    if (e->detail_seq == ATF_NO_DETAIL) atf_work_kept(t);
    if (c->count && c->cursor && c->cursor[-1].timestamp_ns > ticks) ticks = c->cursor[-1].timestamp_ns;
    atf_write_at(c, ticks, e->event_kind, e->function_id, depth, e->detail_seq);
}

static __attribute__((noinline)) void write_slowly(const atf_event *e, uint64_t sp)
{
    atf_agent_thread *t = atf_self_block;
    uint64_t was;
    atf_thread *c;
    if (t && t->detail_open) { /* the lane is in hand already */
        t->detail_open = 0;
        was = t->quiet_before;
        c = t->core.live && atf_recording ? &t->core : NULL;
    } else {
        was = atf_agent_quiet(0);
        atf_work_begin(sp);
        t = t ? t : atf_work_first();
        c = t ? atf_work_ready(t) : NULL;
    }
    if (c) put(t, c, e, follow(t, e));
    atf_work_end(t);
    if (was) atf_agent_quiet(was);
}

/* As the assembly does it, but for the sequence: a signal handler's calls are kept aside meanwhile. */
static void joint_write(const atf_event *e)
{
    uint64_t sp = (uint64_t)(uintptr_t)__builtin_frame_address(0), n;
    atf_agent_thread *t = atf_agent_fast;
    if (ATF_UNLIKELY(!ready(t) || (n = *t->head) + (uint64_t)t->negcap == 0)) {
        write_slowly(e, sp);
        return;
    }
    atf_agent_fast = NULL;
    atf_agent_busy = sp;
    t->at_work = 1;
    ATF_BARRIER();
    n = *t->head; /* a handler may have written before the word above stood */
    if (ATF_UNLIKELY(n + (uint64_t)t->negcap == 0)) {
        atf_agent_busy = 0;
        write_slowly(e, sp);
        return;
    }
    uint32_t depth = follow(t, e);
    ATF_BARRIER();
    if (ATF_UNLIKELY(t->aside)) {
        atf_thread *c = atf_work_ready(t);
        if (c) put(t, c, e, depth);
        atf_work_end(t);
        return;
    }
    atf_event *at = t->base + n;
    uint64_t ticks = e->timestamp_ns;
    if (n && at[-1].timestamp_ns > ticks) ticks = at[-1].timestamp_ns;
    at->timestamp_ns = ticks;
    at->function_id = e->function_id;
    at->thread_id = (uint32_t)t->call_word;
    at->event_kind = e->event_kind;
    at->call_depth = depth;
    at->detail_seq = e->detail_seq;
    atf_store_release64(t->head, n + 1); /* pairs with the drain's acquire load of head */
    ATF_BARRIER();
    t->at_work = 0;
    ATF_BARRIER();
    atf_agent_busy = 0;
    ATF_BARRIER();
    if (ATF_UNLIKELY(t->aside)) {
        if (atf_work_begin(sp)) {
            atf_work_ready(t);
            atf_work_end(t);
        }
    } else atf_agent_fast = t;
}

static uint32_t joint_detail(uint16_t type, const void *payload, uint32_t bytes, uint64_t ticks)
{
    uint64_t was = atf_agent_quiet(0);
    atf_work_begin((uint64_t)(uintptr_t)__builtin_frame_address(0));
    atf_agent_thread *t = atf_self_block ? atf_self_block : atf_work_first();
    atf_thread *c = t ? atf_work_ready(t) : NULL;
    if (!c) {
        atf_work_end(t);
        if (was) atf_agent_quiet(was);
        return ATF_NO_DETAIL;
    }
    atf_agent_busy = ATF_HELD; /* until the record is written */
    t->quiet_before = was;
    t->detail_open = 1;
    return atf_detail(c, type, payload, bytes, ticks);
}

static uint32_t joint_open(uint64_t function_id)
{
    atf_agent_thread *t = atf_self_block;
    uint32_t count = 0;
    for (atf_frame *f = t ? t->top : NULL; t && f > t->bottom; f--) {
        if (f->stub || f->ret == OVER) continue;
        if (f->ret == function_id) count++;
        else if (!count) break;
    }
    return count;
}

static int32_t joint_slot(void)
{
    const atf_agent_thread *t = atf_self_block;
    if (!t || !t->core.live || !t->core.slot || !atf_recording) return -1;
    return (int32_t)(t->core.slot - atf_slot_at(atf_current.registry, 0));
}

static const atf_joint joint = {ATF_JOINT_VERSION, sizeof joint, joint_enter, joint_write, joint_detail, joint_open, joint_slot, atf_agent_quiet, atf_agent_stop};
ATF_PUBLIC const atf_joint *atf_agent_joint(void);
ATF_PUBLIC const atf_joint *atf_agent_joint(void) { return &joint; }
