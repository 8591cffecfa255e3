/* Finds the plan's modules among those that are loaded, by path and build id. */
#include "hooks.h"
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct search { atf_module *m; const char *path; int found, mismatch; } search;

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
    s->m->segments = info->dlpi_phdr, s->m->segment_count = info->dlpi_phnum;
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
int atf_module_present(atf_module *m)
{
    search s = {m, (const char *)m->plan + m->at->path_offset, 0, 0};
    dl_iterate_phdr(look_at, &s);
    if (!s.found && s.mismatch) m->at->state = ATF_MODULE_MISMATCH;
    return s.found;
}

static int while_held(struct dl_phdr_info *info, size_t size, void *argument)
{
    (void)info, (void)size;
    atf_held *h = argument;
    h->error = h->what(h);
    return 1;
}

/* Calls `what` while no module goes: the loader unmaps under the lock that this iteration takes, too. Nothing in it may call dlopen. */
int atf_modules_held(atf_held *h)
{
    dl_iterate_phdr(while_held, h);
    return h->error;
}
