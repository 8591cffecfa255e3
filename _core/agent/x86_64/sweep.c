/* One look through the code of a module for whatever leads into bytes 1..4 of a function that is to be hooked: those bytes will be
 * the middle of a jump. Branches and calls lead there, addresses taken by `lea`, and tables of addresses:
 *
 *   a table of whole addresses    any aligned word of the module's file (switches of programs linked to a fixed place, labels as values)
 *   offsets from the table        read at every address that a `lea` takes (switches of position-independent code)
 *   offsets from a label          read so too, from every label of its own that a function takes
 *
 * A compiler's table can name a loop's head in the first bytes; nothing else in the code need lead there.
 * The sweep is linear and starts anew where a function is known to begin. Where a branch leads to a place that the sweep took for the
 * middle of an instruction, both readings are followed: data between code hides nothing that is branched to. Bytes that are no
 * instruction are tried one by one. What is read wrongly can refuse a function, no more. */
#include "../sweep.h"
#include "decode.h"
#include <link.h>
#include <stdlib.h>

#define LABELS_MOST 8 /* of a function: those that offsets may count from, and what may be tables of such */
#define DATA_MOST 64

/* Offsets that lead into [low, high), counted from `base`. */
typedef struct table {
    uint64_t at, base;
    uint32_t low, high;
} table;

typedef struct sweep {
    const atf_module *m;
    const uint8_t *code;
    uint32_t bytes;
    uint64_t *guarded, *seen, *wanted; /* a bit a byte: must not be led to; an instruction was read here; something leads here */
    const atf_plan_function *functions;
    uint32_t count;
    uint8_t *why;
    uint8_t *hook; /* of each function: where its jump will stand, from its start */
    uint32_t begin, end; /* the function that is being read */
    uint32_t label_count, datum_count;
    uint64_t labels[LABELS_MOST], data[DATA_MOST];
    table *tables;
    uint32_t table_count, table_room;
    int no_memory;
} sweep;

static inline int has(const uint64_t *bits, uint32_t i) { return bits[i >> 6] >> (i & 63) & 1; }
static inline void put(uint64_t *bits, uint32_t i) { bits[i >> 6] |= 1ull << (i & 63); }

static uint32_t offset_of(const sweep *s, uint32_t i) { return (uint32_t)(s->m->at->load_bias + s->functions[i].vaddr - s->m->low); }
static uint32_t jump_of(const sweep *s, uint32_t i) { return offset_of(s, i) + s->hook[i]; }
static int inside(const sweep *s, uint32_t i) { return s->m->at->load_bias + s->functions[i].vaddr - s->m->low < s->bytes; }

/* The functions whose bytes 1..4 hold this offset; several may overlap. */
static void refuse_at(sweep *s, uint32_t to, uint32_t from, uint8_t reason)
{
    uint32_t low = 0, high = s->count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (inside(s, mid) ? jump_of(s, mid) < to : s->functions[mid].vaddr + s->m->at->load_bias < s->m->low) low = mid + 1;
        else high = mid;
    }
    while (low-- && inside(s, low) && to - jump_of(s, low) < ATF_PATCH_BYTES) {
        int own = reason == ATF_WHY_BRANCHED && from - offset_of(s, low) < s->functions[low].size;
        if (!s->why[low]) s->why[low] = own ? ATF_WHY_JUMP_BACK : reason;
    }
}

/* Something leads to this address. Returns whether it is code of the module. */
static inline int leads(sweep *s, uint64_t address, uint32_t from, uint8_t reason)
{
    uint64_t to = address - s->m->low;
    if (to >= s->bytes) return 0;
    put(s->wanted, (uint32_t)to);
    if (has(s->guarded, (uint32_t)to)) refuse_at(s, (uint32_t)to, from, reason);
    return 1;
}

/* Code that an offset of 4 bytes at `p` leads to, from the module's first; UINT32_MAX: none. */
static uint32_t offset_leads(const sweep *s, uint64_t p, uint64_t base)
{
    if (!atf_module_holds(s->m, p, 4)) return UINT32_MAX;
    uint64_t to = base + (uint64_t)(int64_t)*(const int32_t *)p - s->m->low;
    return to < s->bytes ? (uint32_t)to : UINT32_MAX;
}

/* Keeps a table for later, when its first offset leads into [low, high). */
static void keep_table(sweep *s, uint64_t at, uint64_t base, uint32_t low, uint32_t high)
{
    uint32_t to = offset_leads(s, at, base);
    if (to < low || to >= high) return;
    if (s->table_count == s->table_room) {
        uint32_t room = s->table_room ? 2 * s->table_room : 1024;
        table *more = realloc(s->tables, room * sizeof *more);
        if (!more) {
            s->no_memory = 1;
            return;
        }
        s->tables = more, s->table_room = room;
    }
    s->tables[s->table_count++] = (table){at, base, low, high};
}

static void take_address(sweep *s, uint64_t address, uint32_t from)
{
    if (leads(s, address, from, ATF_WHY_BRANCHED)) {
        uint32_t to = (uint32_t)(address - s->m->low);
        if (to > s->begin && to < s->end && s->label_count < LABELS_MOST) s->labels[s->label_count++] = address;
    }
    if (address & 3) return;
    keep_table(s, address, address, 0, s->bytes);
    if (s->datum_count < DATA_MOST) s->data[s->datum_count++] = address;
}

/* Where the mapped code around an offset ends; the offset itself: there is none. */
static uint32_t mapped_to(const sweep *s, uint32_t offset)
{
    uint64_t address = s->m->low + offset;
    for (int i = 0; i < s->m->segment_count; i++) {
        const ElfW(Phdr) *p = &s->m->segments[i];
        uint64_t from = s->m->at->load_bias + p->p_vaddr;
        if (p->p_type == PT_LOAD && p->p_flags & PF_X && address >= from && address - from < p->p_memsz) return (uint32_t)(from + p->p_memsz - s->m->low);
    }
    return offset;
}

/* Reads on until code that was read before, or `to`. */
static void walk(sweep *s, uint32_t from, uint32_t to)
{
    atf_x86 x;
    uint32_t end = mapped_to(s, from);
    if (end == from) put(s->seen, from);
    if (to > end) to = end;
    for (uint32_t i = from; i < to && !has(s->seen, i);) {
        put(s->seen, i);
        if (!atf_x86_decode(s->code + i, end - i, &x)) {
            i++;
            continue;
        }
        uint64_t next = s->m->low + i + x.length;
        if (x.kind >= ATF_X86_CALL && x.kind <= ATF_X86_LOOP) leads(s, next + (uint64_t)(int64_t)x.target, i, ATF_WHY_BRANCHED);
        else if (x.rip_at && s->code[i + x.rip_at - 2] == 0x8D) {
            int32_t d;
            memcpy(&d, s->code + i + x.rip_at, 4);
            take_address(s, next + (uint64_t)(int64_t)d, i);
        }
        i += x.length;
    }
}

static void walk_function(sweep *s, uint32_t from, uint32_t to)
{
    s->begin = from, s->end = to;
    s->label_count = s->datum_count = 0;
    walk(s, from, to);
    for (uint32_t i = 0; i < s->label_count; i++)
        for (uint32_t k = 0; k < s->datum_count; k++) keep_table(s, s->data[k], s->labels[i], from, to);
}

static uint32_t next_segment(const sweep *s, uint32_t at, uint32_t next)
{
    for (int i = 0; i < s->m->segment_count; i++) {
        const ElfW(Phdr) *p = &s->m->segments[i];
        uint64_t from = s->m->at->load_bias + p->p_vaddr - s->m->low;
        if (p->p_type == PT_LOAD && p->p_flags & PF_X && from > at && from < next) next = (uint32_t)from;
    }
    return next;
}

/* From one known start to the next, of the plan or of the unwind table. */
static void walk_all(sweep *s, const atf_span *frames, uint32_t frame_count)
{
    uint32_t at = 0;
    for (uint32_t f = 0, k = 0; at < s->bytes;) {
        while (f < frame_count && frames[f].from <= at) f++;
        while (k < s->count && (!inside(s, k) || offset_of(s, k) <= at)) k++;
        uint32_t next = f < frame_count ? frames[f].from : s->bytes;
        if (k < s->count && inside(s, k) && offset_of(s, k) < next) next = offset_of(s, k);
        next = next_segment(s, at, next);
        walk_function(s, at, next);
        at = next;
    }
}

/* What is led to and was not read as the start of an instruction, until there is no more of it. Returns whether there was some. */
static int walk_lost(sweep *s)
{
    uint32_t words = s->bytes / 64 + 1, found = 0, more;
    s->begin = s->end = 0;
    do {
        more = 0;
        for (uint32_t w = 0; w < words; w++)
            for (uint64_t lost; (lost = s->wanted[w] & ~s->seen[w]) != 0; more = 1) walk(s, w * 64 + (uint32_t)__builtin_ctzll(lost), s->bytes);
        found |= more;
    } while (more);
    return (int)found;
}

static int by_place(const void *a, const void *b)
{
    const table *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at ? -1 : 1) : x->base < y->base ? -1 : x->base > y->base;
}

/* A table goes on as long as its offsets lead into code, at most to where the next one begins. */
static void read_tables(sweep *s)
{
    qsort(s->tables, s->table_count, sizeof *s->tables, by_place);
    for (uint32_t i = 0, next = 0; i < s->table_count; i++) {
        const table *t = &s->tables[i];
        while (next < s->table_count && s->tables[next].at <= t->at) next++;
        if (i && by_place(t, t - 1) == 0) continue;
        uint64_t end = next < s->table_count ? s->tables[next].at : UINT64_MAX;
        for (uint64_t p = t->at; p < end; p += 4) {
            uint32_t to = offset_leads(s, p, t->base);
            if (to < t->low || to >= t->high) break;
            leads(s, s->m->low + to, to, ATF_WHY_TABLE);
        }
    }
}

static void read_words(sweep *s)
{
    for (int i = 0; i < s->m->segment_count; i++) {
        const ElfW(Phdr) *p = &s->m->segments[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_R)) continue;
        uint64_t from = (s->m->at->load_bias + p->p_vaddr + 7) & ~7ull, to = s->m->at->load_bias + p->p_vaddr + p->p_filesz;
        for (const volatile uint64_t *word = (const volatile uint64_t *)from; (uint64_t)(word + 1) <= to; word++) {
            uint64_t at = *word - s->m->low;
            if (at < s->bytes && has(s->guarded, (uint32_t)at)) refuse_at(s, (uint32_t)at, 0, ATF_WHY_TABLE);
        }
    }
}

/* Functions that begin among the bytes, and functions in the middle of another's frame: what stands on the stack there, nobody knows. */
static void compare_starts(sweep *s, const atf_span *frames, uint32_t frame_count)
{
    uint32_t f = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!inside(s, i)) continue;
        uint32_t at = offset_of(s, i), k = i + 1;
        while (k < s->count && s->functions[k].vaddr == s->functions[i].vaddr) k++;
        uint32_t needed = s->hook[i] + ATF_PATCH_BYTES;
        uint64_t room = k < s->count ? s->functions[k].vaddr - s->functions[i].vaddr : needed;
        while (f < frame_count && frames[f].from < at) f++;
        uint32_t beyond = f + (f < frame_count && frames[f].from == at);
        if (beyond < frame_count && frames[beyond].from - at < room) room = frames[beyond].from - at;
        if (room < needed) s->why[i] = s->functions[i].size <= room ? ATF_WHY_SHORT : ATF_WHY_SHARED;
        if (f && beyond == f && at < frames[f - 1].to) s->why[i] = ATF_WHY_SHARED;
    }
}

uint8_t *atf_sweep(const atf_module *m, const atf_plan_function *functions, uint32_t count)
{
    sweep s = {.m = m, .code = (const uint8_t *)m->low, .bytes = (uint32_t)(m->high - m->low), .functions = functions, .count = count};
    size_t words = s.bytes / 64 + 1;
    if (m->high - m->low > UINT32_MAX - 64) return NULL; /* nor would a jump reach */
    s.why = calloc(count ? count : 1, 1);
    s.hook = calloc(count ? count : 1, 1);
    s.guarded = calloc(words * 3, 8), s.seen = s.guarded + words, s.wanted = s.seen + words;
    if (!s.why || !s.hook || !s.guarded) {
        free(s.why), free(s.hook), free(s.guarded);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!inside(&s, i)) continue;
        uint32_t at = offset_of(&s, i), rest = mapped_to(&s, at) - at, size = functions[i].size < rest ? functions[i].size : rest;
        atf_entry e = {0};
        if (size && !ATF_FN_ROLE(functions[i].flags) && atf_entry_find(s.code + at, size, rest, functions[i].flags & ATF_FN_PROFILED, &e) == 0) s.hook[i] = (uint8_t)e.offset;
        for (uint32_t k = 1; k < ATF_PATCH_BYTES && jump_of(&s, i) + k < s.bytes; k++) put(s.guarded, jump_of(&s, i) + k);
    }
    atf_span *frames;
    uint32_t frame_count = atf_module_frames(m, &frames);
    compare_starts(&s, frames, frame_count);
    walk_all(&s, frames, frame_count);
    do read_tables(&s);
    while (walk_lost(&s));
    read_words(&s);
    free(frames);
    free(s.guarded);
    free(s.tables);
    free(s.hook);
    if (s.no_memory) free(s.why), s.why = NULL;
    return s.why;
}
