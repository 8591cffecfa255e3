/* Start and stop, and what both share: the list of modules with their hooks, and the lock over it. Never includes Python.h. */
#ifndef ATF_AGENT_HOOKS_H
#define ATF_AGENT_HOOKS_H
#include "agent.h"
#include <link.h>
#include <pthread.h>

typedef struct atf_module {
    atf_plan *plan;
    atf_plan_module *at;
    uint64_t low, high, loaded_low, loaded_high; /* executable bytes; all of it */
    const ElfW(Phdr) *segments; /* as long as it is loaded */
    int segment_count;
    atf_hook *hooks;    /* one for each function, stub NULL: refused */
    struct atf_module *next;
} atf_module;

/* Held while code is changed and while the list below is. */
extern pthread_mutex_t atf_agent_lock;
extern atf_module *atf_modules;

/* ---- modules.c ---- */
int atf_module_present(atf_module *m); /* whether it is in memory; `at` says where, or that it is another build */
typedef struct atf_held {
    int (*what)(struct atf_held *h);
    atf_hook **list; /* room for all hooks */
    uint32_t n;
    int live, error;
    atf_plan *report;
} atf_held;
int atf_modules_held(atf_held *h);     /* what its `what` returned */

/* ---- hooks.c ---- */
void atf_hooks_follow(int live); /* what the loader changed while the lock was held */
uint32_t atf_hooks_most(void);                      /* how many there can be */
int atf_hook_present(int live, atf_plan *report);   /* hooks what is there and was not yet; 0 or an atf_plan_error */
void atf_hook_exec(void);
int atf_hooks_by_address(const void *a, const void *b); /* for qsort over atf_hook * */
#endif
