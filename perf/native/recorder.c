/* The fastest recorder that we could write for a program that is compiled for it: a pair of calls into the same program for each
 * function, 16 bytes {function, TSC} a record, in a ring of the thread's own that is overwritten. No gate, no limits, no drain. */
#include <stdint.h>
#include <x86intrin.h>

#define RECORDS (1u << 19) /* 8 MB */

typedef struct record {
    void *function; /* bit 63: it returned */
    uint64_t ticks;
} record;

static __thread struct {
    uint64_t next;
    record at[RECORDS];
} ring __attribute__((tls_model("initial-exec")));

static inline void put(uint64_t function)
{
    record *r = &ring.at[ring.next++ & (RECORDS - 1)];
    r->function = (void *)function;
    r->ticks = __rdtsc();
}

void __cyg_profile_func_enter(void *function, void *caller)
{
    (void)caller;
    put((uint64_t)(uintptr_t)function);
}

void __cyg_profile_func_exit(void *function, void *caller)
{
    (void)caller;
    put((uint64_t)(uintptr_t)function | 1ull << 63);
}

long recorded(void) { return (long)ring.next; }
