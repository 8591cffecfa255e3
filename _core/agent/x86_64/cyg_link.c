/* Leads a module's reports of its calls, and its calls of a profiler, to the agent: by the slots of its global offset table, or, where it calls a hook of its own
 * directly, by a jump at the start of that. Whoever was called before is called after us, unless it does nothing. */
#include "cyg_table.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLOTS_MOST 16
#define STRANGE_MOST 64
#define MODULES_MOST 64

typedef struct link_slot {
    uint64_t at, before;
    uint32_t hook, write; /* an index of `hooks`; 1: its page may be written to */
} link_slot;

enum { ENTER, EXIT, MCOUNT, MCOUNT_TOO, FENTRY, HOOKS };
static const struct {
    const char *name;
    void (*ours)(void);
    void **next;
} hooks[HOOKS] = {
    [ENTER] = {"__cyg_profile_func_enter", atf_cyg_enter, &atf_cyg_next[0]},
    [EXIT] = {"__cyg_profile_func_exit", atf_cyg_exit, &atf_cyg_next[1]},
    [MCOUNT] = {"mcount", atf_profiler_mcount, &atf_profiler_next[0]},
    [MCOUNT_TOO] = {"_mcount", atf_profiler_mcount, &atf_profiler_next[0]},
    [FENTRY] = {"__fentry__", atf_profiler_fentry, &atf_profiler_next[1]},
};

/* Of each module that is traced so. */
typedef struct linked {
    atf_module *module; /* NULL: free */
    uint32_t slots, reports, own, led; /* reports: its functions are traced by them; own: by its own hooks; led: its slots lead to us */
    uint32_t strange_count;
    link_slot slot[SLOTS_MOST];
    uint64_t strange[STRANGE_MOST]; /* vaddrs of functions that report another one's address: the same name elsewhere came first */
} linked;
static linked modules[MODULES_MOST];

static linked *linked_of(const atf_module *m)
{
    for (int i = 0; i < MODULES_MOST; i++)
        if (modules[i].module == m) return &modules[i];
    return NULL;
}

typedef struct tables {
    const Elf64_Rela *rela, *plt;
    const Elf64_Sym *symbols;
    const char *texts;
    uint64_t rela_count, plt_count, relro_low, relro_high;
} tables;

static int read_tables(const atf_module *m, tables *t)
{
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)m->loaded_low;
    uint64_t bias = m->at->load_bias;
    const Elf64_Dyn *d = NULL;
    memset(t, 0, sizeof *t);
    if (memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 || head->e_phoff + head->e_phnum * sizeof(Elf64_Phdr) > 4096) return 0;
    const Elf64_Phdr *p = (const Elf64_Phdr *)(m->loaded_low + head->e_phoff);
    for (int i = 0; i < head->e_phnum; i++) {
        if (p[i].p_type == PT_DYNAMIC) d = (const Elf64_Dyn *)(bias + p[i].p_vaddr);
        if (p[i].p_type == PT_GNU_RELRO) t->relro_low = (bias + p[i].p_vaddr) & ~4095ull, t->relro_high = (bias + p[i].p_vaddr + p[i].p_memsz) & ~4095ull;
    }
    for (; d && d->d_tag != DT_NULL; d++) {
        uint64_t v = d->d_un.d_ptr, at = v < m->loaded_low ? bias + v : v; /* glibc made them addresses */
        if (d->d_tag == DT_RELA) t->rela = (const Elf64_Rela *)at;
        else if (d->d_tag == DT_JMPREL) t->plt = (const Elf64_Rela *)at;
        else if (d->d_tag == DT_SYMTAB) t->symbols = (const Elf64_Sym *)at;
        else if (d->d_tag == DT_STRTAB) t->texts = (const char *)at;
        else if (d->d_tag == DT_RELASZ) t->rela_count = v / sizeof(Elf64_Rela);
        else if (d->d_tag == DT_PLTRELSZ) t->plt_count = v / sizeof(Elf64_Rela);
    }
    return t->symbols && t->texts;
}

static int does_nothing(uint64_t target)
{
    const uint8_t *p = (const uint8_t *)target;
    if (memcmp(p, "\xF3\x0F\x1E\xFA", 4) == 0) p += 4;
    return *p == 0xC3;
}

static int note(const atf_module *m, const tables *t, const Elf64_Rela *r, linked *l)
{
    uint32_t type = (uint32_t)ELF64_R_TYPE(r->r_info);
    if (type != R_X86_64_GLOB_DAT && type != R_X86_64_JUMP_SLOT) return 1;
    const Elf64_Sym *symbol = &t->symbols[ELF64_R_SYM(r->r_info)];
    const char *name = t->texts + symbol->st_name;
    uint64_t at = m->at->load_bias + r->r_offset, now = *(const uint64_t *)at;
    uint32_t hook = 0;
    while (hook < HOOKS && strcmp(name, hooks[hook].name) != 0) hook++;
    if (hook < HOOKS) {
        if (l->slots == SLOTS_MOST) return 0;
        l->slot[l->slots++] = (link_slot){at, now, hook, !(at >= t->relro_low && at < t->relro_high)};
    } else if (type == R_X86_64_GLOB_DAT && symbol->st_shndx && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && now != m->at->load_bias + symbol->st_value) {
        if (l->strange_count == STRANGE_MOST) return 0;
        l->strange[l->strange_count++] = symbol->st_value;
    }
    return 1;
}

/* What a slot leads to; the loader may not have looked it up yet. */
static uint64_t target_of(const atf_module *m, const link_slot *s)
{
    if (s->before && (s->before < m->loaded_low || s->before >= m->loaded_high)) return s->before;
    return (uint64_t)dlsym(RTLD_DEFAULT, hooks[s->hook].name);
}

static atf_plan_function *functions_of(const atf_module *m)
{
    return (atf_plan_function *)((char *)m->plan + m->plan->functions_offset) + m->at->first_function;
}

/* Stubs at the module's own two hooks; 1: both can be had. */
static int take_own(atf_module *m, atf_arena *arena)
{
    static void (*const wrappers[2])(void) = {atf_cyg_enter_own, atf_cyg_exit_own};
    atf_plan_function *f = functions_of(m);
    uint32_t at[2], both = 0;
    for (uint32_t i = 0; i < m->at->function_count; i++) {
        uint32_t role = ATF_FN_ROLE(f[i].flags);
        if (role == ATF_ROLE_CYG_ENTER || role == ATF_ROLE_CYG_EXIT) at[role - ATF_ROLE_CYG_ENTER] = i, both |= 1u << (role - ATF_ROLE_CYG_ENTER);
    }
    if (both != 3 || at[0] == at[1]) return 0;
    for (int k = 0; k < 2; k++) {
        uint64_t code = m->at->load_bias + f[at[k]].vaddr;
        uint32_t size = f[at[k]].size;
        if (code < m->low || code + size + 32 > m->high) return 0;
        if (atf_stub_build(arena, (uint8_t *)code, size, size + 32, 0, 0, (void *)(uintptr_t)wrappers[k], &m->hooks[at[k]])) {
            m->hooks[at[0]].stub = NULL;
            return 0;
        }
    }
    for (int k = 0; k < 2; k++) atf_cyg_next[2 + k] = m->hooks[at[k]].stub + STUB_BODY;
    return 1;
}

static int own_taken(void)
{
    for (int i = 0; i < MODULES_MOST; i++)
        if (modules[i].module && modules[i].own) return 1;
    return 0;
}

/* Takes off the slots for which `keep` is not true. */
static void keep_slots(linked *l, int (*keep)(const linked *l, const link_slot *s))
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->slots; i++)
        if (keep(l, &l->slot[i])) l->slot[n++] = l->slot[i];
    l->slots = n;
}
static int of_profiler(const linked *l, const link_slot *s) { return (void)l, s->hook >= MCOUNT; }

/* Whether a slot of another module leads to this hook of ours already, and so on to the same place. */
static int led_elsewhere(uint32_t hook)
{
    for (linked *l = modules; l < modules + MODULES_MOST; l++)
        for (uint32_t i = 0; l->module && i < l->slots; i++)
            if (hooks[l->slot[i].hook].next == hooks[hook].next) return 1;
    return 0;
}

/* Whether what the slots of [first, end) lead to can be called after us, and for every kind from one place only. */
static int chain(atf_module *m, linked *l, uint32_t first, uint32_t end)
{
    void *next[HOOKS] = {NULL};
    uint32_t seen = 0;
    for (uint32_t i = 0; i < l->slots; i++) {
        const link_slot *s = &l->slot[i];
        if (s->hook < first || s->hook >= end) continue;
        uint64_t target = target_of(m, s);
        if (!target || atf_in_arena(target) || target == (uint64_t)(uintptr_t)hooks[s->hook].ours) return 0; /* another plan's */
        void *on = does_nothing(target) && s->hook < MCOUNT ? NULL : (void *)target;
        for (atf_module *o = atf_modules; o && on; o = o->next) /* a hook that is hooked itself would report twice */
            if (target >= o->low && target < o->high && o->at->state == ATF_MODULE_LOADED && s->hook < MCOUNT) return 0;
        if (led_elsewhere(s->hook) && *hooks[s->hook].next != on) return 0;
        if ((seen >> s->hook & 1) && next[s->hook] != on) return 0;
        next[s->hook] = on;
        seen |= 1u << s->hook;
    }
    if ((seen >> MCOUNT & 3) == 3 && next[MCOUNT] != next[MCOUNT_TOO]) return 0;
    for (uint32_t i = first; i < end; i++)
        if (seen >> i & 1) *hooks[i].next = next[i];
    return first == ENTER ? (seen & 3) == 3 : seen != 0;
}

static int of_reports(const linked *l, const link_slot *s) { return l->reports && !l->own && s->hook < MCOUNT; }

int atf_cyg_module(atf_module *m, atf_arena *arena, int late)
{
    tables t;
    uint32_t flags = 0, own = 0;
    for (uint32_t i = 0; i < m->at->function_count; i++) {
        flags |= functions_of(m)[i].flags;
        own |= ATF_FN_ROLE(functions_of(m)[i].flags) >= ATF_ROLE_CYG_ENTER;
    }
    linked *l = (flags & (ATF_FN_INSTRUMENTED | ATF_FN_PROFILED)) && !late && !(m->plan->flags & ATF_PLAN_ENTRY_ONLY) ? linked_of(NULL) : NULL;
    if (!l || !arena || !read_tables(m, &t)) return 0;
    l->slots = l->reports = l->own = l->led = l->strange_count = 0;
    int whole = 1, on_report = (flags & ATF_FN_INSTRUMENTED) && !(m->plan->flags & ~ATF_PLAN_REPORTS);
    for (uint64_t i = 0; whole && i < t.rela_count; i++) whole = note(m, &t, &t.rela[i], l);
    for (uint64_t i = 0; whole && i < t.plt_count; i++) whole = note(m, &t, &t.plt[i], l);
    if (!whole) return 0;
    linked found = *l;
    if (own) keep_slots(&found, of_profiler); /* a module with hooks of its own reports by these alone, or by a jump at each function */
    if (on_report && own) l->own = l->reports = found.slots == l->slots && !own_taken() && take_own(m, arena);
    else if (on_report) l->reports = chain(m, l, ENTER, MCOUNT);
    int profiled = chain(m, l, MCOUNT, HOOKS);
    if (!profiled) keep_slots(l, of_reports);
    else if (!l->reports || l->own) keep_slots(l, of_profiler);
    if (l->slots || l->reports) l->module = m;
    return (int)l->reports;
}

int atf_cyg_traced(const atf_module *m, const atf_plan_function *f)
{
    linked *l = linked_of(m);
    if (!l || !l->reports || (f->flags & 0xFFFF) != ATF_FN_INSTRUMENTED) return 0; /* asked for more than calls and returns: by a stub */
    for (uint32_t i = 0; i < l->strange_count; i++)
        if (l->strange[i] == f->vaddr) return 0;
    return 1;
}

static int by_begin(const void *a, const void *b)
{
    const atf_cyg_range *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static atf_cyg_entry *place_for(atf_cyg_table *t, uint64_t function)
{
    uint64_t i = function * C_HASH >> t->shift;
    while (t->entries[i].function && t->entries[i].function != function) i = (i + 1) & t->mask;
    return &t->entries[i];
}

int atf_cyg_publish(atf_module *m)
{
    if (!linked_of(m) || !linked_of(m)->reports) return 1;
    atf_cyg_sequence = atf_rseq_place();
    atf_cyg_table *old = atf_cyg_now;
    uint32_t n = m->at->function_count, before = old ? old->count : 0, ranges = old ? old->range_count : 0, bits = 6;
    while ((1ull << bits) < 2ull * (before + n)) bits++;
    atf_cyg_table *t = calloc(1, sizeof *t + (sizeof(atf_cyg_entry) << bits));
    atf_cyg_range *r = calloc(ranges + n + 1, sizeof *r);
    if (!t || !r) {
        free(t);
        free(r);
        return 0;
    }
    t->shift = 64 - bits, t->mask = (1ull << bits) - 1, t->count = before;
    for (uint64_t i = 0; old && i <= old->mask; i++)
        if (old->entries[i].function) *place_for(t, old->entries[i].function) = old->entries[i];
    if (old) memcpy(r, old->ranges, ranges * sizeof *r);
    for (uint32_t i = 0; i < n; i++) {
        const atf_plan_function *f = &functions_of(m)[i];
        uint64_t at = m->at->load_bias + f->vaddr;
        r[ranges++] = (atf_cyg_range){at, at + f->size};
        if (ATF_FN_WAY(f->flags) != ATF_WAY_CYG) continue;
        atf_cyg_entry *e = place_for(t, at);
        t->count += !e->function;
        *e = (atf_cyg_entry){at, f->size, {0, 0}, STUB_CYG, f->function_id};
    }
    qsort(r, ranges, sizeof *r, by_begin);
    t->ranges = r, t->range_count = ranges;
    __atomic_store_n(&atf_cyg_now, t, __ATOMIC_RELEASE); /* pairs with entry_of: a table is whole before it is seen */
    return 1;
}

static void write_slot(const link_slot *s, uint64_t value)
{
    long page = (long)(s->at & ~4095ull);
    if (!s->write && atf_call(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE, 0, 0, 0) != 0) return;
    __atomic_store_n((uint64_t *)s->at, value, __ATOMIC_RELEASE); /* pairs with nothing of ours: a thread sees the one address or the other */
    if (!s->write) atf_call(SYS_mprotect, page, 4096, PROT_READ, 0, 0, 0);
}

void atf_cyg_redirect(void)
{
    for (linked *l = modules; l < modules + MODULES_MOST; l++) {
        for (uint32_t i = 0; l->module && !l->led && i < l->slots; i++) write_slot(&l->slot[i], (uint64_t)(uintptr_t)hooks[l->slot[i].hook].ours);
        l->led = l->module != NULL;
    }
}

void atf_cyg_restore(atf_module *m, int loaded)
{
    linked *l = linked_of(m);
    if (!l) return;
    for (uint32_t i = 0; i < l->slots && l->led && loaded; i++) write_slot(&l->slot[i], l->slot[i].before);
    for (uint32_t i = 0; i < m->at->function_count && loaded; i++)
        if (ATF_FN_WAY(functions_of(m)[i].flags) == ATF_WAY_CYG) functions_of(m)[i].state = ATF_FN_RESTORED;
    l->module = NULL;
}
