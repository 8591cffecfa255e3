/* A hook changes one instruction here, and nothing leads into the middle of one. What is left to find out is which functions
 * begin where others do, or stand in the middle of another's frame: what their stack holds there, nobody knows. */
#include "../sweep.h"
#include <stdlib.h>

uint8_t *atf_sweep(const atf_module *m, const atf_plan_function *functions, uint32_t count)
{
    uint8_t *why = calloc(count ? count : 1, 1);
    atf_span *frames;
    uint32_t frame_count = why ? atf_module_frames(m, &frames) : 0, f = 0;
    for (uint32_t i = 0; why && i < count; i++) {
        uint64_t address = m->at->load_bias + functions[i].vaddr;
        if (address < m->low || address >= m->high) continue;
        uint32_t at = (uint32_t)(address - m->low), k = i + 1;
        while (k < count && functions[k].vaddr == functions[i].vaddr) k++;
        uint32_t needed = 4 + (m->high - address >= 4 ? atf_landing((const uint8_t *)address) : 0);
        uint64_t room = k < count ? functions[k].vaddr - functions[i].vaddr : needed;
        while (f < frame_count && frames[f].from < at) f++;
        uint32_t beyond = f + (f < frame_count && frames[f].from == at);
        if (beyond < frame_count && frames[beyond].from - at < room) room = frames[beyond].from - at;
        if (room < needed) why[i] = functions[i].size <= room ? ATF_WHY_SHORT : ATF_WHY_SHARED;
        if (f && beyond == f && at < frames[f - 1].to) why[i] = ATF_WHY_SHARED;
    }
    if (why) free(frames);
    return why;
}
