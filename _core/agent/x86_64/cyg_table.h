/* The functions that report their calls, as C and cyg.S see them. */
#ifndef ATF_CYG_TABLE_H
#define ATF_CYG_TABLE_H

/* An entry stands in the place of a stub in frames: what they ask of one has the same offsets. */
#define C_FUNCTION 0
#define C_SIZE 8
#define C_ENTRY_BYTES 32
#define C_SHIFT 0
#define C_MASK 8
#define C_ENTRIES 32
#define C_HASH 0x9E3779B97F4A7C15

#ifndef __ASSEMBLER__
#include "../cyg.h"

typedef struct atf_cyg_entry {
    uint64_t function; /* its address; 0: free */
    uint32_t size, reserved[2];
    uint32_t flags; /* STUB_FLAGS */
    uint64_t id;    /* STUB_ID */
} atf_cyg_entry;

typedef struct atf_cyg_range {
    uint64_t begin, end;
} atf_cyg_range;

/* Never changed and never freed once it is published: frames point into it. */
typedef struct atf_cyg_table {
    uint64_t shift, mask;   /* place = function * C_HASH >> shift, then one after another & mask */
    atf_cyg_range *ranges;  /* every known function, sorted: which one a call site belongs to */
    uint32_t range_count, count;
    atf_cyg_entry entries[];
} atf_cyg_table;
_Static_assert(offsetof(atf_cyg_table, entries) == C_ENTRIES && sizeof(atf_cyg_entry) == C_ENTRY_BYTES, "table");
_Static_assert(offsetof(atf_cyg_entry, flags) == STUB_FLAGS && offsetof(atf_cyg_entry, id) == STUB_ID, "entry");

extern atf_cyg_table *atf_cyg_now;
extern int64_t atf_cyg_sequence; /* of the thread's rseq area's sequence pointer, from the thread pointer */
extern void *atf_cyg_next[4];    /* what stood in our place: by slot, enter and exit; by a patched function, enter and exit. NULL: nothing */
extern void *atf_profiler_next[2];
extern void atf_profiler_mcount(void), atf_profiler_fentry(void); /* profiler_x86_64.S */
extern void atf_cyg_enter(void), atf_cyg_exit(void), atf_cyg_enter_own(void), atf_cyg_exit_own(void);

/* What the assembly calls when its fast path will not do. slot: the stack pointer of the reporting function; site: where its call returns to. */
void atf_cyg_enter_slow(uint64_t function, uint64_t callsite, uint64_t slot, uint64_t site);
void atf_cyg_exit_slow(uint64_t function, uint64_t callsite, uint64_t slot, uint64_t site);
#endif
#endif
