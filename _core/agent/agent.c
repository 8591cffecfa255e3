/* Start and stop: reads plans, attaches the segments, gives everything back. */
#include "hooks.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLANS_MOST 64

static atf_plan *plans[PLANS_MOST];
static uint32_t plan_count;
static void *attached[3];
static int32_t attached_ids[3];
static int safe_to_let_go;

atf_plan *atf_agent_plan(uint32_t i) { return i < plan_count ? plans[i] : NULL; }

static atf_plan *map_plan(const char *path)
{
    struct stat s;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return NULL;
    atf_plan *p = fstat(fd, &s) == 0 && s.st_size >= (off_t)sizeof *p ? mmap(NULL, (size_t)s.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (p == MAP_FAILED) return NULL;
    uint64_t bytes = (uint64_t)s.st_size;
    int good = p->magic == ATF_PLAN_MAGIC && p->version == ATF_PLAN_VERSION && p->bytes <= bytes;
    good = good && p->modules_offset + (uint64_t)p->module_count * sizeof(atf_plan_module) <= bytes;
    good = good && p->functions_offset + (uint64_t)p->function_count * sizeof(atf_plan_function) <= bytes && p->texts_offset <= bytes;
    good = good && ((p->modules_offset | p->functions_offset) & 7) == 0 && ((char *)p)[bytes - 1] == 0;
    for (uint32_t i = 0; good && i < p->module_count; i++) {
        atf_plan_module *m = (atf_plan_module *)((char *)p + p->modules_offset) + i;
        good = m->path_offset < bytes && (uint64_t)m->first_function + m->function_count <= p->function_count && m->build_id_bytes <= sizeof m->build_id;
    }
    if (good) return p;
    munmap(p, bytes);
    return NULL;
}

static int attach(atf_plan *p)
{
    static const int kinds[3] = {ATF_SEG_CONTROL, ATF_SEG_REGISTRY, ATF_SEG_RINGS};
    const int32_t ids[3] = {p->control_id, p->registry_id, p->rings_id};
    if (attached[0]) return memcmp(ids, attached_ids, sizeof ids) == 0 ? 0 : ATF_PLAN_E_BUSY;
    for (int i = 0; i < 3; i++) {
        attached[i] = shmat(ids[i], NULL, 0);
        int error = attached[i] == (void *)-1;
        if (error) p->os_error = errno, attached[i] = NULL;
        const atf_segment_head *h = attached[i];
        if (!error && (h->magic != ATF_SEGMENT_MAGIC || h->kind != kinds[i] || h->version != ATF_LAYOUT_VERSION)) error = 1;
        if (!error) continue;
        for (int k = 0; k <= i; k++) {
            if (attached[k]) shmdt(attached[k]);
            attached[k] = NULL;
        }
        return ATF_PLAN_E_SEGMENTS;
    }
    memcpy(attached_ids, ids, sizeof ids);
    return atf_agent_record_begin(attached[0], attached[1], attached[2]);
}

static void all_stand(void) { safe_to_let_go = atf_agent_record_end(); }

/* Detaches the segments as soon as no thread is inside a stub or a slow path: the code is itself again, so that is soon. */
static void let_go(void)
{
    for (int tries = 0; attached[0] && !safe_to_let_go && tries < 200; tries++) {
        struct timespec nap = {0, 200000};
        nanosleep(&nap, NULL);
        if (atf_patch_all(NULL, 0, 0, 1, all_stand, NULL)) return;
    }
    for (int i = 0; i < 3 && safe_to_let_go; i++) {
        if (attached[i]) shmdt(attached[i]);
        attached[i] = NULL;
    }
}

ATF_PUBLIC int atf_agent_start(const char *path)
{
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC);
    atf_plan *p = map_plan(path);
    if (!p) return ATF_PLAN_E_FILE;
    pthread_mutex_lock(&atf_agent_lock);
    uint64_t quiet = atf_agent_quiet(1);
    p->state = ATF_PLAN_STARTING;
    p->pid = (uint32_t)getpid();
    p->waiting = p->function_count;
    atf_agent_record_open();
    if (!plan_count) let_go(); /* what an earlier stop had to leave */
    int error = plan_count == PLANS_MOST ? ATF_PLAN_E_MEMORY : attach(p);
    if (!error) {
        if (p->flags & ATF_PLAN_CHILDREN) atf_family_of_plan(path);
        atf_family_like(attached[0], attached[1]);
        plans[plan_count++] = p;
        if (plan_count == 1) atf_agent_counts = p;
        for (uint32_t i = 0; i < p->module_count; i++) {
            atf_module *m = calloc(1, sizeof *m);
            if (!m) break;
            m->plan = p;
            m->at = (atf_plan_module *)((char *)p + p->modules_offset) + i;
            m->next = atf_modules;
            atf_modules = m;
        }
        error = atf_hook_present((int)(p->flags & ATF_PLAN_LIVE), p);
    }
    p->setup_ns = atf_clock_ns(CLOCK_MONOTONIC) - start;
    p->error = (uint32_t)error;
    __atomic_store_n(&p->state, error ? ATF_PLAN_FAILED : ATF_PLAN_ACTIVE, __ATOMIC_RELEASE);
    atf_agent_quiet(quiet);
    pthread_mutex_unlock(&atf_agent_lock);
    return error;
}

ATF_PUBLIC int atf_agent_stop(void)
{
    pthread_mutex_lock(&atf_agent_lock);
    uint64_t quiet = atf_agent_quiet(1);
    uint32_t n = 0;
    atf_hook **list = malloc(atf_hooks_most() * sizeof *list);
    int error = list ? 0 : ATF_PLAN_E_MEMORY;
    for (atf_module *m = atf_modules; m && list; m = m->next)
        for (uint32_t i = 0; i < m->at->function_count && m->at->state == ATF_MODULE_LOADED; i++)
            if (m->hooks[i].active && !ATF_FN_ROLE(m->hooks[i].function->flags)) list[n++] = &m->hooks[i];
    safe_to_let_go = 0;
    if (!error) {
        qsort(list, n, sizeof *list, atf_hooks_by_address);
        error = atf_patch_all(list, n, 0, 1, all_stand, plan_count ? plans[plan_count - 1] : NULL);
    }
    for (uint32_t i = 0; i < n && !error; i++) list[i]->function->state = ATF_FN_RESTORED;
    free(list);
    if (!error) {
        for (atf_module *m = atf_modules, *next; m; m = next) {
            next = m->next;
            free(m->hooks);
            free(m);
        }
        atf_modules = NULL;
        let_go();
        for (uint32_t i = 0; i < plan_count; i++) {
            __atomic_store_n(&plans[i]->state, ATF_PLAN_DETACHED, __ATOMIC_RELEASE);
            if (i) munmap(plans[i], plans[i]->bytes); /* the first is counted in for ever */
        }
        plan_count = 0;
    }
    atf_agent_quiet(quiet);
    pthread_mutex_unlock(&atf_agent_lock);
    return error;
}

/* LD_PRELOAD: as if the program had been started without us. */
__attribute__((constructor)) static void preloaded(void)
{
    const char *plan = getenv("ATF_AGENT"), *before = getenv("LD_PRELOAD");
    if (!plan) return;
    char path[4096];
    snprintf(path, sizeof path, "%s", plan);
    unsetenv("ATF_AGENT");
    if (before) {
        const char *rest = before + strcspn(before, ": ");
        if (*rest) { /* what the program has, be it empty */
            char *copy = strdup(rest + 1);
            if (copy) setenv("LD_PRELOAD", copy, 1);
            free(copy);
        } else unsetenv("LD_PRELOAD");
    }
    if (path[0] == '@') atf_ask(path + 1);
    else atf_agent_start(path);
}
