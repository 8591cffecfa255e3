/* Changes code that other threads may be running: they are brought to a stop in a signal handler first, and one that stood among
 * the bytes that changed goes on where these instructions stand now. While they stand, nothing is called that could need a lock
 * of theirs: system calls only. */
#include "trap.h"
#include "../clock.h"
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#define THREADS_MOST 16384
#define STOP_WITHIN_NS 3000000000ull
#define NEWBORN_NS 500000000ull

static struct {
    atf_hook **hooks;
    uint32_t n;
    int put;
    uint32_t active, release, arrived, left, inside;
} now;
static uint32_t tids[THREADS_MOST];

static void moved_on(ucontext_t *u)
{
    uint64_t rip = (uint64_t)u->uc_mcontext.gregs[REG_RIP];
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
        if (h->moved.old_at[i] == at) u->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)(h->stub + STUB_BODY + h->moved.moved_at[i]);
}

static void stop_here(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    if (!atf_load_acquire32(&now.active)) return; /* came late: nobody waits for it */
    if (atf_in_arena((uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP])) atf_add_acq_rel32(&now.inside, 1);
    atf_add_acq_rel32(&now.arrived, 1);
    while (!atf_load_acquire32(&now.release)) atf_call(SYS_futex, (long)&now.release, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
    if (now.put) moved_on(context);
    atf_add_acq_rel32(&now.left, 1);
}

/* A signal that nobody uses, from now on ours; 0: there is none. */
static int take_signal(void)
{
    struct sigaction act = {0}, old;
    act.sa_sigaction = stop_here;
    act.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigfillset(&act.sa_mask);
    for (int s = SIGRTMAX - 2; s > SIGRTMIN; s--)
        if (sigaction(s, NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL) return sigaction(s, &act, NULL) == 0 ? s : 0;
    return 0;
}

enum { HEARS = 0, DEAF = 1, OVER = 2, DEAF_RUNNING = 3 };

/* Whether a thread would take the signal. */
static int deaf(uint32_t tid, int number)
{
    char path[64] = "/proc/self/task/", text[4096], digits[12];
    int n = 16, d = 0;
    for (uint32_t v = tid; v; v /= 10) digits[d++] = (char)('0' + v % 10);
    while (d) path[n++] = digits[--d];
    memcpy(path + n, "/status", 8);
    long fd = atf_call(SYS_openat, -100, (long)path, 0x80000, 0, 0, 0);
    int sleeping = 0;
    if (fd < 0) return OVER;
    long got = atf_call(SYS_read, fd, (long)text, sizeof text - 1, 0, 0, 0);
    atf_call(SYS_close, fd, 0, 0, 0, 0, 0);
    for (long i = 0; i + 24 < got; i++) {
        if (memcmp(text + i, "\nState:\tZ", 9) == 0 || memcmp(text + i, "\nState:\tX", 9) == 0) return OVER;
        if (memcmp(text + i, "\nState:\tS", 9) == 0) sleeping = 1;
        if (memcmp(text + i, "\nSigBlk:\t", 9) != 0) continue;
        uint64_t mask = 0;
        for (long k = i + 9; k < got && text[k] != '\n'; k++) mask = mask << 4 | (uint64_t)(text[k] >= 'a' ? text[k] - 'a' + 10 : text[k] - '0');
        return !(mask >> (number - 1) & 1) ? HEARS : sleeping ? DEAF : DEAF_RUNNING;
    }
    return OVER;
}

static int known(uint32_t tid, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (tids[i] == tid) return 1;
    return 0;
}

struct entry64 {
    uint64_t ino;
    int64_t off;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* Calls `each` with every other thread's id; stops and returns 0 when it does. */
static int every_thread(int (*each)(uint32_t tid, void *), void *argument)
{
    static char buffer[32768];
    uint32_t me = (uint32_t)atf_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    long got, fd = atf_call(SYS_openat, -100, (long)"/proc/self/task", 0x90000, 0, 0, 0);
    int good = fd >= 0;
    while (good && (got = atf_call(SYS_getdents64, fd, (long)buffer, sizeof buffer, 0, 0, 0)) > 0)
        for (long at = 0; at < got && good; at += ((struct entry64 *)(buffer + at))->length) {
            uint32_t tid = 0;
            for (const char *c = ((struct entry64 *)(buffer + at))->name; *c >= '0' && *c <= '9'; c++) tid = tid * 10 + (uint32_t)(*c - '0');
            if (tid && tid != me) good = each(tid, argument);
        }
    if (fd >= 0) atf_call(SYS_close, fd, 0, 0, 0, 0, 0);
    return good;
}

typedef struct rendezvous {
    int number;
    uint32_t n;      /* in tids: those that need no signal any more */
    uint32_t asked;  /* of them, those that got one */
    uint32_t fresh;  /* seen for the first time in this round */
    uint32_t newborn; /* a thread begins with every signal blocked: it is waited for */
    int long_enough;  /* but not for ever: this one blocks it on purpose */
} rendezvous;

static void nap_us(long us)
{
    struct timespec nap = {0, us * 1000};
    atf_call(SYS_nanosleep, (long)&nap, 0, 0, 0, 0, 0);
}

static int note_deaf(uint32_t tid, void *argument)
{
    rendezvous *r = argument;
    if (deaf(tid, r->number) == DEAF && r->n < THREADS_MOST) tids[r->n++] = tid;
    return 1;
}

/* Those that sleep and block the signal (Frida's own do) are left alone: they run none of the program's code. */
static void skip_deaf(rendezvous *r)
{
    every_thread(note_deaf, r);
    if (!r->n) return;
    nap_us(3000);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->n; i++)
        if (deaf(tids[i], r->number) == DEAF) tids[kept++] = tids[i];
    r->n = kept;
}

static int signal_one(uint32_t tid, void *argument)
{
    rendezvous *r = argument;
    if (known(tid, r->n)) return 1;
    if (r->n == THREADS_MOST) return 0;
    int how = deaf(tid, r->number);
    if (how == OVER) return 1;
    r->fresh++;
    if (how != HEARS && !r->long_enough) {
        r->newborn++;
        return 1;
    }
    tids[r->n++] = tid;
    if (how == HEARS && atf_call(SYS_tgkill, atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0), tid, r->number, 0, 0, 0) == 0) r->asked++;
    return 1;
}

static int stop_others(int number, uint32_t *asked)
{
    rendezvous r = {number, 0, 0, 0, 0, 0};
    skip_deaf(&r);
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC);
    for (uint32_t spins = 0;; spins++) {
        r.fresh = r.newborn = 0;
        r.long_enough = atf_clock_ns(CLOCK_MONOTONIC) - start > NEWBORN_NS;
        int all = every_thread(signal_one, &r);
        *asked = r.asked;
        if (all && !r.fresh && atf_load_acquire32(&now.arrived) >= r.asked) return 1;
        nap_us(r.newborn ? 300 : 50);
        if (!all || atf_clock_ns(CLOCK_MONOTONIC) - start > STOP_WITHIN_NS) return 0;
        if (spins % 100 != 99) continue;
        uint32_t gone = 0; /* some may have ended before they took the signal */
        for (uint32_t i = 0; i < r.n; i++) gone += deaf(tids[i], number) == OVER;
        if (atf_load_acquire32(&now.arrived) + gone >= r.asked) r.asked = atf_load_acquire32(&now.arrived);
    }
}

static void go_on(uint32_t asked)
{
    atf_store_release32(&now.release, 1);
    atf_call(SYS_futex, (long)&now.release, FUTEX_WAKE_PRIVATE, INT32_MAX, 0, 0, 0);
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC);
    while (atf_load_acquire32(&now.left) < asked && atf_clock_ns(CLOCK_MONOTONIC) - start < STOP_WITHIN_NS) {
        nap_us(50);
    }
}

static int protect(atf_hook **hooks, uint32_t n, int prot)
{
    uint64_t low = 0, high = 0; /* neighbours in one call */
    for (uint32_t i = 0; i <= n; i++) {
        uint64_t from = i < n ? (uint64_t)hooks[i]->address & ~4095ull : 0;
        uint64_t to = i < n ? (((uint64_t)hooks[i]->address + hooks[i]->bytes - 1) | 4095) + 1 : 0;
        if (i < n && high && from <= high + 16 * 4096) {
            uint64_t l = 0, h = 0; /* the gap between must be the same mapping */
            if (from <= high || (atf_block_home(high - 1, &l, &h) && h >= to)) {
                if (to > high) high = to;
                continue;
            }
        }
        if (high && atf_call(SYS_mprotect, (long)low, (long)(high - low), prot, 0, 0, 0) != 0) return 0;
        low = from, high = to;
    }
    return 1;
}

int atf_patch_all(atf_hook **hooks, uint32_t n, int put, int live, void (*stopped)(void), atf_plan *report)
{
    static int number; /* kept with its handler: a thread that is late still takes it, whose default would end the process */
    uint32_t asked = 0;
    int error = 0;
    if (!protect(hooks, n, PROT_READ | PROT_WRITE | PROT_EXEC)) return ATF_PLAN_E_MEMORY;
    if (live) {
        if (!number && !(number = take_signal())) return ATF_PLAN_E_THREADS;
        now.hooks = hooks, now.n = n, now.put = put;
        now.release = now.arrived = now.left = now.inside = 0;
        atf_store_release32(&now.active, 1);
    }
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC);
    if (live && !stop_others(number, &asked)) error = ATF_PLAN_E_THREADS;
    if (!error) {
        for (uint32_t i = 0; i < n; i++) {
            memcpy(hooks[i]->address, put ? hooks[i]->patch : hooks[i]->original, hooks[i]->bytes);
            hooks[i]->active = (uint8_t)put;
        }
        if (stopped && !atf_load_acquire32(&now.inside)) stopped();
    }
    if (live) {
        if (report) report->threads_stopped = asked, report->stop_ns = atf_clock_ns(CLOCK_MONOTONIC) - start;
        atf_store_release32(&now.active, 0);
        go_on(asked);
    }
    protect(hooks, n, PROT_READ | PROT_EXEC);
    return error;
}

static int note_unhearing(uint32_t tid, void *number)
{
    int how = deaf(tid, *(int *)number);
    return how == HEARS || how == OVER;
}

int atf_threads_hear(int number)
{
    uint64_t mask = 0, start = atf_clock_ns(CLOCK_MONOTONIC);
    atf_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, 8, 0, 0);
    if (mask >> (number - 1) & 1) return 0;
    while (!every_thread(note_unhearing, &number)) {
        if (atf_clock_ns(CLOCK_MONOTONIC) - start > NEWBORN_NS) return 0;
        nap_us(2000);
    }
    return 1;
}
