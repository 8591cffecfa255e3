/* See asked.h. */
#include "asked.h"
#include <stdlib.h>
#include <string.h>

static uint64_t took(atf_calls *c, const atf_event *e)
{
    if (e->event_kind == ATF_GAP || atf_tells_level(e)) memset(c, 0, sizeof *c); /* what is missing may have ended any of them */
    if (e->call_depth >= ATF_CALLS_DEEPEST) return 0;
    uint64_t begun = 0;
    switch (e->event_kind) {
    case ATF_CALL:
    case ATF_RESUME:
        c->at[e->call_depth].id = e->function_id;
        c->at[e->call_depth].begun_ns = e->timestamp_ns;
        break;
    case ATF_RETURN:
    case ATF_EXCEPTION:
        if (c->at[e->call_depth].id == e->function_id) begun = c->at[e->call_depth].begun_ns;
        c->at[e->call_depth].id = 0;
        break;
    default:
        break;
    }
    return begun ? e->timestamp_ns - begun : 0;
}

void atf_asked_put(atf_asked *a, atf_calls **calls, uint64_t source, uint32_t tid, const atf_event *e)
{
    if (!*calls) *calls = calloc(1, sizeof **calls);
    uint64_t duration_ns = *calls ? took(*calls, e) : 0;
    if (e->event_kind == ATF_GAP) return;
    if (!a->queue) a->queue = malloc(ATF_ASKED_MOST * sizeof *a->queue);
    if (!a->queue || a->put - a->taken == ATF_ASKED_MOST) {
        a->missed++;
        return;
    }
    a->queue[a->put++ % ATF_ASKED_MOST] =
        (atf_sighting){source, e->function_id, e->timestamp_ns, duration_ns, tid, e->call_depth ? e->call_depth - 1 : 0, e->event_kind, 0};
}

uint32_t atf_asked_take(atf_asked *a, atf_sighting *to, uint32_t most)
{
    uint32_t n = 0;
    for (; n < most && a->taken < a->put; n++) to[n] = a->queue[a->taken++ % ATF_ASKED_MOST];
    return n;
}

uint64_t atf_asked_until(atf_asked *a, uint64_t p_ns)
{
    if (a->answered == a->put) {
        a->until_ns = p_ns;
        a->next_put = 0;
        return p_ns;
    }
    if (a->next_put && a->answered >= a->next_put) {
        a->until_ns = a->next_ns;
        a->next_put = 0;
    }
    if (!a->next_put) {
        a->next_put = a->put;
        a->next_ns = p_ns;
    }
    return a->until_ns < p_ns ? a->until_ns : p_ns;
}

void atf_asked_forget(atf_asked *a)
{
    a->taken = a->answered = a->put;
    a->next_put = 0;
}

void atf_asked_close(atf_asked *a)
{
    free(a->queue);
    memset(a, 0, sizeof *a);
}
