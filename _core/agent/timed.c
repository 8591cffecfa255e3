/* What is written when a call begins and ends: at once, or, under a duration filter, both when it has ended and lasted long enough.
 *
 * Order: a CALL that is not written yet belongs to an open frame, and whatever was written since that frame began would have
 * written it first. So all that stands in the file is older than every `start` on the stack, and the frames that wait are
 * the topmost ones: from the top down to the first whose `start` is 0. */
#include "agent.h"

atf_wanted atf_agent_wanted;

void atf_wanted_set(const atf_plan *p, const atf_control *c)
{
    uint64_t rate = c->clock_type == ATF_CLOCK_TSC ? c->ticks_per_second : 1000000000u;
    uint64_t ns = p->min_duration_ns < 1ull << 50 ? p->min_duration_ns : 1ull << 50;
    uint64_t seconds = ns / 1000000000u, rest = ns % 1000000000u;
    uint64_t ticks = seconds * rate + rest * (rate / 1000) / 1000000u;
    uint64_t stack = p->stack_bytes < ATF_STACK_BYTES_MOST ? p->stack_bytes : ATF_STACK_BYTES_MOST;
    atf_agent_wanted = (atf_wanted){!!(p->flags & ATF_PLAN_ARGS), (uint32_t)stack, !!(p->flags & ATF_PLAN_BACKTRACE), -(int64_t)(ns && !ticks ? 1 : ticks)};
}

static void put(atf_agent_thread *t, uint32_t kind, uint64_t ticks, uint64_t id, uint32_t depth, const uint8_t *payload, uint32_t bytes)
{
    uint32_t detail = bytes ? atf_detail(&t->core, kind == ATF_CALL ? ATF_D_CALL : ATF_D_RETURN, payload, bytes, ticks) : ATF_NO_DETAIL;
    atf_write_at(&t->core, ticks, kind, id, depth, detail);
}

static uint64_t now(const atf_agent_thread *t) { return atf_ticks(t->core.clock_type); }
static int too_short(uint64_t start, uint64_t end) { return (int64_t)(end - start) + atf_agent_wanted.least < 0; }

/* Where the detail of a waiting frame is kept, its bytes in the first four; NULL: nowhere. */
static uint8_t *kept_of(atf_agent_thread *t, const atf_frame *f)
{
    uint64_t i = (uint64_t)(f - t->bottom);
    if (i >= ATF_CAPTURED_FRAMES) return NULL;
    if (!t->captured) {
        long at = atf_call(SYS_mmap, 0, (long)ATF_CAPTURED_FRAMES * (ATF_CAPTURE_MOST + 8), 3, 0x4022 /* private, anonymous, no reserve */, -1, 0);
        if (at < 0 && at > -4096) return NULL;
        t->captured = (uint8_t *)at;
    }
    return t->captured + i * (ATF_CAPTURE_MOST + 8);
}

static void put_call(atf_agent_thread *t, const atf_frame *f, const atf_frame *place)
{
    uint32_t bytes = 0;
    uint8_t *kept = NULL;
    if (atf_stub_flags(f->stub) & STUB_DETAILS) {
        kept = kept_of(t, place);
        if (kept) memcpy(&bytes, kept, 4);
        else if (t->core.slot) atf_count64(&t->core.slot->details_lost, 1);
    }
    put(t, ATF_CALL, f->start, atf_stub_id(f->stub), f->depth, kept + 8, bytes);
}

void atf_calls_out(atf_agent_thread *t, uint64_t until)
{
    atf_frame *f = t->top;
    while (f > t->bottom && f->start) f--;
    for (f++; f <= t->top; f++) {
        if (f->start > until || f->start == ATF_START_TO_COME) continue;
        put_call(t, f, f);
        f->start = 0;
    }
}

void atf_call_begin(atf_agent_thread *t, atf_frame *f, const atf_registers *r)
{
    uint32_t flags = atf_stub_flags(f->stub), bytes = 0;
    uint64_t id = atf_stub_id(f->stub);
    if (flags & STUB_TIMED) {
        uint8_t *kept = flags & STUB_DETAILS ? kept_of(t, f) : NULL;
        if (kept) {
            if (r) bytes = atf_capture_call(t, f, f->stub, r, kept + 8);
            memcpy(kept, &bytes, 4);
        }
        f->start = now(t);
        return;
    }
    if (flags & STUB_DETAILS && r) bytes = atf_capture_call(t, f, f->stub, r, t->scratch);
    put(t, ATF_CALL, now(t), id, f->depth, t->scratch, bytes);
}

void atf_call_alone(atf_agent_thread *t, const uint8_t *stub, uint32_t depth, const atf_registers *r)
{
    uint64_t id = atf_stub_id(stub);
    uint32_t bytes = r && atf_stub_flags(stub) & STUB_DETAILS ? atf_capture_call(t, NULL, stub, r, t->scratch) : 0;
    put(t, ATF_CALL, now(t), id, depth, t->scratch, bytes);
}

void atf_call_end(atf_agent_thread *t, const atf_frame *f, uint32_t kind, const atf_registers *r)
{
    uint64_t end = now(t), id = atf_stub_id(f->stub);
    uint32_t bytes = 0;
    if (f->start) {
        if (too_short(f->start, end)) {
            __atomic_fetch_add(&t->filtered, 1, __ATOMIC_RELAXED);
            return;
        }
        atf_calls_out(t, f->start);
        put_call(t, f, t->top + 1);
    }
    if (!kind) return;
    if (kind == ATF_RETURN && r && atf_agent_wanted.args && atf_stub_flags(f->stub) & STUB_DETAILS) bytes = atf_capture_return(id, f->ret, r, t->scratch);
    put(t, kind, end, id, f->depth, t->scratch, bytes);
}

void atf_call_end_inside(atf_agent_thread *t, atf_frame *f, uint32_t kind)
{
    uint64_t end = now(t);
    if (f->start) {
        if (too_short(f->start, end)) {
            __atomic_fetch_add(&t->filtered, 1, __ATOMIC_RELAXED);
            return;
        }
        atf_calls_out(t, f->start); /* its own CALL too: it stands on the stack still */
    }
    put(t, kind, end, atf_stub_id(f->stub), f->depth, t->scratch, 0);
}

void atf_frame_out(atf_agent_thread *t, atf_frame *f)
{
    if (t->captured && (uint64_t)(t->top - t->bottom) < ATF_CAPTURED_FRAMES) {
        const uint32_t each = ATF_CAPTURE_MOST + 8;
        uint8_t *at = t->captured + (uint64_t)(f - t->bottom) * each;
        for (uint64_t i = 0; i < (uint64_t)(t->top - f) * each; i++) at[i] = at[i + each];
    }
    for (atf_frame *g = f; g < t->top; g++) *g = g[1];
}

void atf_calls_left(atf_agent_thread *t)
{
    uint64_t end = now(t);
    if (!atf_agent_wanted.least || !t->core.live) return;
    atf_frame *f = t->top;
    for (; f > t->bottom && f->start && too_short(f->start, end); f--) __atomic_fetch_add(&t->filtered, 1, __ATOMIC_RELAXED);
    if (f > t->bottom && f->start) atf_calls_out(t, f->start);
}

uint32_t atf_short_out(atf_event *events, uint32_t n)
{
    uint32_t out = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (events[i].event_kind != ATF_CALL) continue;
        for (uint32_t k = i + 1; k < n; k++) {
            if (events[k].event_kind != ATF_RETURN || events[k].call_depth != events[i].call_depth || events[k].function_id != events[i].function_id) continue;
            if (too_short(events[i].timestamp_ns, events[k].timestamp_ns)) {
                events[i].event_kind = events[k].event_kind = 0;
                out++;
            }
            break;
        }
    }
    return out;
}

/* Relaxed, both: a number for people. Two that tell of one thread at once add up to the truth. */
void atf_filtered_tell(atf_agent_thread *t, uint64_t least)
{
    uint64_t n = __atomic_load_n(&t->filtered, __ATOMIC_RELAXED);
    if (n - t->filtered_told < least || n == t->filtered_told) return;
    uint64_t before = __atomic_exchange_n(&t->filtered_told, n, __ATOMIC_RELAXED);
    __atomic_fetch_add(&atf_agent_counts->spare[2], n - before, __ATOMIC_RELAXED);
}

void atf_filtered_tell_all(void)
{
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next) atf_filtered_tell(t, 1);
}
