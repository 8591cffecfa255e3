/* Functions by a one-byte trap. The processor's breakpoint instruction is the only change that fits in a single byte: it raises
 * SIGTRAP behind itself, and the handler sets the instruction pointer to the function's stub. From there on everything is as for a
 * jump; nothing is emulated. It costs a signal a call, and needs that SIGTRAP is neither blocked nor anybody else's. */
#include "trap.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* Open addressing by the code's address; entries are never removed, so the handler reads without a lock. */
typedef struct entry {
    uint64_t address; /* release after `stub`; 0: free */
    uint64_t stub;    /* 0: no trap of ours stands there any more */
} entry;
typedef struct table {
    uint64_t mask, used;
    entry at[];
} table;

static table *traps;
static atf_hook own[TRAP_OWN_MOST];
static int ready; /* the handler is in place and stays */
static uint64_t libc_function;

static entry *place_of(table *t, uint64_t address)
{
    uint64_t i = address * 0x9E3779B97F4A7C15u >> 20 & t->mask;
    for (uint64_t key; (key = atf_load_acquire64(&t->at[i].address)) && key != address;) i = (i + 1) & t->mask;
    return &t->at[i];
}

/* ---------------------------------------------------------------- the handler */
/* What would have happened without us. Signals that are no trap of ours are rare: a debugger's aid, or kill(1). */
static void pass_on(int number, siginfo_t *info, ucontext_t *u)
{
    struct sigaction theirs = atf_theirs;
    int forced = info->si_code > 0; /* by the processor: cannot be ignored */
    if (theirs.sa_handler == SIG_IGN && !forced) return;
    if (theirs.sa_handler == SIG_DFL || theirs.sa_handler == SIG_IGN) {
        uint64_t fall[4] = {0};
        atf_call(SYS_rt_sigaction, number, (long)fall, 0, 8, 0, 0);
        if (forced && ATF_TRAP_BEHIND == 0) return;
        if (info->si_code == SI_KERNEL) ATF_PC(u)--; /* once more, this time for good */
        else atf_call(SYS_tgkill, atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0), atf_call(SYS_gettid, 0, 0, 0, 0, 0, 0), number, 0, 0, 0);
        return;
    }
    if (theirs.sa_flags & SA_RESETHAND) atf_theirs.sa_handler = SIG_DFL;
    uint64_t mask;
    memcpy(&mask, &theirs.sa_mask, sizeof mask);
    mask &= ~(1ull << (number - 1));
    atf_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&mask, 0, 8, 0, 0); /* our own return undoes it */
    if (theirs.sa_flags & SA_SIGINFO) theirs.sa_sigaction(number, info, u);
    else theirs.sa_handler(number);
}

static void trapped(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    uint64_t at = ATF_PC(u) - ATF_TRAP_BEHIND;
    table *t = (table *)__atomic_load_n(&traps, __ATOMIC_ACQUIRE); /* pairs with atf_trap_put */
    entry *e = info->si_code > 0 && t ? place_of(t, at) : NULL;
    uint64_t stub = e && e->address ? atf_load_acquire64(&e->stub) : 0;
    if (stub) ATF_PC(u) = stub;
    else if (e && e->address && !atf_trap_there(at)) ATF_PC(u) = at; /* restored meanwhile */
    else pass_on(number, info, u);
}

/* ---------------------------------------------------------------- the table */
int atf_trap_put(uint8_t *code, uint8_t *stub)
{
    table *t = traps;
    if (!t || t->used * 2 >= t->mask) {
        uint64_t slots = t ? (t->mask + 1) * 2 : 512, bytes = (sizeof(table) + slots * sizeof(entry) + 4095) / 4096 * 4096;
        long got = atf_call(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (got < 0 && got > -4096) return 0;
        table *more = (table *)got;
        more->mask = slots - 1;
        for (uint64_t i = 0; t && i <= t->mask; i++)
            if (t->at[i].address) *place_of(more, t->at[i].address) = t->at[i], more->used++;
        __atomic_store_n(&traps, more, __ATOMIC_RELEASE); /* the old one stays: a handler may be reading it */
        t = more;
    }
    entry *e = place_of(t, (uint64_t)(uintptr_t)code);
    t->used += e->address == 0;
    atf_store_release64(&e->stub, (uint64_t)(uintptr_t)stub);
    atf_store_release64(&e->address, (uint64_t)(uintptr_t)code);
    return 1;
}

void atf_trap_drop(uint64_t low, uint64_t high)
{
    for (uint64_t i = 0; traps && i <= traps->mask; i++)
        if (traps->at[i].address >= low && traps->at[i].address < high) atf_store_release64(&traps->at[i].stub, 0);
}

/* ---------------------------------------------------------------- the signal */
static int ours_already(void)
{
    struct { void *handler; uint64_t flags, restorer, mask; } kernel = {0};
    atf_call(SYS_rt_sigaction, SIGTRAP, 0, (long)&kernel, 8, 0, 0);
    return kernel.handler == (void *)trapped ? 1 : kernel.handler == (void *)SIG_DFL ? 0 : -1;
}

static int hook_library(uint32_t i, atf_hook **list, uint32_t *n, uint32_t (*take)(uint8_t *, uint32_t, void *, atf_hook *))
{
    const struct atf_taken *f = atf_taken_at(i);
    Dl_info info;
    ElfW(Sym) *symbol = NULL;
    void *found = dlsym(RTLD_DEFAULT, f->name);
    if (own[i].stub && own[i].active) return 1;
    if (!found || !dladdr1(found, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol) return 0;
    if (!take(found, (uint32_t)symbol->st_size, f->wrapper, &own[i])) return 0;
    *f->original = own[i].stub + STUB_BODY;
    libc_function = (uint64_t)(uintptr_t)found;
    list[(*n)++] = &own[i];
    return 1;
}

uint32_t atf_trap_open(int first, atf_hook **list, uint32_t (*take)(uint8_t *, uint32_t, void *, atf_hook *))
{
    uint32_t n = 0;
    int ours = ours_already();
    ready = 0;
    if (ours < 0 || (!ours && (!first || !atf_threads_hear(SIGTRAP)))) return 0;
    for (uint32_t i = 0; atf_taken_at(i); i++)
        if (!hook_library(i, list, &n, take) && atf_taken_at(i)->needed) return n;
    if (!ours) {
        struct sigaction act = {0};
        act.sa_sigaction = trapped;
        act.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART | SA_ONSTACK;
        if (sigaction(SIGTRAP, &act, NULL) != 0) return n;
    }
    atf_signal_ours = 1;
    ready = 1;
    return n;
}

int atf_trap_own(const uint8_t *code)
{
    for (uint32_t i = 0; i < TRAP_OWN_MOST; i++)
        if (own[i].stub && own[i].address == code) return 1;
    return 0;
}

int atf_trap_why(uint64_t low, uint64_t high)
{
    if (!ready) return ATF_WHY_SIGNAL;
    return libc_function >= low && libc_function < high ? ATF_WHY_LIBC : 0; /* it blocks every signal by itself, at forks and threads' starts */
}
