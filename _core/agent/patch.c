/* Changes code that other threads may be running: they are brought to a stop in a signal handler first, and one that stood among
 * the bytes that changed goes on where these instructions stand now. While they stand, nothing is called that could need a lock
 * of theirs: system calls only. */
#include "stop.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE, since Linux 5.14; without it the copies are made later */

static struct {
    atf_hook **hooks;
    uint32_t n;
} now;

static void moved_on(ucontext_t *u)
{
    uint64_t rip = ATF_PC(u);
    uint32_t low = 0, high = now.n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if ((uint64_t)now.hooks[mid]->address <= rip) low = mid + 1;
        else high = mid;
    }
    if (!low) return;
    atf_hook *h = now.hooks[low - 1];
    uint64_t at = rip - (uint64_t)h->address;
    if (!h->active || at == 0 || at >= h->bytes) return;
    for (uint32_t i = 0; i < h->moved.count; i++)
        if (h->moved.old_at[i] == at) ATF_PC(u) = (uint64_t)(uintptr_t)(h->stub + STUB_BODY + h->moved.moved_at[i]);
}

/* Pages that hooks stand on get `prot`, neighbours in one call; made writable, they are copied now and not while threads stand. */
static int protect(atf_hook **hooks, uint32_t n, int prot)
{
    uint64_t low = 0, high = 0, home_low = 0, home_high = 0;
    for (uint32_t i = 0; i <= n; i++) {
        uint64_t from = i < n ? (uint64_t)hooks[i]->address & ~4095ull : 0;
        uint64_t to = i < n ? (((uint64_t)hooks[i]->address + hooks[i]->bytes - 1) | 4095) + 1 : 0;
        if (i < n && high && from <= high + 16 * 4096) { /* a gap between must be of the same mapping */
            if (from > high && (high <= home_low || to > home_high)) atf_block_home(high - 1, &home_low, &home_high);
            if (from <= high || to <= home_high) {
                if (to > high) high = to;
                continue;
            }
        }
        if (high && atf_call(SYS_mprotect, (long)low, (long)(high - low), prot, 0, 0, 0) != 0) return 0;
        if (high && prot & PROT_WRITE) atf_call(SYS_madvise, (long)low, (long)(high - low), POPULATE_WRITE, 0, 0, 0);
        low = from, high = to;
    }
    return 1;
}

int atf_patch_all(atf_hook **hooks, uint32_t n, int put, int live, void (*stopped)(void), atf_plan *report)
{
    uint32_t inside = 0;
    int error = protect(hooks, n, PROT_READ | PROT_WRITE | PROT_EXEC) ? 0 : ATF_PLAN_E_MEMORY;
    now.hooks = hooks, now.n = n;
    if (!error && live) error = atf_stop_others(&inside);
    if (!error) {
        for (uint32_t i = 0; i < n; i++) {
            memcpy(hooks[i]->address, put ? hooks[i]->patch : hooks[i]->original, hooks[i]->bytes);
            atf_code_changed(hooks[i]->address, hooks[i]->bytes);
            hooks[i]->active = (uint8_t)put;
        }
        atf_code_changed_all();
        if (stopped && !inside) stopped();
        if (live) atf_stop_over(put ? moved_on : NULL, report);
    }
    protect(hooks, n, PROT_READ | PROT_EXEC);
    return error;
}
