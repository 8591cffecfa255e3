/* What producers make of the drain's heartbeat: is it there, and is it worth waiting for. Never includes Python.h. */
#ifndef ATF_HEARTBEAT_H
#define ATF_HEARTBEAT_H
#include "clock.h"

/* Whether the drain gave no sign for that long; before its first, since the session began. */
static inline int silent_for(const atf_control *c, uint64_t ns)
{
    uint64_t beat = atf_load_relaxed64(&c->drain_heartbeat_ticks), now = atf_ticks(c->clock_type);
    if (!beat) beat = c->anchors[0].ticks;
    return now > beat && (now - beat) / (c->ticks_per_second / 1000000 + 1) > ns / 1000;
}

static inline int drain_silent(const atf_control *c)
{
    return atf_load_relaxed64(&c->drain_heartbeat_ticks) == 0 || silent_for(c, ATF_DRAIN_SILENT_NS);
}

/* Under `block` a drain that is only slow is waited for: until the deadline has passed since its last sign. One that
 * does not come back costs the program one deadline in all, not one a ring. */
static inline int worth_waiting(const atf_control *c)
{
    return c->policy == ATF_BLOCK && c->drain_expected && !silent_for(c, c->block_deadline_ns);
}
#endif
