/* Builds the stubs of what is loaded and puts its hooks in, now and whenever the loader brings something; the agent's own hooks too. */
#include "hooks.h"
#include <link.h>
#include <stdlib.h>
#include <string.h>

pthread_mutex_t atf_agent_lock = PTHREAD_MUTEX_INITIALIZER;
atf_module *atf_modules;
static atf_hook own[ATF_ROLE_LAST + 1]; /* functions of roles, found by the agent; and the loader's notification */
static atf_hook loader;
static int looked;

static void refuse(atf_module *m, atf_plan_function *f, uint32_t why)
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
    for (uint32_t r = 1; r <= ATF_ROLE_LAST; r++)
        if (own[r].address == p) return 1;
    return 0;
}

/* Builds the stubs of a module that was just found; adds its hooks to `list`. */
static uint32_t prepare(atf_module *m, atf_hook **list)
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

int atf_hooks_by_address(const void *a, const void *b)
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

static uint32_t take_roles(atf_hook **list, uint32_t first, uint32_t last)
{
    uint32_t n = 0;
    for (uint32_t role = first; role <= last; role++) {
        uint8_t *address, **original;
        uint32_t size;
        if (own[role].stub && own[role].active) continue;
        void *wrapper = atf_wrapper_of(role, &original);
        if (*original || !atf_wrapper_library(role, &address, &size) || !take(address, size, wrapper, &own[role])) continue;
        *original = own[role].stub + STUB_BODY;
        list[n++] = &own[role];
    }
    return n;
}

static uint32_t take_own(atf_hook **list)
{
    uint32_t n = take_roles(list, 1, atf_exec_followed() ? ATF_ROLE_LAST : ATF_ROLE_BEGIN_CATCH);
    if (!loader.stub) {
        ElfW(Addr) brk = _r_debug.r_brk;
        if (brk && take((uint8_t *)brk, 1, loader_changed, &loader)) list[n++] = &loader;
    }
    return n;
}

uint32_t atf_hooks_most(void)
{
    uint32_t most = ATF_ROLE_LAST + 2;
    for (atf_module *m = atf_modules; m; m = m->next) most += m->at->function_count;
    return most;
}

int atf_hook_present(int live, atf_plan *report)
{
    uint32_t n;
    atf_hook **list = malloc(atf_hooks_most() * sizeof *list);
    if (!list) return ATF_PLAN_E_MEMORY;
    n = take_own(list);
    for (atf_module *m = atf_modules; m; m = m->next)
        if (m->at->state == ATF_MODULE_WAITING && atf_module_present(m)) n += prepare(m, list + n);
    qsort(list, n, sizeof *list, atf_hooks_by_address);
    int error = n ? atf_patch_all(list, n, 1, live, NULL, report) : 0;
    free(list);
    return error;
}

/* Nothing but what executes programs; before the program has threads. */
void atf_hook_exec(void)
{
    atf_hook *list[ATF_ROLE_LAST];
    uint32_t n = take_roles(list, ATF_ROLE_EXECVE, ATF_ROLE_LAST);
    qsort(list, n, sizeof *list, atf_hooks_by_address);
    if (n) atf_patch_all(list, n, 1, 0, NULL, NULL);
}

/* The loader calls this between and after its changes of the list of atf_modules. */
static void loader_changed(void)
{
    if (_r_debug.r_state != RT_CONSISTENT || pthread_mutex_trylock(&atf_agent_lock) != 0) return;
    atf_child_own_plans();
    int changed = 0;
    for (atf_module *m = atf_modules; m; m = m->next) {
        uint64_t before = m->at->load_bias;
        int there = atf_module_present(m);
        if (m->at->state == ATF_MODULE_LOADED && (!there || m->at->load_bias != before)) {
            m->at->state = ATF_MODULE_WAITING; /* its bytes are gone with it */
            memset(m->hooks, 0, m->at->function_count * sizeof(atf_hook));
        }
        changed |= there && m->at->state == ATF_MODULE_WAITING;
    }
    if (changed) atf_hook_present(0, NULL);
    __atomic_store_n(&looked, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&atf_agent_lock);
}

/* At an exception when __cxa_begin_catch was not there before: the loader's word came too early to look it up. */
void atf_agent_look_again(void)
{
    if (__atomic_exchange_n(&looked, 1, __ATOMIC_RELAXED) || pthread_mutex_trylock(&atf_agent_lock) != 0) return;
    uint64_t quiet = atf_agent_quiet(1);
    atf_child_own_plans();
    atf_hook_present(1, NULL);
    atf_agent_quiet(quiet);
    pthread_mutex_unlock(&atf_agent_lock);
}
