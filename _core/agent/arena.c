/* Stubs: memory within reach of the code they trace, at its head what all of them lead to, and one stub after another. */
#include "trap.h"
#include <sys/mman.h>
#include <sys/syscall.h>

/* glibc registers an rseq area for every thread, at a constant distance from the thread pointer. */
extern const int64_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

int atf_rseq_by_libc(void) { return &__rseq_size && __rseq_size >= 20; }

static atf_arena *arenas;

int64_t atf_rseq_place(void)
{
    return atf_rseq_by_libc() ? __rseq_offset + 8 : (char *)&atf_agent_rseq.sequence - (char *)__builtin_thread_pointer();
}

int atf_in_arena(uint64_t address)
{
    if (address >= (uint64_t)atf_path_begin && address < (uint64_t)atf_path_end) return 1;
    for (atf_arena *a = __atomic_load_n(&arenas, __ATOMIC_ACQUIRE); a; a = a->next)
        if (address >= (uint64_t)a->start && address < (uint64_t)a->end) return 1;
    return 0;
}

static void *map_at(uint64_t at, uint64_t bytes)
{
    long got = atf_call(SYS_mmap, (long)at, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got < 0 && got > -4096) return NULL;
    if ((uint64_t)got == at) return (void *)got;
    atf_call(SYS_munmap, got, (long)bytes, 0, 0, 0, 0); /* a kernel that does not know the flag */
    return NULL;
}

/* The free place nearest to the code: just below a mapping, so that neither a heap nor a stack runs into it. */
static void *map_near(uint64_t low, uint64_t high, uint64_t bytes)
{
    uint64_t least = high > ATF_REACH ? high - ATF_REACH : 0x10000, most = low + ATF_REACH - bytes;
    for (uint64_t at = (low - bytes) & ~4095ull; at >= least && at < low;) {
        uint64_t from = 0, to = 0;
        void *p = map_at(at, bytes);
        if (p) return p;
        uint64_t probe = at + bytes - 4096; /* what is in the way, from above */
        while (probe >= at && !atf_block_home(probe, &from, &to)) probe -= 4096;
        uint64_t block = probe >= at ? from : at;
        if (block < bytes + least) break;
        at = (block - bytes) & ~4095ull;
    }
    for (uint64_t at = most & ~4095ull; at > high && at > most - (1ull << 30); at -= bytes + (16 << 20)) {
        void *p = map_at(at & ~4095ull, bytes);
        if (p) return p;
    }
    return NULL;
}

atf_arena *atf_arena_new(uint64_t low, uint64_t high, uint32_t functions)
{
    uint64_t bytes = (4096 + (uint64_t)functions * (ATF_STUB_MOST + 16) + sizeof(atf_arena) + 4095) / 4096 * 4096;
    uint8_t *p = map_near(low, high, bytes);
    if (!p) return NULL;
    atf_arena *a = (atf_arena *)(p + bytes) - 1;
    a->start = p;
    a->at = p + (atf_hot_put(p) + 63) / 64 * 64;
    a->end = p + bytes;
    a->next = arenas;
    __atomic_store_n(&arenas, a, __ATOMIC_RELEASE);
    return a;
}

void atf_arena_close(atf_arena *a)
{
    atf_code_changed(a->start, (size_t)(a->at - a->start));
    atf_call(SYS_mprotect, (long)a->start, a->end - a->start, PROT_READ | PROT_EXEC, 0, 0, 0);
}
