/* The drain's thread: one for all recorded processes of a session. Never includes Python.h. */
#ifndef ATF_ENGINE_H
#define ATF_ENGINE_H
#include "flight.h"
#include <pthread.h>

/* A nap is halved when half of a lane was full at its end, and doubled when nothing was: most wakes find work, and a thread that
 * speeds up meanwhile has the other half of its rings, then the spare ones. */
#define ATF_NAP_MIN_NS 100000u
#define ATF_NAP_MAX_NS 2000000u
#define ATF_NAP_IDLE_NS 4000000u   /* when nothing came for ATF_IDLE_AFTER_NS */
#define ATF_NAP_BEHIND_NS 10000u   /* full rings are left */
#define ATF_IDLE_AFTER_NS 1000000000u
#define ATF_TURN_NS 100000000u     /* so long at most it waits for a caller that asked for the lock and does not come */
#define ATF_PASS_NS 20000000u      /* a pass over one process: every other one needs its heartbeat */
#define ATF_SETTLE_NS 10000000u    /* while a window waits to be completed, they are read this often */
#define ATF_BEHIND_NS 2000000000u  /* a drain that is behind for so long decides with what it has seen */
#define ATF_FLUSH_NS 250000000u  /* rings that are not full are read this often, for those who watch */

/* `lock` guards the list and everything behind it; the thread holds it during a pass and gives it up to nap. Others take it by
 * atf_engine_lock, and get it at the latest after the ring that the thread is at. */
typedef struct atf_engine {
    pthread_mutex_t lock;
    pthread_cond_t wake, served;
    atf_turns turns;
    pthread_t thread;
    int running, stop;
    atf_source **sources;
    uint32_t n, room;
    uint64_t cpu_ns; /* of the thread, so far */
    uint64_t cycles; /* passes over all sources */
    uint64_t flush_ns;
    atf_flight *flight; /* NULL: everything is kept */
    struct atf_parts *parts; /* NULL: there is one part */
    int paused;              /* stopped by fork(), to be started again */
    struct atf_engine *next; /* list of all */
} atf_engine;

/* Never with the GIL held: the thread may be in the middle of a write. */
void atf_engine_lock(atf_engine *e);
void atf_engine_unlock(atf_engine *e);

atf_engine *atf_engine_new(void);
void atf_engine_delete(atf_engine *e);
int atf_engine_start(atf_engine *e); /* 0 or an errno; nothing when it runs */
void atf_engine_join(atf_engine *e); /* stops the thread; sources stay, and it may be started again (fork) */
/* fork() itself stops the thread of every engine and starts it again in the parent. wait = 1: when the forking thread is
 * the only other one it is left to atf_engine_start (Python warns of a fork in a process that has threads right after it). */
void atf_engine_fork_waits(int wait);
int atf_engine_add(atf_engine *e, atf_source *s);
/* Final pass for one source; then it is no longer in the list, and the caller owns it. */
void atf_engine_finish(atf_engine *e, atf_source *s, int dead);
/* Everything that is committed now is seen, and windows that are over are completed. */
void atf_engine_settle(atf_engine *e);
void atf_engine_rules_changed(atf_engine *e); /* under its lock: functions are to be named again */
void atf_engine_drop(atf_engine *e, atf_source *s); /* in a forked child only: the files are the parent's */

/* Copies of the numbers of one source and of its outputs (malloc'd, *n of them), between two passes. e: NULL when the
 * source is in no engine. 0 or ENOMEM. */
int atf_engine_look(atf_engine *e, atf_source *s, atf_source *numbers, atf_output **outputs, uint32_t *n);
#endif
