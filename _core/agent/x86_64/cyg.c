/* The slow half of cyg.S. What is on top of the shadow stack need not be the caller: functions were left by longjmp or by an
 * exception without a report, and those that were inlined report from the same stack pointer as the function around them. */
#include "cyg_table.h"

atf_cyg_table *atf_cyg_now;
int64_t atf_cyg_sequence;
void *atf_cyg_next[4];

#define BACK_MOST 64 /* frames looked through for one that is not where it should be */

static const atf_cyg_entry *entry_of(uint64_t function)
{
    atf_cyg_table *t = __atomic_load_n(&atf_cyg_now, __ATOMIC_ACQUIRE); /* pairs with atf_cyg_publish */
    for (uint64_t i = function * C_HASH >> t->shift; t->entries[i].function; i = (i + 1) & t->mask)
        if (t->entries[i].function == function) return &t->entries[i];
    return NULL;
}

static const uint8_t *stub_of(const atf_cyg_entry *e) { return (const uint8_t *)e + STUB_RET_ENTER; }
static const atf_cyg_entry *entry_in(const atf_frame *f) { return (const atf_cyg_entry *)(f->stub - STUB_RET_ENTER); }
static uint64_t site_in(const atf_frame *f) { return f->ret << 16 >> 16; }
static uint64_t packed(uint64_t site, uint64_t callsite) { return site | callsite << 48; }

/* The begin of the function whose code this is; 0: of none that is known. */
static uint64_t home_of(uint64_t site)
{
    atf_cyg_table *t = __atomic_load_n(&atf_cyg_now, __ATOMIC_ACQUIRE);
    uint32_t low = 0, high = t->range_count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (t->ranges[mid].begin < site) low = mid + 1; /* a site lies behind a call: never at a begin */
        else high = mid;
    }
    return low && site <= t->ranges[low - 1].end ? t->ranges[low - 1].begin : 0;
}

/* Whether a report from `site` cannot come from the same activation as the one that made this frame. */
static int elsewhere(const atf_frame *base, const atf_cyg_entry *e, uint64_t site)
{
    uint64_t here = home_of(site), there = home_of(site_in(base));
    if (here && there) return here != there;
    return site - e->function < e->size && entry_in(base)->function != e->function;
}

static void settle(atf_agent_thread *t, const atf_cyg_entry *e, uint64_t slot, uint64_t site)
{
    atf_frames_settle(t, slot - 1);
    while (t->top->slot == slot && !atf_frame_reported(t->top)) atf_frame_dead(t);
    atf_frame *base = NULL, *same = NULL;
    for (atf_frame *f = t->top; f->slot == slot && atf_frame_reported(f); f--) {
        base = f;
        if (site_in(f) == site) same = f; /* the same call again: it was left since, with all that it called */
    }
    if (!same && base && elsewhere(base, e, site)) same = base;
    while (same && t->top >= same) atf_frame_dead(t);
}

void atf_cyg_enter_slow(uint64_t function, uint64_t callsite, uint64_t slot, uint64_t site)
{
    const atf_cyg_entry *e = entry_of(function);
    if (!e) return;
    if (!atf_work_begin(slot)) {
        if (atf_frames_enter_aside(atf_self_block, slot, stub_of(e))) atf_self_block->top->ret = packed(site, callsite);
        return;
    }
    int error = atf_error_now();
    atf_agent_thread *t = atf_self_block ? atf_self_block : atf_work_first();
    atf_thread *c = t ? atf_work_ready(t) : NULL;
    if (c) {
        settle(t, e, slot, site);
        atf_frame *f = atf_frames_push(t, slot, stub_of(e));
        if (f) {
            f->ret = packed(site, callsite);
            atf_write(c, ATF_CALL, e->id, f->depth, ATF_NO_DETAIL);
        }
        t->beyond = f ? 0 : t->beyond + 1;
    }
    atf_error_back(error);
    atf_work_end(t);
}

/* The frame whose function ends here; NULL: its begin was not recorded. */
static atf_frame *ending(atf_agent_thread *t, const uint8_t *stub, uint64_t slot, int tail)
{
    atf_frame *found = NULL;
    for (atf_frame *f = t->top; f->slot && f->slot <= slot && f > t->bottom; f--) {
        if (f->stub != stub) continue;
        if (!tail && f->slot == slot) return f;
        if (tail && f->slot < slot) found = f; /* the outermost: deeper ones were left */
    }
    if (tail || t->beyond) return found;
    atf_frame *f = t->top; /* the stack pointer went down since (alloca, a variable array) */
    for (int i = 0; i < BACK_MOST && f->slot && f > t->bottom; i++, f--)
        if (f->stub == stub && f->slot > slot) return f;
    return NULL;
}

void atf_cyg_exit_slow(uint64_t function, uint64_t callsite, uint64_t slot, uint64_t site)
{
    const atf_cyg_entry *e = entry_of(function);
    if (!e) return;
    if (!atf_work_begin(slot)) {
        atf_agent_thread *t = atf_self_block;
        if (t && t->top->stub == stub_of(e) && t->aside_open) atf_frames_leave_aside(t);
        return;
    }
    int error = atf_error_now();
    atf_agent_thread *t = atf_self_block ? atf_self_block : atf_work_first();
    atf_thread *c = t ? atf_work_ready(t) : NULL;
    atf_frame away, *f = t ? ending(t, stub_of(e), slot, site == callsite) : NULL;
    if (f) {
        while (t->top > f) {
            if (t->top->slot <= f->slot || t->top->slot <= slot) atf_frame_dead(t);
            else atf_frame_orphan(t);
        }
        uint32_t kind = t->raising && f <= t->raised ? ATF_EXCEPTION : ATF_RETURN;
        if (c) atf_write(c, kind, e->id, f->depth, ATF_NO_DETAIL);
        atf_frame_pop(t);
    } else if (t && t->beyond) t->beyond--;
    else if (t && atf_orphan_take(slot, &away) && away.stub == stub_of(e) && c) atf_write(c, ATF_RETURN, e->id, away.depth, ATF_NO_DETAIL);
    atf_error_back(error);
    atf_work_end(t);
}

/* Another session: what was reported to an earlier one may be over since, without a report. */
void atf_cyg_forget(atf_agent_thread *t)
{
    while (t->top > t->bottom && t->top->slot && atf_frame_reported(t->top)) atf_frame_pop(t);
    t->beyond = 0;
}
