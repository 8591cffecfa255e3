/* Start and stop: reads plans, hooks what is loaded, follows dlopen and dlclose, gives everything back. */
#include "agent.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLANS_MOST 64

typedef struct module {
    atf_plan *plan;
    atf_plan_module *at;
    uint64_t low, high, loaded_low, loaded_high; /* executable bytes; all of it */
    atf_hook *hooks;    /* one for each function, stub NULL: refused */
    struct module *next;
} module;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atf_plan *plans[PLANS_MOST];
static uint32_t plan_count;
static module *modules;
static atf_hook own[ATF_ROLE_BEGIN_CATCH + 1]; /* functions of roles, found by the agent; and the loader's notification */
static atf_hook loader;
static void *attached[3];
static int32_t attached_ids[3];
static int safe_to_let_go, looked;

/* ---------------------------------------------------------------- modules */
typedef struct search { module *m; const char *path; int found, mismatch; } search;

static int same_build(const struct dl_phdr_info *info, const atf_plan_module *m)
{
    if (!m->build_id_bytes) return 1;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_NOTE) continue;
        const char *at = (const char *)(info->dlpi_addr + p->p_vaddr), *end = at + p->p_memsz;
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *n = (const ElfW(Nhdr) *)at;
            const char *name = at + sizeof *n, *id = name + ((n->n_namesz + 3) & ~3u);
            if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4 && memcmp(name, "GNU", 4) == 0)
                return n->n_descsz == m->build_id_bytes && memcmp(id, m->build_id, n->n_descsz) == 0;
            at = id + ((n->n_descsz + 3) & ~3u);
        }
    }
    return 0;
}

static int same_file(const char *name, const char *path)
{
    struct stat a, b;
    return strcmp(name, path) == 0 || (stat(name, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev);
}

static int look_at(struct dl_phdr_info *info, size_t size, void *argument)
{
    search *s = argument;
    char program[4096];
    const char *name = info->dlpi_name;
    (void)size;
    if (!name[0]) {
        ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
        program[n > 0 ? n : 0] = 0;
        name = program;
        if (!s->path[0]) s->path = program;
    }
    if (!name[0] || !same_file(name, s->path)) return 0;
    if (!same_build(info, s->m->at)) {
        s->mismatch = 1;
        return 0;
    }
    s->m->at->load_bias = info->dlpi_addr;
    s->m->low = s->m->loaded_low = UINT64_MAX, s->m->high = s->m->loaded_high = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD) continue;
        uint64_t low = info->dlpi_addr + p->p_vaddr, high = low + p->p_memsz;
        if (low < s->m->loaded_low) s->m->loaded_low = low;
        if (high > s->m->loaded_high) s->m->loaded_high = high;
        if (p->p_flags & PF_X && low < s->m->low) s->m->low = low;
        if (p->p_flags & PF_X && high > s->m->high) s->m->high = high;
    }
    s->found = 1;
    return 1;
}

/* Whether the module is in memory; `at` says where, or that it is another build. */
static int present(module *m)
{
    search s = {m, (const char *)m->plan + m->at->path_offset, 0, 0};
    dl_iterate_phdr(look_at, &s);
    if (!s.found && s.mismatch) m->at->state = ATF_MODULE_MISMATCH;
    return s.found;
}

/* ---------------------------------------------------------------- hooks */
static void refuse(module *m, atf_plan_function *f, uint32_t why)
{
    f->state = ATF_FN_REFUSED, f->reason = why;
    m->plan->refused++;
}

/* Ours already: a function of a role, or one that an earlier plan hooked. */
static int agents_own(uint8_t *p)
{
    int32_t d;
    memcpy(&d, p + 1, 4);
    if (p == loader.address || (*p == 0xE9 && atf_in_arena((uint64_t)(p + 5) + (uint64_t)(int64_t)d))) return 1;
    for (uint32_t r = 1; r <= ATF_ROLE_BEGIN_CATCH; r++)
        if (own[r].address == p) return 1;
    return 0;
}

/* Builds the stubs of a module that was just found; adds its hooks to `list`. */
static uint32_t prepare(module *m, atf_hook **list)
{
    uint32_t count = m->at->function_count, n = 0;
    atf_plan_function *functions = (atf_plan_function *)((char *)m->plan + m->plan->functions_offset) + m->at->first_function;
    if (!m->hooks) m->hooks = calloc(count ? count : 1, sizeof(atf_hook));
    else memset(m->hooks, 0, count * sizeof(atf_hook));
    atf_arena *arena = m->hooks ? atf_arena_new(m->loaded_low, m->loaded_high, count) : NULL;
    int entry_only = (m->plan->flags & ATF_PLAN_ENTRY_ONLY) || atf_shadow_stack();
    uint64_t busy_until = 0; /* bytes that the function before it changes */
    for (uint32_t i = 0; i < count; i++) {
        atf_plan_function *f = &functions[i];
        uint64_t at = m->at->load_bias + f->vaddr;
        uint32_t role = ATF_FN_ROLE(f->flags), why = 0, flags = f->flags & ATF_FN_ENTRY_ONLY;
        uint8_t **original = NULL;
        void *wrapper = role ? atf_wrapper_of(role, &original) : NULL;
        if (f->state == ATF_FN_WAITING) m->plan->waiting--;
        else if (f->state == ATF_FN_HOOKED || f->state == ATF_FN_HOOKED_ENTRY) m->plan->hooked--;
        else if (f->state == ATF_FN_REFUSED) m->plan->refused--;
        if (entry_only) flags |= STUB_ENTRY_ONLY;
        if (!arena) why = ATF_WHY_REACH;
        else if (at < m->low || at + ATF_PATCH_BYTES > m->high || at + f->size > m->high) why = ATF_WHY_BOUNDS;
        else if (at < busy_until) why = ATF_WHY_OVERLAP;
        else if (agents_own((uint8_t *)at)) why = ATF_WHY_AGENT;
        else if (f->size < ATF_PATCH_BYTES && i + 1 < count && functions[i + 1].vaddr < f->vaddr + ATF_PATCH_BYTES) why = ATF_WHY_SHORT;
        else {
            uint64_t room = m->high - at;
            why = (uint32_t)atf_stub_build(arena, (uint8_t *)at, f->size, room > 4096 ? f->size + 32u : (uint32_t)room, f->function_id, flags, wrapper, &m->hooks[i]);
        }
        if (why) {
            refuse(m, f, why);
            continue;
        }
        if (original) *original = m->hooks[i].stub + STUB_BODY;
        m->hooks[i].function = f;
        busy_until = at + ATF_PATCH_BYTES;
        f->state = flags & STUB_ENTRY_ONLY ? ATF_FN_HOOKED_ENTRY : ATF_FN_HOOKED, f->reason = 0;
        m->plan->hooked++;
        list[n++] = &m->hooks[i];
    }
    if (arena) atf_arena_close(arena);
    m->at->state = ATF_MODULE_LOADED;
    return n;
}

static int by_address(const void *a, const void *b)
{
    const uint8_t *x = (*(atf_hook *const *)a)->address, *y = (*(atf_hook *const *)b)->address;
    return x < y ? -1 : x > y;
}

/* One function that the agent takes for itself. */
static uint32_t take(uint8_t *code, uint32_t size, void *wrapper, atf_hook *h)
{
    atf_arena *arena = atf_arena_new((uint64_t)code & ~4095ull, ((uint64_t)code + size + 4095) & ~4095ull, 1);
    if (!arena) return 0;
    int why = atf_stub_build(arena, code, size, size + 32, 0, 0, wrapper, h);
    atf_arena_close(arena);
    if (why) h->stub = NULL;
    return !why;
}

static void loader_changed(void);

static uint32_t take_own(atf_hook **list)
{
    uint32_t n = 0;
    for (uint32_t role = 1; role <= ATF_ROLE_BEGIN_CATCH; role++) {
        uint8_t *address, **original;
        uint32_t size;
        if (own[role].stub && own[role].active) continue;
        void *wrapper = atf_wrapper_of(role, &original);
        if (*original || !atf_wrapper_library(role, &address, &size) || !take(address, size, wrapper, &own[role])) continue;
        *original = own[role].stub + STUB_BODY;
        list[n++] = &own[role];
    }
    if (!loader.stub) {
        ElfW(Addr) brk = _r_debug.r_brk;
        if (brk && take((uint8_t *)brk, 1, loader_changed, &loader)) list[n++] = &loader;
    }
    return n;
}

/* Hooks what is there and was not yet. */
static int hook_present(int live, atf_plan *report)
{
    uint32_t most = ATF_ROLE_BEGIN_CATCH + 2, n;
    for (module *m = modules; m; m = m->next) most += m->at->function_count;
    atf_hook **list = malloc(most * sizeof *list);
    if (!list) return ATF_PLAN_E_MEMORY;
    n = take_own(list);
    for (module *m = modules; m; m = m->next)
        if (m->at->state == ATF_MODULE_WAITING && present(m)) n += prepare(m, list + n);
    qsort(list, n, sizeof *list, by_address);
    int error = n ? atf_patch_all(list, n, 1, live, NULL, report) : 0;
    free(list);
    return error;
}

/* The loader calls this between and after its changes of the list of modules. */
static void loader_changed(void)
{
    if (_r_debug.r_state != RT_CONSISTENT || pthread_mutex_trylock(&lock) != 0) return;
    int changed = 0;
    for (module *m = modules; m; m = m->next) {
        uint64_t before = m->at->load_bias;
        int there = present(m);
        if (m->at->state == ATF_MODULE_LOADED && (!there || m->at->load_bias != before)) {
            m->at->state = ATF_MODULE_WAITING; /* its bytes are gone with it */
            memset(m->hooks, 0, m->at->function_count * sizeof(atf_hook));
        }
        changed |= there && m->at->state == ATF_MODULE_WAITING;
    }
    if (changed) hook_present(0, NULL);
    __atomic_store_n(&looked, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&lock);
}

/* At an exception when __cxa_begin_catch was not there before: the loader's word came too early to look it up. */
void atf_agent_look_again(void)
{
    if (__atomic_exchange_n(&looked, 1, __ATOMIC_RELAXED) || pthread_mutex_trylock(&lock) != 0) return;
    uint64_t quiet = atf_agent_quiet(1);
    hook_present(1, NULL);
    atf_agent_quiet(quiet);
    pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------------------- start and stop */
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
    pthread_mutex_lock(&lock);
    uint64_t quiet = atf_agent_quiet(1);
    p->state = ATF_PLAN_STARTING;
    p->pid = (uint32_t)getpid();
    p->waiting = p->function_count;
    atf_agent_record_open();
    if (!plan_count) let_go(); /* what an earlier stop had to leave */
    int error = plan_count == PLANS_MOST ? ATF_PLAN_E_MEMORY : attach(p);
    if (!error) {
        plans[plan_count++] = p;
        if (plan_count == 1) atf_agent_counts = p;
        for (uint32_t i = 0; i < p->module_count; i++) {
            module *m = calloc(1, sizeof *m);
            if (!m) break;
            m->plan = p;
            m->at = (atf_plan_module *)((char *)p + p->modules_offset) + i;
            m->next = modules;
            modules = m;
        }
        error = hook_present((int)(p->flags & ATF_PLAN_LIVE), p);
    }
    p->setup_ns = atf_clock_ns(CLOCK_MONOTONIC) - start;
    p->error = (uint32_t)error;
    __atomic_store_n(&p->state, error ? ATF_PLAN_FAILED : ATF_PLAN_ACTIVE, __ATOMIC_RELEASE);
    atf_agent_quiet(quiet);
    pthread_mutex_unlock(&lock);
    return error;
}

ATF_PUBLIC int atf_agent_stop(void)
{
    pthread_mutex_lock(&lock);
    uint64_t quiet = atf_agent_quiet(1);
    uint32_t most = ATF_ROLE_BEGIN_CATCH + 2, n = 0;
    for (module *m = modules; m; m = m->next) most += m->at->function_count;
    atf_hook **list = malloc(most * sizeof *list);
    int error = list ? 0 : ATF_PLAN_E_MEMORY;
    for (module *m = modules; m && list; m = m->next)
        for (uint32_t i = 0; i < m->at->function_count && m->at->state == ATF_MODULE_LOADED; i++)
            if (m->hooks[i].active && !ATF_FN_ROLE(m->hooks[i].function->flags)) list[n++] = &m->hooks[i];
    safe_to_let_go = 0;
    if (!error) {
        qsort(list, n, sizeof *list, by_address);
        error = atf_patch_all(list, n, 0, 1, all_stand, plan_count ? plans[plan_count - 1] : NULL);
    }
    for (uint32_t i = 0; i < n && !error; i++) list[i]->function->state = ATF_FN_RESTORED;
    free(list);
    if (!error) {
        for (module *m = modules, *next; m; m = next) {
            next = m->next;
            free(m->hooks);
            free(m);
        }
        modules = NULL;
        let_go();
        for (uint32_t i = 0; i < plan_count; i++) {
            __atomic_store_n(&plans[i]->state, ATF_PLAN_DETACHED, __ATOMIC_RELEASE);
            if (i) munmap(plans[i], plans[i]->bytes); /* the first is counted in for ever */
        }
        plan_count = 0;
    }
    atf_agent_quiet(quiet);
    pthread_mutex_unlock(&lock);
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
        rest += strspn(rest, ": ");
        if (*rest) {
            char *copy = strdup(rest);
            if (copy) setenv("LD_PRELOAD", copy, 1);
            free(copy);
        } else unsetenv("LD_PRELOAD");
    }
    atf_agent_start(path);
}
