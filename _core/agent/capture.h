/* Details of native calls, and which calls are recorded at all. Included by agent.h. Never includes Python.h. */
#ifndef ATF_AGENT_CAPTURE_H
#define ATF_AGENT_CAPTURE_H
#include "thread.h"

/* Blocks behind the stack bytes of a native detail; docs/format.md. */
enum atf_block_tag { ATF_TAG_VECTORS = 1, ATF_TAG_BACKTRACE = 2, ATF_TAG_TEXTS = 3 };
#define ATF_TEXT_MOST 64 /* bytes of a text */
#define ATF_BACKTRACE_MOST 32

/* What the plan asks for; written before its hooks go in. */
typedef struct atf_wanted {
    uint32_t args, stack_bytes, backtrace;
    int64_t least; /* minus the ticks that a call must last; 0: no filter */
} atf_wanted;
extern atf_wanted atf_agent_wanted;
void atf_wanted_set(const atf_plan *p, const atf_control *c);

/* ---- capture.c: the payload of one detail, to `to` (ATF_CAPTURE_MOST bytes); its bytes. `f`: the call's own frame, NULL: it has none. */
uint32_t atf_capture_call(const atf_agent_thread *t, const atf_frame *f, const uint8_t *stub, const atf_registers *r, uint8_t *to);
uint32_t atf_capture_return(uint64_t id, uint64_t ret, const atf_registers *r, uint8_t *to);

/* ---- timed.c: what is written when calls begin and end. All of it inside a slow path of this thread, with its record path ready.
 * `r`: NULL where the registers are not known. */
void atf_call_begin(atf_agent_thread *t, atf_frame *f, const atf_registers *r);  /* f: the top frame */
void atf_call_alone(atf_agent_thread *t, const uint8_t *stub, uint32_t depth, const atf_registers *r); /* without a return */
/* `f`: a copy; its frame was t->top + 1. `kind` 0: it was left with no word of how. */
void atf_call_end(atf_agent_thread *t, const atf_frame *f, uint32_t kind, const atf_registers *r);
/* Of a frame with younger ones above it, that goes before they do; then they move down. */
void atf_call_end_inside(atf_agent_thread *t, atf_frame *f, uint32_t kind);
void atf_frame_out(atf_agent_thread *t, atf_frame *f);
/* Writes the CALLs of open frames that are not written yet, of those that began before `until`. */
void atf_calls_out(atf_agent_thread *t, uint64_t until);
void atf_calls_left(atf_agent_thread *t); /* a thread ends: of its open calls, those that lasted long enough */
uint32_t atf_short_out(atf_event *events, uint32_t n); /* strikes short calls out of a list (kind 0); how many */
void atf_filtered_tell(atf_agent_thread *t, uint64_t least); /* adds to the plan's count when it is so many behind */
void atf_filtered_tell_all(void);

static inline uint64_t atf_stub_id(const uint8_t *stub)
{
    uint64_t id;
    __builtin_memcpy(&id, stub + STUB_ID - STUB_RET_ENTER, 8);
    return id;
}
static inline uint32_t atf_stub_flags(const uint8_t *stub)
{
    uint32_t flags;
    __builtin_memcpy(&flags, stub + STUB_FLAGS - STUB_RET_ENTER, 4);
    return flags;
}
#endif
