/* Programs that a traced process executes are followed: the functions of the C library that execute one get two more variables
 * into the new program's environment, which the agent takes out again before that program looks. What the loader would not load
 * the agent into is executed as it is: privileged, static and foreign programs.
 * May run in a child of vfork, in its parent's memory and on a small stack: nothing is written but counters of the family. */
#include "agent.h"
#include "family.h"
#include "text.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#define ENTRIES_MOST 1000
#define PRELOAD_MOST 4096
#define AT_HERE -100
#define READ_CLOEXEC 0x80000
#if defined(__x86_64__)
#define MACHINE EM_X86_64
#else
#define MACHINE EM_AARCH64
#endif

typedef int (*execve_function)(const char *path, char *const argv[], char *const envp[]);
typedef int (*execveat_function)(int directory, const char *path, char *const argv[], char *const envp[], int flags);
typedef int (*fexecve_function)(int file, char *const argv[], char *const envp[]);

static uint8_t *original[3];
static char preload[PRELOAD_MOST], question[2100]; /* LD_PRELOAD=…, ATF_AGENT=@… */
static size_t preload_bytes;
static char loader[64]; /* that brought the agent in: it fits programs of the same one */

static void note_loader(void)
{
    const ElfW(Phdr) *p = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    uint64_t bias = 0;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
        if (p[i].p_type == PT_PHDR) bias = (uint64_t)(uintptr_t)p - p[i].p_vaddr;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
        if (p[i].p_type == PT_INTERP && p[i].p_filesz < sizeof loader) memcpy(loader, (const char *)(bias + p[i].p_vaddr), p[i].p_filesz);
}

int atf_exec_here(const char *session)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)atf_exec_here, &info) || !info.dli_fname || info.dli_fname[0] != '/') return 0;
    atf_text p = atf_text_in(preload, sizeof preload), q = atf_text_in(question, sizeof question);
    atf_text_put(&p, "LD_PRELOAD=");
    atf_text_put(&p, info.dli_fname);
    atf_text_put(&q, "ATF_AGENT=@");
    atf_text_put(&q, session);
    note_loader();
    preload_bytes = p.full || q.full ? 0 : p.n;
    return preload_bytes != 0;
}

int atf_exec_followed(void) { return preload_bytes != 0; }

/* ---------------------------------------------------------------- which programs */
/* The loader drops preloaded libraries of a program that gains privileges. */
static int privileged(long fd)
{
    struct stat s;
    char value[64];
    long euid = atf_call(SYS_geteuid, 0, 0, 0, 0, 0, 0), egid = atf_call(SYS_getegid, 0, 0, 0, 0, 0, 0);
    if (atf_call(SYS_fstat, fd, (long)&s, 0, 0, 0, 0) != 0) return 1;
    if (atf_call(SYS_getuid, 0, 0, 0, 0, 0, 0) != euid || atf_call(SYS_getgid, 0, 0, 0, 0, 0, 0) != egid) return 1;
    if ((s.st_mode & S_ISUID && s.st_uid != (uid_t)euid) || (s.st_mode & S_ISGID && s.st_gid != (gid_t)egid)) return 1;
    return euid != 0 && atf_call(SYS_fgetxattr, fd, (long)"security.capability", (long)value, sizeof value, 0, 0) > 0;
}

static int at(long fd, void *to, uint64_t bytes, uint64_t offset) { return atf_call(SYS_pread64, fd, (long)to, (long)bytes, (long)offset, 0, 0) == (long)bytes; }
static int segment_of(long fd, const Elf64_Ehdr *h, uint32_t i, Elf64_Phdr *p) { return i < h->e_phnum && i < 64 && at(fd, p, sizeof *p, h->e_phoff + (uint64_t)i * h->e_phentsize); }

/* Where a virtual address stands in the file; 0: nowhere. */
static uint64_t in_file(long fd, const Elf64_Ehdr *h, uint64_t address)
{
    Elf64_Phdr p;
    for (uint32_t i = 0; segment_of(fd, h, i, &p); i++)
        if (p.p_type == PT_LOAD && address >= p.p_vaddr && address - p.p_vaddr < p.p_filesz) return address - p.p_vaddr + p.p_offset;
    return 0;
}

/* The address sanitizer's shared runtime ends a program when any library was loaded before it. */
static int wants_to_be_first(long fd, const Elf64_Ehdr *h, const Elf64_Phdr *dynamic)
{
    Elf64_Dyn d;
    uint64_t needed[64], n = 0, texts = 0;
    for (uint64_t k = 0; k < dynamic->p_filesz / sizeof d && at(fd, &d, sizeof d, dynamic->p_offset + k * sizeof d) && d.d_tag != DT_NULL; k++) {
        if (d.d_tag == DT_NEEDED && n < 64) needed[n++] = d.d_un.d_val;
        if (d.d_tag == DT_STRTAB) texts = in_file(fd, h, d.d_un.d_ptr);
    }
    for (uint64_t k = 0; k < n; k++) {
        char name[10];
        if (texts && at(fd, name, sizeof name, texts + needed[k]) && memcmp(name, "libasan.so", sizeof name) == 0) return 1;
    }
    return 0;
}

static int loadable(long fd, const Elf64_Ehdr *h)
{
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != MACHINE) return 0;
    Elf64_Phdr p;
    int same = 0;
    for (uint32_t i = 0; segment_of(fd, h, i, &p); i++) {
        char name[sizeof loader];
        if (p.p_type == PT_INTERP) same = p.p_filesz <= sizeof name && at(fd, name, p.p_filesz, p.p_offset) && memcmp(name, loader, p.p_filesz) == 0;
        if (p.p_type == PT_DYNAMIC && wants_to_be_first(fd, h, &p)) return 0;
    }
    return same;
}

/* A script's interpreter, opened; minus something when there is none. */
static long interpreter(char *line, long n)
{
    long at = 2, end;
    line[n] = 0;
    while (line[at] == ' ' || line[at] == '\t') at++;
    for (end = at; line[end] && line[end] != ' ' && line[end] != '\t' && line[end] != '\n'; end++) {}
    line[end] = 0;
    return end > at ? atf_call(SYS_openat, AT_HERE, (long)(line + at), READ_CLOEXEC, 0, 0, 0) : -1;
}

/* Whether the agent would be loaded into what this file is: a program, or a script whose interpreter is one. */
static int follows(long fd)
{
    union { Elf64_Ehdr head; char text[257]; } start;
    long here = fd;
    int good = 0;
    for (int depth = 0; here >= 0 && depth < 4; depth++) {
        long n = atf_call(SYS_pread64, here, (long)start.text, 256, 0, 0, 0), next = -1;
        if (n > 2 && start.text[0] == '#' && start.text[1] == '!') next = interpreter(start.text, n);
        else if (n >= (long)sizeof start.head && memcmp(start.text, ELFMAG, SELFMAG) == 0) {
            good = loadable(here, &start.head) && !privileged(here);
            if (!good) atf_add_acq_rel32(&atf_family_here()->untouched, 1);
        }
        if (here != fd) atf_call(SYS_close, here, 0, 0, 0, 0, 0);
        here = next;
    }
    if (here >= 0 && here != fd) atf_call(SYS_close, here, 0, 0, 0, 0, 0);
    return good;
}

static int follows_path(int directory, const char *path)
{
    long fd = atf_call(SYS_openat, directory, (long)path, READ_CLOEXEC, 0, 0, 0);
    if (fd < 0) return 0; /* there is none, or it may not be read */
    int good = follows(fd);
    atf_call(SYS_close, fd, 0, 0, 0, 0, 0);
    return good;
}

/* Not below another root directory, where neither the session nor this library is. */
static int wanted(void)
{
    return preload_bytes && atf_family_here() && atf_family_state() == ATF_SESSION_OPEN && atf_call(SYS_faccessat, AT_HERE, (long)(preload + 11), 4, 0, 0, 0) == 0;
}

/* ---------------------------------------------------------------- their environment */
static int is(const char *entry, const char *name)
{
    while (*name && *entry == *name) entry++, name++;
    return !*name;
}

/* Entries, and the bytes of a library preloaded already; 0: too many. */
static uint32_t measure(char *const envp[], size_t *bytes)
{
    uint32_t n = 0;
    *bytes = 0;
    for (; envp && envp[n]; n++) {
        if (n == ENTRIES_MOST) return 0;
        size_t length = 0;
        if (!is(envp[n], "LD_PRELOAD=")) continue;
        while (envp[n][length]) length++;
        if (length > *bytes) *bytes = length;
    }
    return *bytes + preload_bytes + 2 > PRELOAD_MOST ? 0 : n + 3;
}

/* to: room for `measure` entries; text: for preload_bytes + bytes + 2. What stood in LD_PRELOAD comes behind the agent. */
static char *const *extended(char **to, char *text, char *const envp[])
{
    uint32_t n = 0;
    char *preloading = preload;
    for (uint32_t i = 0; envp && envp[i]; i++) {
        if (is(envp[i], "ATF_AGENT=")) continue;
        if (!is(envp[i], "LD_PRELOAD=")) {
            to[n++] = envp[i];
            continue;
        }
        atf_text t = atf_text_in(text, PRELOAD_MOST);
        atf_text_put(&t, preload);
        atf_text_char(&t, ':');
        atf_text_put(&t, envp[i] + 11);
        preloading = text;
    }
    to[n++] = preloading;
    to[n++] = question;
    to[n] = NULL;
    return to;
}

/* The longer environment lives on the caller's stack, which the new program does not see. */
#define EXTEND(envp)                                                              \
    size_t bytes_;                                                                \
    uint32_t entries_ = measure(envp, &bytes_);                                   \
    if (entries_) {                                                               \
        char **list_ = __builtin_alloca(entries_ * sizeof *list_);                \
        envp = extended(list_, __builtin_alloca(preload_bytes + bytes_ + 2), envp); \
    }

static int follow_execve(const char *path, char *const argv[], char *const envp[])
{
    if (wanted() && follows_path(AT_HERE, path)) {
        EXTEND(envp)
        return ((execve_function)original[0])(path, argv, envp);
    }
    return ((execve_function)original[0])(path, argv, envp);
}

static int follow_execveat(int directory, const char *path, char *const argv[], char *const envp[], int flags)
{
    if (wanted() && (path && !path[0] ? follows(directory) : follows_path(directory, path))) {
        EXTEND(envp)
        return ((execveat_function)original[1])(directory, path, argv, envp, flags);
    }
    return ((execveat_function)original[1])(directory, path, argv, envp, flags);
}

static int follow_fexecve(int file, char *const argv[], char *const envp[])
{
    if (wanted() && follows(file)) {
        EXTEND(envp)
        return ((fexecve_function)original[2])(file, argv, envp);
    }
    return ((fexecve_function)original[2])(file, argv, envp);
}

void *atf_exec_wrapper(uint32_t role, uint8_t ***at)
{
    void *const wrappers[3] = {follow_execve, follow_execveat, follow_fexecve};
    *at = &original[role - ATF_ROLE_EXECVE];
    return wrappers[role - ATF_ROLE_EXECVE];
}
