/* Start and stop: reads plans, attaches the segments, gives everything back. */
#include "cyg.h"
#include "trap.h"
#include "../heartbeat.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLANS_MOST 64

ATF_PUBLIC int atf_agent_stop(void);

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
    if (atf_plan_good(p, bytes)) return p;
    munmap(p, bytes);
    return NULL;
}

static int ended(uint32_t pid)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return kill((pid_t)pid, 0) != 0 && errno == ESRCH;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *name_end = strrchr(text, ')');
    return name_end && (name_end[2] == 'Z' || name_end[2] == 'X');
}

/* Whether nobody reads what is recorded now: its recorder ended it, or was killed. */
static int deserted(void)
{
    const atf_control *c = attached[0];
    struct shmid_ds about;
    if (atf_load_acquire32(&c->state) != ATF_STATE_RECORDING) return 1;
    if (shmctl(attached_ids[0], IPC_STAT, &about) != 0 || about.shm_perm.mode & SHM_DEST) return 1;
    if (!c->drain_pid || !ended(c->drain_pid)) return 0;
    /* A recorder outside of our pid namespace has a number that nobody has here: only its silence tells. */
    for (int tries = 0; tries < 50 && !silent_for(c, ATF_DRAIN_SILENT_NS); tries++) {
        struct timespec nap = {0, 20000000};
        nanosleep(&nap, NULL);
    }
    return silent_for(c, ATF_DRAIN_SILENT_NS);
}

static int stop_all(void);

static int attach(atf_plan *p)
{
    static const int kinds[3] = {ATF_SEG_CONTROL, ATF_SEG_REGISTRY, ATF_SEG_RINGS};
    const int32_t ids[3] = {p->control_id, p->registry_id, p->rings_id};
    uint64_t bytes[3] = {0, 0, 0};
    if (attached[0] && memcmp(ids, attached_ids, sizeof ids) == 0) return 0;
    if (attached[0] && (!deserted() || stop_all() || attached[0])) return ATF_PLAN_E_BUSY;
    int error = 0;
    for (int i = 0; i < 3 && !error; i++) {
        struct shmid_ds about;
        attached[i] = shmat(ids[i], NULL, 0);
        error = attached[i] == (void *)-1;
        if (error) p->os_error = errno, attached[i] = NULL;
        else bytes[i] = shmctl(ids[i], IPC_STAT, &about) == 0 ? about.shm_segsz : 0;
        error = error || !atf_segment_good(attached[i], kinds[i], bytes[i]);
    }
    if (!error && !atf_session_good(attached[1], attached[2], bytes[1], bytes[2])) error = 1;
    const atf_control *c = attached[0];
    int foreign = !error && !atf_clock_readable(c->clock_type, c->ticks_per_second);
    error = error || foreign;
    for (int i = 0; i < 3 && error; i++) {
        if (attached[i]) shmdt(attached[i]);
        attached[i] = NULL;
    }
    if (error) return foreign ? ATF_PLAN_E_CPU : ATF_PLAN_E_SEGMENTS;
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

/* What stands in our fields is of no matter: a plan may have been used before. */
static void begin_answers(atf_plan *p)
{
    atf_plan_module *modules = (atf_plan_module *)((char *)p + p->modules_offset);
    atf_plan_function *functions = (atf_plan_function *)((char *)p + p->functions_offset);
    for (uint32_t i = 0; i < p->module_count; i++) modules[i].state = ATF_MODULE_WAITING;
    for (uint32_t i = 0; i < p->function_count; i++) functions[i].state = ATF_FN_WAITING, functions[i].reason = 0;
    memset(&p->state, 0, offsetof(atf_plan, spare) - offsetof(atf_plan, state));
    p->state = ATF_PLAN_STARTING;
    p->pid = (uint32_t)getpid();
    p->waiting = p->function_count;
}

ATF_PUBLIC int atf_agent_start(const char *path)
{
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC);
    atf_plan *p = map_plan(path);
    if (!p) return ATF_PLAN_E_FILE;
    pthread_mutex_lock(&atf_agent_lock);
    uint64_t quiet = atf_agent_quiet(1);
    begin_answers(p);
    atf_agent_record_open();
    if (!plan_count) let_go(); /* what an earlier stop had to leave */
    int error = plan_count == PLANS_MOST ? ATF_PLAN_E_MEMORY : attach(p);
    if (!error && p->min_duration_ns && ((p->flags & ATF_PLAN_ENTRY_ONLY) || atf_shadow_stack())) error = ATF_PLAN_E_CPU; /* nobody sees a return */
    if (!error) {
        if (p->flags & ATF_PLAN_CHILDREN) atf_family_of_plan(path);
        atf_family_like(attached[0], attached[1]);
        atf_wanted_set(p, attached[0]);
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
    if (!error) atf_hooks_follow((int)(p->flags & ATF_PLAN_LIVE));
    p->setup_ns = atf_clock_ns(CLOCK_MONOTONIC) - start;
    p->error = (uint32_t)error;
    __atomic_store_n(&p->state, error ? ATF_PLAN_FAILED : ATF_PLAN_ACTIVE, __ATOMIC_RELEASE);
    atf_agent_quiet(quiet);
    pthread_mutex_unlock(&atf_agent_lock);
    return error;
}

static int restore_held(atf_held *h)
{
    for (atf_module *m = atf_modules; m; m = m->next) {
        uint64_t before = m->at->load_bias;
        int there = m->at->state == ATF_MODULE_LOADED && atf_module_present(m) && m->at->load_bias == before; /* else it was unloaded just now */
        atf_cyg_restore(m, there);
        for (uint32_t i = 0; i < m->at->function_count && there; i++) {
            uint32_t role = m->hooks[i].active ? ATF_FN_ROLE(m->hooks[i].function->flags) : ATF_ROLE_BEGIN_CATCH;
            if (!role || ATF_ROLE_REPORTS(role)) h->list[h->n++] = &m->hooks[i];
        }
    }
    qsort(h->list, h->n, sizeof *h->list, atf_hooks_by_address);
    return atf_patch_all(h->list, h->n, 0, 1, all_stand, h->report);
}

static int stop_all(void)
{
    atf_held h = {restore_held, malloc(atf_hooks_most() * sizeof(atf_hook *)), 0, 1, 0, plan_count ? plans[plan_count - 1] : NULL};
    safe_to_let_go = 0;
    int error = h.list ? atf_modules_held(&h) : ATF_PLAN_E_MEMORY;
    atf_hook **list = h.list;
    uint32_t n = h.n;
    for (uint32_t i = 0; i < n && !error; i++) list[i]->function->state = ATF_FN_RESTORED;
    if (!error) atf_trap_drop(0, UINT64_MAX);
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
    } else if (plan_count) plans[plan_count - 1]->error = (uint32_t)error; /* told to who asked; everything is as it was */
    return error;
}

ATF_PUBLIC int atf_agent_stop(void)
{
    pthread_mutex_lock(&atf_agent_lock);
    uint64_t quiet = atf_agent_quiet(1);
    int error = stop_all();
    atf_agent_quiet(quiet);
    pthread_mutex_unlock(&atf_agent_lock);
    return error;
}

/* The program ends: threads that are still there have told nothing for a while. */
__attribute__((destructor)) static void program_ends(void)
{
    if (atf_recording) atf_filtered_tell_all();
}
