/* Builds the stubs of what is loaded and puts its hooks in, now and whenever the loader brings something; the agent's own hooks too. */
#include "cyg.h"
#include "sweep.h"
#include "trap.h"
#include <link.h>
#include <stdlib.h>
#include <string.h>

pthread_mutex_t atf_agent_lock = PTHREAD_MUTEX_INITIALIZER;
atf_module *atf_modules;
static atf_hook own[ATF_ROLE_COUNT]; /* functions of roles, found by the agent; and the loader's notification */
static atf_hook loader;
static int looked, missed, late; /* late: the loader has mapped something and not relocated it yet */

static void refuse(atf_module *m, atf_plan_function *f, uint32_t why)
{
    f->state = ATF_FN_REFUSED, f->reason = why;
    m->plan->refused++;
}

/* Ours already: a function of a role, or one that an earlier plan hooked. */
static int agents_own(uint8_t *p)
{
    uint64_t to = atf_jump_at(p);
    if (p == loader.address || (to && atf_in_arena(to))) return 1;
    for (uint32_t r = 1; r < ATF_ROLE_COUNT; r++)
        if (own[r].address == p) return 1;
    return atf_trap_own(p);
}

/* What five bytes do not fit, one may. */
static int fits_a_trap(uint32_t why)
{
    const uint32_t those = 1u << ATF_WHY_SHORT | 1u << ATF_WHY_JUMP_BACK | 1u << ATF_WHY_INSTRUCTION | 1u << ATF_WHY_REACH | 1u << ATF_WHY_BRANCHED | 1u << ATF_WHY_TABLE;
    return (int)(those >> why & 1);
}

/* By an earlier plan: its jump may stand behind a landing pad or behind the call of a profiler. */
static int hooked_before(const atf_plan_function *f, uint8_t *p)
{
    atf_entry e;
    if (agents_own(p) || (atf_landing(p) && agents_own(p + atf_landing(p)))) return 1;
    return (f->flags & ATF_FN_PROFILED) && atf_entry_find(p, f->size, f->size, 1, &e) == 0 && agents_own(p + e.offset);
}

/* Builds the stubs of a module that was just found; adds its hooks to `list`. */
static uint32_t prepare(atf_module *m, atf_hook **list)
{
    uint32_t count = m->at->function_count, n = 0;
    atf_plan_function *functions = (atf_plan_function *)((char *)m->plan + m->plan->functions_offset) + m->at->first_function;
    if (!m->hooks) m->hooks = calloc(count ? count : 1, sizeof(atf_hook));
    else memset(m->hooks, 0, count * sizeof(atf_hook));
    atf_arena *arena = m->hooks ? atf_arena_new(ATF_REACH_DATA ? m->loaded_low : m->low, ATF_REACH_DATA ? m->loaded_high : m->high, count) : NULL;
    uint8_t *led_to = arena ? atf_sweep(m, functions, count) : NULL;
    int entry_only = (m->plan->flags & ATF_PLAN_ENTRY_ONLY) || atf_shadow_stack();
    int reports = m->hooks && atf_cyg_module(m, arena, late);
    uint64_t busy_until = 0; /* bytes that the function before it changes */
    for (uint32_t i = 0; i < count; i++) {
        atf_plan_function *f = &functions[i];
        uint64_t at = m->at->load_bias + f->vaddr;
        uint32_t role = ATF_FN_ROLE(f->flags), why = 0;
        uint32_t flags = f->flags & (ATF_FN_ENTRY_ONLY | ATF_FN_DETAILS | ATF_FN_TIMED | ATF_FN_TEXTS | ATF_FN_PROFILED);
        int may_trap = arena && !role && m->plan->flags & ATF_PLAN_SLOW_PATH, by_trap = may_trap && f->flags & ATF_FN_TRAP;
        uint8_t **original = NULL;
        void *wrapper = role ? atf_wrapper_of(role, &original) : NULL;
        if (f->state == ATF_FN_WAITING) m->plan->waiting--;
        else if (f->state == ATF_FN_HOOKED || f->state == ATF_FN_HOOKED_ENTRY || f->state == ATF_FN_HOOKED_TRAP) m->plan->hooked--;
        else if (f->state == ATF_FN_REFUSED) m->plan->refused--;
        if (ATF_ROLE_REPORTS(role) || (reports && atf_cyg_traced(m, f))) {
            if (m->hooks[i].stub) m->hooks[i].function = f, list[n++] = &m->hooks[i];
            f->state = role && !m->hooks[i].stub ? ATF_FN_REFUSED : ATF_FN_HOOKED, f->reason = ATF_WHY_NONE;
            if (!role) f->flags = (f->flags & 0x00FFFFFFu) | (uint32_t)ATF_WAY_CYG << 24, m->plan->hooked++;
            continue;
        }
        if (entry_only) flags |= STUB_ENTRY_ONLY;
        if (!led_to) why = ATF_WHY_REACH;
        else if (at < m->low || at >= m->high || m->high - at < ATF_PATCH_BYTES || m->high - at < f->size) why = ATF_WHY_BOUNDS;
        else if (at < busy_until) why = ATF_WHY_OVERLAP;
        else if (hooked_before(f, (uint8_t *)at)) why = ATF_WHY_AGENT;
        else if (led_to[i]) why = led_to[i];
        else if (!by_trap) {
            uint64_t room = m->high - at;
            why = (uint32_t)atf_stub_build(arena, (uint8_t *)at, f->size, room > 4096 ? f->size + 32u : (uint32_t)room, f->function_id, flags, wrapper, &m->hooks[i]);
        }
        if (may_trap && fits_a_trap(why)) by_trap = 1;
        if (by_trap && (!why || fits_a_trap(why))) {
            flags |= ATF_FN_TRAP;
            why = (uint32_t)atf_trap_why(m->low, m->high);
            if (!why) why = (uint32_t)atf_stub_build(arena, (uint8_t *)at, f->size, f->size, f->function_id, flags, NULL, &m->hooks[i]);
            if (!why && !atf_trap_put(m->hooks[i].address, m->hooks[i].stub)) why = ATF_WHY_REACH;
        }
        if (why) {
            refuse(m, f, why);
            continue;
        }
        if (original) *original = m->hooks[i].stub + STUB_BODY;
        m->hooks[i].function = f;
        f->flags = (f->flags & 0x00FFFFFFu) | (uint32_t)m->hooks[i].way << 24;
        busy_until = (uint64_t)m->hooks[i].address + m->hooks[i].bytes;
        f->state = by_trap ? ATF_FN_HOOKED_TRAP : flags & STUB_ENTRY_ONLY ? ATF_FN_HOOKED_ENTRY : ATF_FN_HOOKED, f->reason = 0;
        m->plan->hooked++;
        m->plan->spare[1] += (uint64_t)by_trap; /* traps set so far */
        list[n++] = &m->hooks[i];
    }
    free(led_to);
    if (arena) atf_arena_close(arena);
    if (reports) atf_cyg_publish(m);
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
    int why = atf_jumps_back(code, size) ? ATF_WHY_JUMP_BACK : atf_stub_build(arena, code, size, size + 32, 0, 0, wrapper, h);
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
    uint32_t n = take_roles(list, 1, atf_exec_followed() ? ATF_ROLE_LAST : ATF_ROLE_SET_IP);
    if (!ATF_SLOTS_HOLD) n += take_roles(list + n, ATF_ROLE_FIND_FDE, ATF_ROLE_FIND_FDE);
    if (!loader.stub) {
        ElfW(Addr) brk = _r_debug.r_brk;
        if (brk && take((uint8_t *)brk, atf_least_bytes((const uint8_t *)brk), loader_changed, &loader)) list[n++] = &loader;
    }
    return n;
}

uint32_t atf_hooks_most(void)
{
    uint32_t most = ATF_ROLE_COUNT + 2 + TRAP_OWN_MOST;
    for (atf_module *m = atf_modules; m; m = m->next) most += m->at->function_count;
    return most;
}

static int hook_held(atf_held *h)
{
    for (atf_module *m = atf_modules; m; m = m->next)
        if (m->at->state == ATF_MODULE_WAITING && atf_module_present(m)) h->n += prepare(m, h->list + h->n);
    qsort(h->list, h->n, sizeof *h->list, atf_hooks_by_address);
    int error = h->n ? atf_patch_all(h->list, h->n, 1, h->live, NULL, h->report) : 0;
    if (!error) atf_cyg_redirect();
    return error;
}

/* own_too: the agent's too. Not in the loader's own call: looking them up opens their library again, half way through its coming. */
static int hook(int live, int own_too, atf_plan *report)
{
    atf_held h = {hook_held, malloc(atf_hooks_most() * sizeof(atf_hook *)), 0, live, 0, report};
    if (!h.list) return ATF_PLAN_E_MEMORY;
    h.n = own_too ? take_own(h.list) : 0;
    for (atf_module *m = atf_modules; m && own_too; m = m->next)
        if (m->plan->flags & ATF_PLAN_SLOW_PATH) {
            h.n += atf_trap_open(report != NULL, h.list + h.n, take);
            break;
        }
    atf_modules_held(&h);
    free(h.list);
    return h.error;
}

int atf_hook_present(int live, atf_plan *report) { return hook(live, 1, report); }

/* Nothing but what executes programs; before the program has threads. */
void atf_hook_exec(void)
{
    atf_hook *list[ATF_ROLE_LAST];
    uint32_t n = take_roles(list, ATF_ROLE_EXECVE, ATF_ROLE_LAST);
    qsort(list, n, sizeof *list, atf_hooks_by_address);
    if (n) atf_patch_all(list, n, 1, 0, NULL, NULL);
}

static void follow(int live)
{
    atf_child_own_plans();
    int changed = 0;
    for (atf_module *m = atf_modules; m; m = m->next) {
        uint64_t before = m->at->load_bias;
        int there = atf_module_present(m);
        if (m->at->state == ATF_MODULE_LOADED && (!there || m->at->load_bias != before)) {
            m->at->state = ATF_MODULE_WAITING; /* its bytes are gone with it */
            atf_trap_drop(m->loaded_low, m->loaded_high);
            atf_cyg_restore(m, 0);
            memset(m->hooks, 0, m->at->function_count * sizeof(atf_hook));
        }
        changed |= there && m->at->state == ATF_MODULE_WAITING;
    }
    late = 1;
    if (changed) hook(live, 0, NULL);
    late = 0;
    __atomic_store_n(&looked, 0, __ATOMIC_RELAXED);
}

/* The loader calls this between and after its changes of the list of modules. */
static void loader_changed(void)
{
    if (_r_debug.r_state != RT_CONSISTENT) return;
    __atomic_store_n(&missed, 1, __ATOMIC_RELEASE);
    if (pthread_mutex_trylock(&atf_agent_lock) != 0) return; /* whoever holds it asks before it lets go */
    __atomic_store_n(&missed, 0, __ATOMIC_RELAXED);
    follow(0);
    pthread_mutex_unlock(&atf_agent_lock);
}

void atf_hooks_follow(int live)
{
    if (__atomic_exchange_n(&missed, 0, __ATOMIC_ACQ_REL)) follow(live);
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
