/* The calls of a thread that are in progress, from its records: what the next part of a recording begins with. A call is known by its
 * function and its depth. Never includes Python.h. */
#ifndef ATF_PROGRESS_H
#define ATF_PROGRESS_H
#include "format.h"
#include <stdlib.h>

#define ATF_PROGRESS_MOST 4096u /* deeper ones are not told again */
#define ATF_PROGRESS_SEARCH 64u

typedef struct atf_running_call {
    uint64_t id;
    uint32_t depth, reserved;
} atf_running_call;

typedef struct atf_progress {
    atf_running_call *calls; /* outermost first, each deeper than the one before */
    uint32_t n, room;
    uint32_t exits;          /* 1: exits are recorded. Without them nobody knows what is in progress */
} atf_progress;

static inline void atf_progress_enter(atf_progress *p, const atf_event *e)
{
    while (p->n && p->calls[p->n - 1].depth >= e->call_depth) p->n--; /* left without a record */
    if (p->n == p->room) {
        uint32_t room = p->room ? 2 * p->room : 32;
        atf_running_call *grown = room <= ATF_PROGRESS_MOST ? (atf_running_call *)realloc(p->calls, room * sizeof *grown) : NULL;
        if (!grown) return;
        p->calls = grown;
        p->room = room;
    }
    p->calls[p->n++] = (atf_running_call){e->function_id, e->call_depth, 0};
}

/* The call of this function at this depth, else the nearest of this function, ends, and with it what it called. */
static inline void atf_progress_leave(atf_progress *p, const atf_event *e)
{
    uint32_t i = p->n, searched = 0;
    p->exits = 1;
    while (i && p->calls[i - 1].depth > e->call_depth) i--;
    if (!i || p->calls[i - 1].depth != e->call_depth || p->calls[i - 1].id != e->function_id)
        for (i = p->n; i && p->calls[i - 1].id != e->function_id; i--)
            if (++searched == ATF_PROGRESS_SEARCH) return;
    if (i) p->n = i - 1;
}

static inline void atf_progress_follow(atf_progress *p, const atf_event *events, uint64_t n)
{
    for (uint64_t k = 0; k < n; k++) {
        const atf_event *e = &events[k];
        if (e->event_kind == ATF_CALL || e->event_kind == ATF_RESUME) atf_progress_enter(p, e);
        else if (e->event_kind == ATF_RETURN || e->event_kind == ATF_EXCEPTION || e->event_kind == ATF_YIELD) atf_progress_leave(p, e);
    }
}
#endif
