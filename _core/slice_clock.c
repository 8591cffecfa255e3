/* The clock of a session without a drain.
 *
 * Nobody else puts anchors. Each turn puts two: where the line is now, and where it is led to, so that it meets
 * CLOCK_BOOTTIME again one step later. What was converted before a turn is converted to the same afterwards. */
#include "slice.h"
#include <string.h>

#define FIRST_STEP_NS 50000000u
#define LONGEST_STEP_NS 300000000000u

void atf_cutter_follow(atf_cutter *k)
{
    uint64_t count;
    do {
        count = atf_load_acquire64(&k->control->anchor_count);
        atf_timescale_load(&k->scale, k->control);
        atf_fence_acquire(); /* the anchors are read before the count is again */
    } while (atf_load_acquire64(&k->control->anchor_count) != count);
}

void atf_cutter_open(atf_cutter *k, atf_control *c, atf_registry *r, atf_global_lane *g, int dead)
{
    memset(k, 0, sizeof *k);
    k->control = c;
    k->registry = r;
    k->global = g;
    k->dead = (uint32_t)dead;
    atf_cutter_follow(k);
}

static void lead_to(atf_cutter *k, uint64_t ticks, uint64_t ns)
{
    atf_anchor_put(k->control, (atf_anchor){ticks, ns, 0});
    k->turn_ticks = ticks;
    atf_timescale_load(&k->scale, k->control);
}

void atf_cutter_lead(atf_cutter *k)
{
    k->origin = k->control->anchors[0];
    k->step_ns = FIRST_STEP_NS;
    lead_to(k, k->origin.ticks + (uint64_t)((double)k->step_ns * (double)k->control->ticks_per_second / 1e9), k->origin.boottime_ns + k->step_ns);
}

static void turn(atf_cutter *k)
{
    atf_anchor now = atf_anchor_now(k->control->clock_type);
    uint64_t line_ns = atf_to_ns(&k->scale, now.ticks);
    double ticks_per_ns = (double)(now.ticks - k->origin.ticks) / (double)(now.boottime_ns - k->origin.boottime_ns);
    if (k->step_ns < LONGEST_STEP_NS) k->step_ns *= 2;
    atf_anchor_put(k->control, (atf_anchor){now.ticks, line_ns, now.unix_ns});
    uint64_t to_ns = now.boottime_ns + k->step_ns;
    if (to_ns < line_ns + k->step_ns / 2) to_ns = line_ns + k->step_ns / 2; /* never backwards */
    lead_to(k, now.ticks + (uint64_t)((double)k->step_ns * ticks_per_ns), to_ns);
}

uint64_t atf_cutter_now(atf_cutter *k)
{
    uint64_t ticks = atf_ticks(k->control->clock_type);
    if (ticks > k->turn_ticks) turn(k);
    return atf_to_ns(&k->scale, ticks);
}
