/* A rendezvous in the handler of a real-time signal that nobody uses.
 *
 * A thread that waits for a processor can take long to come, and those that came wait for it. So threads that run are asked first;
 * those that sleep come at once and are asked when the others stand, so that a system call of theirs is interrupted once. When
 * somebody is late all go on, and it is tried again a little later: the program stops often rather than long. */
#include "stop.h"
#include "../clock.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#define THREADS_MOST 16384
#define BRIEF_NS 5000000ull         /* a try, and for each thread */
#define BRIEF_THREAD_NS 20000ull
#define TRIES_NS 1000000000ull      /* all of them; after that one that takes as long as it takes */
#define STOP_WITHIN_NS 3000000000ull
#define NEWBORN_NS 500000000ull

/* active: a thread that takes the signal stands until `release`. Set with release order when the rest is ready. */
static struct {
    uint32_t active, release, arrived, left, inside;
    void (*going)(ucontext_t *);
} now;

static struct { uint32_t tid; uint8_t how, asked; } threads[THREADS_MOST];
static uint32_t count, asked, longest_try_ns;
static uint64_t asked_at;

static void stop_here(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)number, (void)info;
    if (atf_load_acquire32(&now.active)) { /* else it came late: nobody waits for it */
        if (atf_in_arena(ATF_PC(u))) atf_add_acq_rel32(&now.inside, 1);
        atf_add_acq_rel32(&now.arrived, 1);
        while (!atf_load_acquire32(&now.release)) atf_call(SYS_futex, (long)&now.release, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
        if (now.going) now.going(u);
    }
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

enum { RUNS, SLEEPS, DEAF, DEAF_RUNNING, OVER };

/* Whether a thread would take the signal, and how soon. */
static uint8_t how_is(uint32_t tid, int number)
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
        return !(mask >> (number - 1) & 1) ? (sleeping ? SLEEPS : RUNS) : sleeping ? DEAF : DEAF_RUNNING;
    }
    return OVER;
}

struct entry64 {
    uint64_t ino;
    int64_t off;
    uint16_t length;
    uint8_t type;
    char name[];
};

typedef struct look {
    int number;
    uint32_t fresh, newborn; /* a thread begins with every signal blocked: it is waited for */
    int long_enough;         /* but not for ever: this one blocks it on purpose */
} look;

/* Calls `each` with every other thread's id; 0: it said so, or they cannot be listed. */
static int every_thread(int (*each)(uint32_t tid, look *), look *l)
{
    static char buffer[32768];
    uint32_t me = (uint32_t)atf_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    long got, fd = atf_call(SYS_openat, -100, (long)"/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
    int good = fd >= 0;
    while (good && (got = atf_call(SYS_getdents64, fd, (long)buffer, sizeof buffer, 0, 0, 0)) > 0)
        for (long at = 0; at < got && good; at += ((struct entry64 *)(buffer + at))->length) {
            uint32_t tid = 0;
            for (const char *c = ((struct entry64 *)(buffer + at))->name; *c >= '0' && *c <= '9'; c++) tid = tid * 10 + (uint32_t)(*c - '0');
            if (tid && tid != me) good = each(tid, l);
        }
    if (fd >= 0) atf_call(SYS_close, fd, 0, 0, 0, 0, 0);
    return good;
}

static void nap_us(long us)
{
    struct timespec nap = {0, us * 1000};
    atf_call(SYS_nanosleep, (long)&nap, 0, 0, 0, 0, 0);
}

static int note(uint32_t tid, look *l)
{
    uint8_t how = how_is(tid, l->number);
    if (how == OVER) return 1;
    if (how == DEAF_RUNNING && !l->long_enough) l->newborn++;
    if (count == THREADS_MOST) return 0;
    threads[count].tid = tid, threads[count].how = how, threads[count++].asked = 0;
    return 1;
}

/* Who there is, before anybody is asked. Those that block the signal for good (Frida's own do) are left alone. 0: too many. */
static int note_all(int number)
{
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC);
    for (int changed = 1; changed;) {
        look l = {number, 0, 0, atf_clock_ns(CLOCK_MONOTONIC) - start > NEWBORN_NS};
        uint32_t deaf = changed = count = 0;
        if (!every_thread(note, &l)) return 0;
        for (uint32_t i = 0; i < count; i++) deaf += threads[i].how == DEAF;
        if (l.newborn) changed = 1, nap_us(300);
        else if (deaf) {
            nap_us(3000);
            for (uint32_t i = 0; i < count; i++) changed |= threads[i].how == DEAF && how_is(threads[i].tid, number) != DEAF;
        }
        if (l.long_enough) return 1;
    }
    return 1;
}

static void ask(uint32_t i, int number)
{
    if (threads[i].how > SLEEPS || threads[i].asked) return;
    if (atf_call(SYS_tgkill, atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0), threads[i].tid, number, 0, 0, 0) == 0) threads[i].asked = 1, asked++;
    else threads[i].how = OVER;
}

/* For threads that were not there before. */
static int ask_new(uint32_t tid, look *l)
{
    static uint32_t last; /* they come in the same order each time */
    for (uint32_t i = 0; i < count; i++)
        if (threads[++last < count ? last : (last = 0)].tid == tid) return 1;
    if (count == THREADS_MOST) return 0;
    uint8_t how = how_is(tid, l->number);
    if (how == OVER) return 1;
    l->fresh++;
    if (how > SLEEPS && !l->long_enough) {
        l->newborn++;
        return 1;
    }
    threads[count].tid = tid, threads[count].how = how, threads[count].asked = 0;
    ask(count++, l->number);
    return 1;
}

static uint32_t gone(int number)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) n += threads[i].asked && how_is(threads[i].tid, number) == OVER;
    return n;
}

/* Whether all stand, before their patience ends. */
static int gather(int number, uint64_t patience_ns)
{
    int sleepers_too = 0;
    asked = 0;
    asked_at = atf_clock_ns(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < count; i++) threads[i].asked = 0;
    for (uint32_t i = 0; i < count; i++)
        if (threads[i].how == RUNS) ask(i, number);
    for (uint64_t checked = asked_at;;) {
        uint64_t time = atf_clock_ns(CLOCK_MONOTONIC);
        look l = {number, 0, 0, time - asked_at > NEWBORN_NS};
        int all = every_thread(ask_new, &l);
        if (all && !l.fresh && atf_load_acquire32(&now.arrived) >= asked) {
            if (sleepers_too++) return 1;
            for (uint32_t i = 0; i < count; i++) ask(i, number);
            if (atf_load_acquire32(&now.arrived) >= asked) continue;
        }
        if (!all || time - asked_at > patience_ns) return 0;
        nap_us(l.newborn ? 300 : 20);
        if (time - checked < 5000000) continue;
        checked = time; /* some may have ended before they took the signal */
        if (atf_load_acquire32(&now.arrived) + gone(number) >= asked) asked = atf_load_acquire32(&now.arrived);
    }
}

static void disperse(int number)
{
    atf_store_release32(&now.active, 0);
    atf_store_release32(&now.release, 1);
    uint64_t time = atf_clock_ns(CLOCK_MONOTONIC), checked = time, ns = time - asked_at;
    if (ns > longest_try_ns) longest_try_ns = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
    atf_call(SYS_futex, (long)&now.release, FUTEX_WAKE_PRIVATE, INT32_MAX, 0, 0, 0);
    for (uint64_t start = time; atf_load_acquire32(&now.left) < asked && time - start < STOP_WITHIN_NS; time = atf_clock_ns(CLOCK_MONOTONIC)) {
        nap_us(50);
        if (time - checked < 5000000) continue;
        checked = time;
        if (atf_load_acquire32(&now.left) + gone(number) >= asked) return;
    }
}

/* Who makes others wait should not have to wait for a processor itself. Returns what to pass to be as before; not allowed: nothing. */
static long in_haste(long niceness)
{
    long before = 20 - atf_call(SYS_getpriority, 0, 0, 0, 0, 0, 0);
    if (before != niceness) atf_call(SYS_setpriority, 0, 0, niceness, 0, 0, 0);
    return before;
}

static int number; /* kept with its handler: a thread that is late still takes it, whose default would end the process */
static long niceness;

static int try_for_long(void)
{
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC);
    for (long rest_us = 500;; rest_us = rest_us < 16000 ? 2 * rest_us : rest_us) {
        if (!note_all(number)) return ATF_PLAN_E_THREADS;
        int last = atf_clock_ns(CLOCK_MONOTONIC) - start > TRIES_NS;
        now.release = now.arrived = now.left = now.inside = 0;
        now.going = NULL;
        atf_store_release32(&now.active, 1);
        if (gather(number, last ? STOP_WITHIN_NS - TRIES_NS : BRIEF_NS + count * BRIEF_THREAD_NS)) return 0;
        disperse(number);
        if (last) return ATF_PLAN_E_THREADS;
        nap_us(rest_us);
    }
}

int atf_stop_others(uint32_t *inside)
{
    if (!number && !(number = take_signal())) return ATF_PLAN_E_THREADS;
    longest_try_ns = 0;
    niceness = in_haste(-20);
    int error = try_for_long();
    if (error) in_haste(niceness);
    *inside = atf_load_acquire32(&now.inside);
    return error;
}

void atf_stop_over(void (*going)(ucontext_t *), atf_plan *report)
{
    now.going = going; /* seen by who sees `release` */
    uint32_t stood = asked;
    disperse(number);
    in_haste(niceness);
    if (report) report->threads_stopped = stood, report->stop_ns = longest_try_ns;
}

#ifndef ATF_DEAF_MOST
#define ATF_DEAF_MOST 0 /* an emulator has a thread of its own, which runs none of the program's code */
#endif

static int note_unhearing(uint32_t tid, look *l)
{
    uint8_t how = how_is(tid, l->number);
    return (how != DEAF && how != DEAF_RUNNING) || ++l->fresh <= ATF_DEAF_MOST;
}

int atf_threads_hear(int number)
{
    uint64_t mask = 0, start = atf_clock_ns(CLOCK_MONOTONIC);
    look l = {number, 0, 0, 0};
    atf_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, 8, 0, 0);
    if (mask >> (number - 1) & 1) return 0;
    for (; !every_thread(note_unhearing, &l); l.fresh = 0) {
        if (atf_clock_ns(CLOCK_MONOTONIC) - start > NEWBORN_NS) return 0;
        nap_us(2000);
    }
    return 1;
}
