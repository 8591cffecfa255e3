/* See engine.h. Lazy on purpose: it looks at one word a thread, which producers change only when a ring is
 * full, and naps otherwise; it never looks at a running producer's head except to flush. */
#include "engine.h"
#include "parts.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---------------------------------------------------------------- fork
 * Nothing runs between these handlers and fork() itself, so that no producer waits for a drain that is not there. */
static pthread_mutex_t engines_lock = PTHREAD_MUTEX_INITIALIZER;
static atf_engine *engines;
static int fork_waits;

static void before_fork(void)
{
    pthread_mutex_lock(&engines_lock);
    for (atf_engine *e = engines; e; e = e->next) {
        e->paused = e->running;
        atf_engine_join(e);
    }
}

static void after_in_parent(void)
{
    struct stat tasks;
    int alone = stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink == 3; /* ".", ".." and one thread */
    for (atf_engine *e = engines; e; e = e->next)
        if (e->paused && !(fork_waits && alone)) atf_engine_start(e);
    pthread_mutex_unlock(&engines_lock);
}

static void after_in_child(void)
{
    pthread_mutex_init(&engines_lock, NULL);
    fork_waits = 0;
}

static void watch_forks(void) { pthread_atfork(before_fork, after_in_parent, after_in_child); }

void atf_engine_fork_waits(int wait) { fork_waits = wait; }

static void add_ns(struct timespec *t, uint64_t ns)
{
    t->tv_nsec += (long)ns;
    if (t->tv_nsec >= 1000000000) {
        t->tv_nsec -= 1000000000;
        t->tv_sec++;
    }
}

/* ---------------------------------------------------------------- turns */
void atf_engine_lock(atf_engine *e)
{
    atf_add_acq_rel64(&e->turns.asked, 1); /* before the wait: pairs with the load in let_others and atf_turns_wanted */
    uint64_t began = atf_load_relaxed64(&e->cycles);
    pthread_mutex_lock(&e->lock);
    uint64_t passes = e->cycles - began;
    if (passes > e->turns.let_by) atf_store_relaxed64(&e->turns.let_by, passes);
}

void atf_engine_unlock(atf_engine *e)
{
    atf_store_relaxed64(&e->turns.served, e->turns.served + 1);
    pthread_cond_signal(&e->served); /* only the drain's thread waits there */
    pthread_mutex_unlock(&e->lock);
}

/* Between two passes: everybody who has asked for the lock by now gets it first. Who asks later waits for the next pass, so that
 * callers cannot keep the drain from its work either. */
static void let_others(atf_engine *e)
{
    uint64_t until = atf_load_acquire64(&e->turns.asked); /* pairs with the add in atf_engine_lock */
    if (e->turns.served >= until) return;
    struct timespec most;
    clock_gettime(CLOCK_MONOTONIC, &most);
    add_ns(&most, ATF_TURN_NS);
    while (e->turns.served < until && pthread_cond_timedwait(&e->served, &e->lock, &most) == 0);
}

/* ---------------------------------------------------------------- engine */
atf_engine *atf_engine_new(void)
{
    static pthread_once_t watched = PTHREAD_ONCE_INIT;
    pthread_once(&watched, watch_forks);
    atf_engine *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
#ifndef __APPLE__
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&e->wake, &attr);
    pthread_cond_init(&e->served, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&e->lock, NULL);
    e->flush_ns = ATF_FLUSH_NS;
    pthread_mutex_lock(&engines_lock);
    e->next = engines;
    engines = e;
    pthread_mutex_unlock(&engines_lock);
    return e;
}

/* The drain runs for a fraction of a millisecond at a time and must not wait behind a busy program for its whole
 * slice: it asks for a short slice (an earlier deadline, no privilege needed, Linux 6.12) and for a little more
 * weight (needs a privilege). Refusals do not matter. */
static void ask_for_latency(void)
{
#if defined(__linux__) && defined(SYS_sched_setattr)
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {sizeof attr, 0, 0, -10, 0, 200000, 0, 0};
    if (syscall(SYS_sched_setattr, 0, &attr, 0) != 0) {
        attr.nice = getpriority(PRIO_PROCESS, 0);
        if (syscall(SYS_sched_setattr, 0, &attr, 0) != 0) return;
    }
#endif
}

/* Every event that was committed before p_ns has been seen, when the passes were complete. What they mean is known up to where
 * functions have names. */
static void settle(atf_engine *e, uint64_t p_ns)
{
    for (uint32_t i = 0; i < e->n && e->flight->policy.named; i++)
        if (e->sources[i]->named_ns < p_ns) p_ns = e->sources[i]->named_ns;
    if (e->flight->policy.asked) p_ns = atf_asked_until(&e->flight->asked, p_ns);
    for (uint32_t i = 0; i < e->n; i++) atf_flight_settle(e->sources[i], p_ns, 0);
    atf_flight_settled(e->flight, p_ns);
}

static void *run(void *arg)
{
    atf_engine *e = arg;
    ask_for_latency();
    uint64_t nap = ATF_NAP_MIN_NS, flushed = 0, worked = 0, complete = 0;
    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        uint64_t now = atf_clock_ns(CLOCK_MONOTONIC), p_ns = atf_clock_ns(CLOCK_BOOTTIME), wrote = 0;
        uint64_t every = e->flight && atf_flight_unsettled(e->flight) && e->flush_ns > ATF_SETTLE_NS ? ATF_SETTLE_NS : e->flush_ns;
        int peek = now - flushed >= every;
        if (peek) flushed = now;
        int pressed = 0, behind = 0;
        for (uint32_t i = 0; i < e->n; i++) {
            wrote += atf_source_pass(e->sources[i], peek, ATF_PASS_NS);
            pressed |= e->sources[i]->pressed;
            behind |= e->sources[i]->behind;
        }
        if (e->parts) atf_parts_look(e->parts, e->sources, e->n);
        atf_store_relaxed64(&e->cycles, e->cycles + 1); /* read relaxed by whoever asks, as cpu_ns */
        if (wrote) worked = now;
        if (!behind || !complete) complete = now;
        if (e->flight && ((peek && !behind) || now - complete > ATF_BEHIND_NS)) {
            settle(e, p_ns);
            complete = now;
        }
        atf_store_relaxed64(&e->cpu_ns, atf_clock_ns(CLOCK_THREAD_CPUTIME_ID));
        uint64_t longest = now - worked < ATF_IDLE_AFTER_NS ? ATF_NAP_MAX_NS : ATF_NAP_IDLE_NS;
        if (pressed) nap = nap / 2 > ATF_NAP_MIN_NS ? nap / 2 : ATF_NAP_MIN_NS;
        else if (!wrote) nap = nap * 2 < longest ? nap * 2 : longest;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        add_ns(&until, behind ? ATF_NAP_BEHIND_NS : nap);
        pthread_cond_timedwait(&e->wake, &e->lock, &until);
        let_others(e);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

int atf_engine_start(atf_engine *e)
{
    if (e->running) return 0;
    e->stop = 0;
    /* The program's signals belong to its own threads. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&e->thread, NULL, run, e);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    e->running = error == 0;
    return error;
}

void atf_engine_join(atf_engine *e)
{
    if (!e->running) return;
    atf_engine_lock(e);
    e->stop = 1;
    pthread_cond_signal(&e->wake);
    atf_engine_unlock(e);
    pthread_join(e->thread, NULL);
    e->running = 0;
}

int atf_engine_add(atf_engine *e, atf_source *s)
{
    int error = 0;
    atf_engine_lock(e);
    if (e->n == e->room) {
        atf_source **grown = realloc(e->sources, (e->room + 16) * sizeof *grown);
        if (grown) {
            e->sources = grown;
            e->room += 16;
        } else error = ENOMEM;
    }
    if (!error && e->parts) error = atf_parts_join(e->parts, s);
    if (!error) s->flight = e->flight;
    if (!error) s->turns = &e->turns;
    if (!error) e->sources[e->n++] = s;
    if (!error) atf_source_pass(s, 0, ATF_PASS_NS); /* the first heartbeat, at once */
    atf_engine_unlock(e);
    return error;
}

static void take_out(atf_engine *e, atf_source *s)
{
    for (uint32_t i = 0; i < e->n; i++)
        if (e->sources[i] == s) {
            e->sources[i] = e->sources[--e->n];
            return;
        }
}

void atf_engine_finish(atf_engine *e, atf_source *s, int dead)
{
    atf_engine_lock(e);
    s->dead = (uint32_t)dead;
    atf_source_finish(s);
    atf_flight_settle(s, atf_clock_ns(CLOCK_BOOTTIME), 1);
    atf_flight_leave(s);
    s->turns = NULL;
    atf_source_rest(s);
    if (e->parts) atf_parts_leave(e->parts, s);
    take_out(e, s);
    atf_engine_unlock(e);
}

void atf_engine_rules_changed(atf_engine *e)
{
    atf_asked_forget(&e->flight->asked);
    for (uint32_t i = 0; i < e->n; i++) {
        atf_source *s = e->sources[i];
        atf_functions_clear(&s->functions);
        s->named_ns = 0;
        for (uint32_t k = 0; k < s->n_outputs; k++)
            if (s->outputs[k]) {
                if (s->outputs[k]->watch) s->outputs[k]->watch->n = 0;
                free(s->outputs[k]->calls);
                s->outputs[k]->calls = NULL;
            }
    }
}

void atf_engine_settle(atf_engine *e)
{
    atf_engine_lock(e);
    uint64_t p_ns = atf_clock_ns(CLOCK_BOOTTIME);
    for (uint32_t i = 0; i < e->n; i++) {
        const atf_registry *r = e->sources[i]->registry;
        uint32_t passes = (r->index_rings + r->spare_rings) / (r->index_rings + 1) + 2; /* what a lane holds now; a flood goes on */
        do atf_source_pass(e->sources[i], 1, 0);
        while (e->sources[i]->behind && --passes);
    }
    if (e->flight) settle(e, p_ns);
    if (e->parts) atf_parts_look(e->parts, e->sources, e->n);
    atf_engine_unlock(e);
}

void atf_engine_drop(atf_engine *e, atf_source *s)
{
    pthread_mutex_init(&e->lock, NULL); /* whoever held it, or waited for it, does not exist here */
    e->turns.served = e->turns.asked;
    take_out(e, s);
    for (uint32_t i = 0; i < s->n_outputs; i++)
        if (s->outputs[i]) s->outputs[i]->slot = UINT32_MAX; /* the segments go */
}

int atf_engine_look(atf_engine *e, atf_source *s, atf_source *numbers, atf_output **outputs, uint32_t *n)
{
    if (e) atf_engine_lock(e);
    uint32_t room = outputs ? s->n_outputs : 0;
    atf_source_measure(s);
    *numbers = *s;
    if (outputs) {
        *n = 0;
        *outputs = malloc((room + 1) * sizeof **outputs);
        for (uint32_t i = 0; *outputs && i < room; i++)
            if (s->outputs[i]) (*outputs)[(*n)++] = *s->outputs[i];
    }
    if (e) atf_engine_unlock(e);
    return outputs && !*outputs ? ENOMEM : 0;
}

void atf_engine_delete(atf_engine *e)
{
    atf_engine_join(e);
    pthread_mutex_lock(&engines_lock);
    for (atf_engine **p = &engines; *p; p = &(*p)->next)
        if (*p == e) {
            *p = e->next;
            break;
        }
    pthread_mutex_unlock(&engines_lock);
    pthread_cond_destroy(&e->wake);
    pthread_cond_destroy(&e->served);
    pthread_mutex_destroy(&e->lock);
    if (e->flight) atf_flight_close(e->flight);
    free(e->flight);
    if (e->parts) atf_parts_close(e->parts);
    free(e->parts);
    free(e->sources);
    free(e);
}
