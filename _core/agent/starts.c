/* Where the functions of a module begin and end by its own unwind table: the loader maps a sorted index of it (.eh_frame_hdr) with
 * every module that can be unwound, stripped or not. Damaged or unknown encodings only make the list shorter. */
#include "sweep.h"
#include <link.h>
#include <stdlib.h>
#include <string.h>

#define PCREL_4 0x1B   /* signed 4 bytes, from their own place */
#define DATAREL_4 0x3B /* signed 4 bytes, from the index's start */
#define UDATA_4 0x03

static uint32_t u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static const uint8_t *past_leb(const uint8_t *p)
{
    while (*p & 0x80) p++;
    return p + 1;
}

/* How an entry's addresses are written: the R of its common entry's augmentation; 0 when that is not understood. */
static uint8_t encoding_of(const uint8_t *entry)
{
    const uint8_t *common = entry + 4 - u32(entry + 4), *letter = common + 9, *p;
    if (u32(common + 4) != 0 || *letter != 'z') return 0;
    p = letter + strlen((const char *)letter) + 1;
    p = past_leb(past_leb(p)); /* alignments of code and data */
    p = common[8] == 1 ? p + 1 : past_leb(p);
    p = past_leb(p);
    for (letter++; *letter; letter++) {
        if (*letter == 'R') return *p;
        if (*letter == 'L') p++;
        else if (*letter == 'P') p += 1 + ((*p & 7) == 3 ? 4 : (*p & 7) == 2 ? 2 : 8);
        else if (*letter != 'S' && *letter != 'B') return 0;
    }
    return 0;
}

uint32_t atf_module_frames(const atf_module *m, atf_span **spans)
{
    const uint8_t *index = NULL;
    uint64_t bytes = 0;
    for (int i = 0; i < m->segment_count; i++)
        if (m->segments[i].p_type == PT_GNU_EH_FRAME) index = (const uint8_t *)(m->at->load_bias + m->segments[i].p_vaddr), bytes = m->segments[i].p_memsz;
    *spans = NULL;
    if (!index || bytes < 12 || index[0] != 1 || (index[1] & 7) != 3 || index[2] != UDATA_4 || index[3] != DATAREL_4) return 0;
    uint32_t count = u32(index + 8), n = 0;
    if (count > (bytes - 12) / 8 || !(*spans = malloc(((size_t)count + 1) * sizeof **spans))) return 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = (uint64_t)index + (uint64_t)(int64_t)(int32_t)u32(index + 12 + 8 * i);
        const uint8_t *entry = index + (int32_t)u32(index + 16 + 8 * i);
        if (at < m->low || at >= m->high || (n && at - m->low <= (*spans)[n - 1].from)) continue;
        atf_span one = {(uint32_t)(at - m->low), (uint32_t)(at - m->low)};
        if (atf_module_holds(m, (uint64_t)entry, 16) && u32(entry) >= 12 && atf_module_holds(m, (uint64_t)entry + 4 - u32(entry + 4), 24) && encoding_of(entry) == PCREL_4)
            one.to += u32(entry + 12);
        (*spans)[n++] = one;
    }
    return n;
}

int atf_module_holds(const atf_module *m, uint64_t address, uint64_t bytes)
{
    for (int i = 0; i < m->segment_count; i++) {
        const ElfW(Phdr) *p = &m->segments[i];
        uint64_t from = m->at->load_bias + p->p_vaddr;
        if (p->p_type == PT_LOAD && p->p_flags & PF_R && address >= from && bytes <= p->p_filesz && address - from <= p->p_filesz - bytes) return 1;
    }
    return 0;
}
