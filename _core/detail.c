/* One detail into its thread's lane: the part that nearly every detail takes. Apart from the slow paths, which the agent wraps. */
#include "joint.h"
#include <string.h>

uint32_t atf_detail(atf_thread *t, uint16_t type, const void *payload, uint32_t bytes, uint64_t ticks)
{
    uint32_t total = (uint32_t)sizeof(atf_detail_record) + bytes;
    uint8_t *p = t->detail_cursor;
    if (bytes > ATF_DETAIL_MAX || t->detail_seq >= 0xFFFFFFF0u) p = NULL;
    else if (ATF_UNLIKELY((size_t)(t->detail_end - p) < total)) p = atf_detail_slow(t, total);
    if (!p) {
        if (atf_joint_now && bytes <= ATF_DETAIL_MAX) return atf_joint_now->detail(type, payload, bytes, ticks);
        if (t->slot) atf_count64(&t->slot->details_lost, 1);
        return ATF_NO_DETAIL;
    }
    atf_detail_record head = {total, type, 0, (uint32_t)(t->seq_base + t->count), t->tid, ticks};
    memcpy(p, &head, sizeof head);
    memcpy(p + sizeof head, payload, bytes);
    t->detail_cursor = p + total;
    t->detail_bytes += total;
    atf_store_release64(t->detail_head, t->detail_bytes); /* pairs with the drain's acquire; before its event's */
    return (uint32_t)t->detail_seq++;
}
