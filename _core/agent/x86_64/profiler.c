/* The slow half of profiler.S. */
#include "../agent.h"

void *atf_profiler_next[2]; /* mcount, __fentry__: as the program would have called them */

/* A profiled function begins whose return address stands at `slot`. */
void atf_profiler_tail(uint64_t *slot)
{
    if (!atf_in_arena(*slot) || !atf_work_begin((uint64_t)(uintptr_t)slot)) return;
    int error = atf_error_now();
    atf_agent_thread *t = atf_self_block;
    atf_thread *c = t ? atf_work_ready(t) : NULL;
    atf_frame *f = c ? atf_frames_settle(t, (uint64_t)(uintptr_t)slot) : NULL;
    if (f) {
        *slot = f->ret;
        atf_frame_returned(t);
    }
    atf_error_back(error);
    atf_work_end(t);
}
