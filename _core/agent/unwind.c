/* Unwinders read return addresses from the stack: before one comes, this stack gets its own back, and where an exception is caught
 * the frames that are left are taken again. Each function here stands in the place of the one it is named after and calls it;
 * it has unwind information of its own, and the unwinder walks through it like through any other frame. */
#include "agent.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

typedef int (*trace_function)(void *context, void *argument);
static uint8_t *original[ATF_ROLE_COUNT];

/* Frames above our own. Our own return slot does not count: at a catch it is the very slot of the callee that threw. */
#define ABOVE ATF_OWN_CFA

static int raise_exception(void *exception)
{
    if (!original[ATF_ROLE_BEGIN_CATCH]) atf_agent_look_again();
    atf_agent_frames_back(ABOVE);
    int why = ((int (*)(void *))original[ATF_ROLE_RAISE])(exception);
    atf_agent_frames_again(ABOVE); /* nobody catches it */
    return why;
}

static int forced_unwind(void *exception, void *stop, void *argument)
{
    atf_agent_frames_back(ABOVE);
    int why = ((int (*)(void *, void *, void *))original[ATF_ROLE_FORCED])(exception, stop, argument);
    atf_agent_frames_again(ABOVE);
    return why;
}

static int resume_or_rethrow(void *exception)
{
    atf_agent_frames_back(ABOVE);
    int why = ((int (*)(void *))original[ATF_ROLE_RETHROW])(exception);
    atf_agent_frames_again(ABOVE);
    return why;
}

static void resume(void *exception)
{
    atf_agent_frames_back(ABOVE);
    ((void (*)(void *))original[ATF_ROLE_RESUME])(exception);
    __builtin_unreachable();
}

typedef struct walk {
    trace_function each;
    void *argument;
    int own; /* frames of ours that are still to come */
} walk;

static int skip_own(void *context, void *argument)
{
    walk *w = argument;
    if (w->own) {
        w->own--;
        return 0;
    }
    return w->each(context, w->argument);
}

static int backtrace_frames(trace_function each, void *argument)
{
    walk w = {each, argument, 1};
    atf_agent_frames_back(ABOVE);
    int why = ((int (*)(trace_function, void *))original[ATF_ROLE_BACKTRACE])(skip_own, &w);
    atf_agent_frames_again(ABOVE);
    return why;
}

static void *begin_catch(void *exception)
{
    atf_agent_frames_again(ABOVE);
    return ((void *(*)(void *))original[ATF_ROLE_BEGIN_CATCH])(exception);
}

/* A personality routine says where the stack goes on: in cleanup code or in a handler of the frame that called down to `cfa`. The word
 * before the one that is set holds it in libgcc's contexts; code that is not libgcc's own gives 0. */
static uint64_t cfa_of(const void *context)
{
    uint32_t offset = atf_context_ra(original[ATF_ROLE_SET_IP]);
    return offset ? *(const uint64_t *)((const char *)context + offset - 8) : 0;
}

static void set_ip(void *context, uint64_t address)
{
    uint64_t cfa = cfa_of(context);
    if (cfa) atf_agent_frames_land(cfa);
    ((void (*)(void *, uint64_t))original[ATF_ROLE_SET_IP])(context, address);
}

/* Where return addresses cannot be given back: what the unwinder takes for one is ours, and it asks here what it knows of that place.
 * `found` lies in its context behind the canonical frame address, the return address, and a word more. */
static const void *find_fde(void *pc, void *found)
{
    uint64_t *ra = (uint64_t *)found - 2, own = (uint64_t)(uintptr_t)pc + 1;
    if (atf_in_arena(own) && *ra == own) {
        uint64_t back = atf_agent_returns_to(ra[-1], own);
        if (back) *ra = back, pc = (void *)(uintptr_t)(back - 1);
    }
    return ((const void *(*)(void *, void *))original[ATF_ROLE_FIND_FDE])(pc, found);
}

static const struct { const char *library, *name; void *wrapper; } roles[] = {
    [ATF_ROLE_RAISE] = {"libgcc_s.so.1", "_Unwind_RaiseException", raise_exception},
    [ATF_ROLE_FORCED] = {"libgcc_s.so.1", "_Unwind_ForcedUnwind", forced_unwind},
    [ATF_ROLE_RETHROW] = {"libgcc_s.so.1", "_Unwind_Resume_or_Rethrow", resume_or_rethrow},
    [ATF_ROLE_RESUME] = {"libgcc_s.so.1", "_Unwind_Resume", resume},
    [ATF_ROLE_BACKTRACE] = {"libgcc_s.so.1", "_Unwind_Backtrace", backtrace_frames},
    [ATF_ROLE_BEGIN_CATCH] = {"libstdc++.so.6", "__cxa_begin_catch", begin_catch},
    [ATF_ROLE_SET_IP] = {"libgcc_s.so.1", "_Unwind_SetIP", set_ip},
    [ATF_ROLE_FIND_FDE] = {"libgcc_s.so.1", "_Unwind_Find_FDE", find_fde},
    [ATF_ROLE_EXECVE] = {"libc.so.6", "execve", NULL},
    [ATF_ROLE_EXECVEAT] = {"libc.so.6", "execveat", NULL},
    [ATF_ROLE_FEXECVE] = {"libc.so.6", "fexecve", NULL},
};

void *atf_wrapper_of(uint32_t role, uint8_t ***at)
{
    if (role >= ATF_ROLE_EXECVE && role <= ATF_ROLE_LAST) return atf_exec_wrapper(role, at);
    if (role == 0 || (role > ATF_ROLE_SET_IP && (role != ATF_ROLE_FIND_FDE || ATF_SLOTS_HOLD))) return NULL;
    *at = &original[role];
    return roles[role].wrapper;
}

int atf_wrapper_library(uint32_t role, uint8_t **address, uint32_t *size)
{
    /* libgcc_s is loaded by the C library when a thread is cancelled or exits: now rather than then. */
    int mode = role >= ATF_ROLE_BEGIN_CATCH && role <= ATF_ROLE_LAST ? RTLD_LAZY | RTLD_NOLOAD : RTLD_LAZY;
    void *library = dlopen(roles[role].library, mode);
    void *found = library ? dlsym(library, roles[role].name) : NULL;
    Dl_info info;
    ElfW(Sym) *symbol = NULL;
    if (!found || !dladdr1(found, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol) return 0;
    *address = found;
    *size = (uint32_t)symbol->st_size;
    return 1;
}
