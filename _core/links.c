/* Events and their details: the cursor that walks a thread's detail rings beside its events.
 *
 * A detail is published before the event that refers to it. So when an event is at hand, its detail stands in
 * a detail ring or was dropped for good; and when a detail ring is FULL, all events that refer to it have been
 * published. Numbers on both sides only grow: one walk is enough. */
#include "lane.h"
#include "source.h"
#include <string.h>

static atf_lane lane_of(atf_source *s, atf_output *o) { return atf_detail_lane(s->registry, atf_slot_at(s->registry, o->slot)); }

static atf_ring *ring_of(atf_source *s, atf_output *o)
{
    atf_lane lane = lane_of(s, o);
    return atf_lane_ring(&lane, s->detail_ring);
}

static int open_ring(atf_source *s, atf_output *o)
{
    atf_lane lane = lane_of(s, o);
    int claimed;
    uint32_t i = atf_lane_oldest(&lane, 1, &claimed);
    if (i == ATF_NO_RING) return 0;
    atf_ring *r = atf_lane_ring(&lane, i);
    s->detail_ring = i;
    s->detail_claimed = (uint32_t)claimed;
    s->detail_at = r->drained;
    s->detail_number = r->first_seq + r->drained_details;
    s->detail_end = atf_ring_committed(r);
    return 1;
}

/* The detail with this number, or NULL: dropped. The cursor stays on it; asking again gives it again.
 * *flush: the open ring is read to its end and must be freed first, which needs its content to be on disk. */
const uint8_t *atf_link_find(atf_source *s, atf_output *o, uint32_t number, int *flush)
{
    *flush = 0;
    if (o->slot == UINT32_MAX || s->registry->detail_rings == 0) return NULL;
    for (;;) {
        if (s->detail_ring == ATF_NO_RING && !open_ring(s, o)) return NULL;
        const uint8_t *base = (const uint8_t *)s->global + ring_of(s, o)->offset;
        while (s->detail_at < s->detail_end && s->detail_number <= number) {
            if (s->detail_number == number) return base + s->detail_at;
            atf_detail_record r;
            memcpy(&r, base + s->detail_at, sizeof r);
            s->detail_at += r.total_length;
            s->detail_number++;
        }
        if (s->detail_at < s->detail_end || !s->detail_claimed) {
            uint64_t end = atf_ring_committed(ring_of(s, o));
            if (s->detail_at == s->detail_end && end > s->detail_end) {
                s->detail_end = end; /* peeked earlier; more was published since */
                continue;
            }
            if (s->detail_at < s->detail_end || atf_load_acquire32(&ring_of(s, o)->state) == (ATF_RING_ACTIVE | ATF_RING_PEEK)) return NULL;
        }
        if (s->staged_details) {
            *flush = 1;
            return NULL;
        }
        atf_link_close(s, o);
    }
}

/* Lets go of the open ring. What was walked over is consumed: only call with nothing staged from it. */
void atf_link_close(atf_source *s, atf_output *o)
{
    if (s->detail_ring == ATF_NO_RING) return;
    atf_ring *r = ring_of(s, o);
    r->drained = s->detail_at;
    r->drained_details = (uint32_t)(s->detail_number - r->first_seq);
    if (!s->detail_claimed) atf_ring_unpeek(r);
    else if (s->detail_at < s->detail_end) atf_ring_give_back(r);
    else {
        atf_lane lane = lane_of(s, o);
        atf_lane_free(&lane, s->detail_ring);
        o->m.detail_swaps++;
    }
    s->detail_ring = ATF_NO_RING;
}

/* Details in FULL rings whose events were lost would keep their ring for ever: walks over them. */
void atf_link_sweep(atf_source *s, atf_output *o)
{
    for (uint32_t k = 0; k <= s->registry->detail_rings + s->registry->spare_rings; k++) {
        if (o->slot == UINT32_MAX || !open_ring(s, o)) return;
        int go_on = (int)s->detail_claimed;
        const uint8_t *base = (const uint8_t *)s->global + ring_of(s, o)->offset;
        while (s->detail_at < s->detail_end) {
            atf_detail_record r;
            memcpy(&r, base + s->detail_at, sizeof r);
            if ((int32_t)(r.index_seq - (uint32_t)o->expected) >= 0) break;
            s->detail_at += r.total_length;
            s->detail_number++;
            o->orphans++;
        }
        go_on = go_on && s->detail_at == s->detail_end;
        atf_link_close(s, o);
        if (!go_on) return;
    }
}
