/* Frames that left the order of their thread's shadow stack: of coroutines that were switched away, of code below a signal
 * handler's own stack. Found again by the address of their return slot, from whichever thread returns through it. A table with
 * open addressing under a spin lock; no signal handler of the thread that holds it runs meanwhile: it could leave by longjmp. */
#include "agent.h"
#include <sys/mman.h>
#include <sys/syscall.h>

static uint32_t lock, ever;
static atf_frame *table;
static uint64_t capacity, used; /* used: with removed ones (slot == GONE) */
#define GONE 1u

static void hold(uint64_t *signals)
{
    atf_signals_hold(signals);
    while (!atf_cas_acq_rel32(&lock, 0, 1)) atf_pause();
}
static void let_go(const uint64_t *signals)
{
    atf_store_release32(&lock, 0);
    atf_signals_free(signals);
}

static uint64_t place(uint64_t slot) { return (slot >> 3) * 0x9E3779B97F4A7C15u >> 20; }

static void put(const atf_frame *f)
{
    uint64_t i = place(f->slot), free_at = UINT64_MAX;
    for (;; i++) {
        atf_frame *at = &table[i & (capacity - 1)];
        if (at->slot == f->slot) {
            /* Whoever stood there is long gone, or called this one in its own place: then it is where that one would have returned to. */
            uint64_t ret = f->ret == (uint64_t)(uintptr_t)(at->stub + STUB_RET_BODY - STUB_RET_ENTER) ? at->ret : f->ret;
            *at = *f;
            at->ret = ret;
            return;
        }
        if (at->slot == GONE && free_at == UINT64_MAX) free_at = i;
        if (at->slot) continue;
        if (free_at == UINT64_MAX) free_at = i, used++;
        table[free_at & (capacity - 1)] = *f;
        return;
    }
}

static int grow(void)
{
    atf_frame *old = table;
    uint64_t before = capacity, alive = 0;
    for (uint64_t i = 0; i < before; i++) alive += old[i].slot > GONE;
    uint64_t wanted = 1024;
    while (wanted < alive * 4) wanted *= 2;
    long at = atf_call(SYS_mmap, 0, (long)(wanted * sizeof(atf_frame)), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096) return 0;
    table = (atf_frame *)at;
    capacity = wanted, used = 0;
    for (uint64_t i = 0; i < before; i++)
        if (old[i].slot > GONE) put(&old[i]);
    if (old) atf_call(SYS_munmap, (long)old, (long)(before * sizeof(atf_frame)), 0, 0, 0, 0);
    return 1;
}

void atf_orphan_put(const atf_frame *f)
{
    uint64_t signals;
    hold(&signals);
    if ((used + 1) * 2 <= capacity || grow()) put(f);
    atf_store_release32(&ever, 1);
    let_go(&signals);
}

int atf_orphan_take(uint64_t slot, atf_frame *f)
{
    int found = 0;
    uint64_t signals;
    if (!atf_load_acquire32(&ever)) return 0; /* most programs have none */
    hold(&signals);
    if (capacity)
        for (uint64_t i = place(slot);; i++) {
            atf_frame *at = &table[i & (capacity - 1)];
            if (at->slot == slot) {
                *f = *at;
                at->slot = GONE;
                found = 1;
            }
            if (found || !at->slot) break;
        }
    let_go(&signals);
    return found;
}

void atf_orphan_each(uint64_t low, uint64_t high, void (*each)(atf_frame *f))
{
    uint64_t signals;
    if (!atf_load_acquire32(&ever)) return;
    hold(&signals);
    for (uint64_t i = 0; i < capacity; i++)
        if (table[i].slot >= low && table[i].slot < high) each(&table[i]);
    let_go(&signals);
}

void atf_orphan_forked(void) { atf_store_release32(&lock, 0); }
