/* The plan: one file by which a controller tells the agent what to hook, and the agent what came of it.
 * The controller writes it whole; the agent maps it shared and fills in the fields marked "agent's".
 * Little-endian, natural alignment, offsets in bytes from the file's start. Never includes Python.h.
 *
 *   atf_plan, then modules (atf_plan_module × module_count), functions (atf_plan_function × function_count,
 *   those of one module together, by address), then texts (paths, zero-terminated, filled up to a multiple of 8 bytes), then the sum
 *
 * The sum, 8 bytes at the file's end: 1 + the sum over all words of 8 bytes before it of word × (2 × its number in the file + 1),
 * modulo 2^64, where the agent's fields count as zero. A plan that was damaged on its way would send jumps anywhere. */
#ifndef ATF_PLAN_H
#define ATF_PLAN_H
#include <stddef.h>
#include <stdint.h>

#define ATF_PLAN_MAGIC 0x50465441u /* "ATFP" */
#define ATF_PLAN_VERSION 2u

/* atf_plan.flags */
#define ATF_PLAN_LIVE 1u       /* other threads run: they are stopped while code is changed */
#define ATF_PLAN_ENTRY_ONLY 2u /* no return hooks anywhere */
#define ATF_PLAN_ARGS 4u       /* details of calls and returns: argument registers, results */
#define ATF_PLAN_BACKTRACE 8u  /* in the details of calls, where the open calls return to */
#define ATF_STACK_BYTES_MOST 256u
#define ATF_PLAN_CHILDREN 16u  /* forked children record on: family.h, in the plan's directory */
#define ATF_PLAN_SLOW_PATH 64u /* functions that five bytes do not fit get a one-byte trap */
#define ATF_PLAN_REPORTS (ATF_PLAN_LIVE | 16u | 32u | 64u) /* only under these may functions be traced by what they report: that is calls and returns */

/* atf_plan.state, agent's */
enum atf_plan_state { ATF_PLAN_NEW = 0, ATF_PLAN_STARTING = 1, ATF_PLAN_ACTIVE = 2, ATF_PLAN_DETACHED = 3, ATF_PLAN_FAILED = 4 };

/* atf_plan.error, agent's, when FAILED */
enum atf_plan_error {
    ATF_PLAN_OK = 0,
    ATF_PLAN_E_FILE = 1,     /* the plan cannot be mapped or is damaged */
    ATF_PLAN_E_SEGMENTS = 2, /* the segments cannot be attached, or are no session of this layout; os_error says more */
    ATF_PLAN_E_THREADS = 3,  /* the other threads did not stop in time; nothing was changed */
    ATF_PLAN_E_MEMORY = 4,
    ATF_PLAN_E_CPU = 5,      /* this processor or kernel lacks what return hooks or the clock need */
    ATF_PLAN_E_BUSY = 6      /* another session is active in this process */
};

typedef struct atf_plan {
    uint32_t magic, version;
    uint32_t bytes;   /* of the file */
    uint32_t flags;
    int32_t control_id, registry_id, rings_id; /* System V ids, attached by shmat */
    uint32_t module_count, function_count;
    uint32_t modules_offset, functions_offset, texts_offset;
    uint64_t stack_bytes;     /* of the caller's stack in the details of calls; at most ATF_STACK_BYTES_MOST */
    uint64_t min_duration_ns; /* functions with ATF_FN_TIMED are recorded when they last at least this long; 0: always */

    /* agent's */
    uint32_t state, error;
    int32_t os_error; /* errno behind `error` */
    uint32_t pid;
    uint32_t hooked, refused, waiting; /* functions; waiting: their module is not loaded */
    uint32_t threads_stopped;
    uint64_t stop_ns;   /* how long the other threads stood */
    uint64_t setup_ns;  /* all of atf_agent_start */
    uint64_t skipped;   /* events not written because the agent itself was at work in that thread (signals) */
    uint64_t orphans;   /* frames found off the shadow stack's order */
    uint64_t spare[4]; /* [2]: calls that were too short to be recorded, as far as is known */
} atf_plan;
_Static_assert(sizeof(atf_plan) == 160, "plan header");

/* atf_plan_module.state, agent's */
enum atf_module_state { ATF_MODULE_WAITING = 0, ATF_MODULE_LOADED = 1, ATF_MODULE_GONE = 2, ATF_MODULE_MISMATCH = 3 };

typedef struct atf_plan_module {
    uint32_t path_offset;   /* absolute path as /proc/PID/maps shows it; empty: the main program */
    uint32_t build_id_bytes; /* 0: not compared */
    uint8_t build_id[32];
    uint32_t first_function, function_count;
    uint64_t load_bias;     /* agent's: address in memory = load_bias + vaddr */
    uint32_t state, reserved;
} atf_plan_module;
_Static_assert(sizeof(atf_plan_module) == 64, "plan module");

/* atf_plan_function.flags */
#define ATF_FN_ENTRY_ONLY 1u
#define ATF_FN_DETAILS 2u /* what the plan says of details holds for it */
#define ATF_FN_TEXTS 0x3F0000u /* with ATF_FN_DETAILS: the argument registers, from rdi on, that hold texts to be followed */
#define ATF_FN_TIMED 4u   /* min_duration_ns holds for it: all functions of a plan, or none */
#define ATF_FN_PROFILED 8u      /* calls mcount (behind its prologue) or __fentry__ (first of all) */
#define ATF_FN_INSTRUMENTED 16u /* calls __cyg_profile_func_enter and _exit with its own address */
#define ATF_FN_TRAP 32u /* by a trap, even where five bytes would do; needs ATF_PLAN_SLOW_PATH */
/* What the function means to the agent besides being traced; bits 8..15. Functions with a role are not
 * traced themselves. The agent finds those of libgcc_s and libstdc++ alone; the controller names those that
 * are linked into a module statically. */
#define ATF_FN_ROLE(flags) ((flags) >> 8 & 0xFF)
#define ATF_ROLE_REPORTS(role) ((role) == ATF_ROLE_CYG_ENTER || (role) == ATF_ROLE_CYG_EXIT)
enum atf_fn_role {
    ATF_ROLE_NONE = 0,
    ATF_ROLE_RAISE = 1,      /* _Unwind_RaiseException */
    ATF_ROLE_FORCED = 2,     /* _Unwind_ForcedUnwind */
    ATF_ROLE_RETHROW = 3,    /* _Unwind_Resume_or_Rethrow */
    ATF_ROLE_RESUME = 4,     /* _Unwind_Resume */
    ATF_ROLE_BACKTRACE = 5,  /* _Unwind_Backtrace */
    ATF_ROLE_BEGIN_CATCH = 6, /* __cxa_begin_catch */
    ATF_ROLE_SET_IP = 7,      /* _Unwind_SetIP */
    ATF_ROLE_EXECVE = 8,     /* the C library's, found by the agent alone */
    ATF_ROLE_EXECVEAT = 9,
    ATF_ROLE_FEXECVE = 10,
    ATF_ROLE_LAST = 10,      /* of those that the agent finds */
    ATF_ROLE_CYG_ENTER = 11, /* the module's own __cyg_profile_func_enter, which its functions call directly */
    ATF_ROLE_CYG_EXIT = 12,
    ATF_ROLE_FIND_FDE = 13,  /* _Unwind_Find_FDE; aarch64 only, found by the agent too */
    ATF_ROLE_COUNT = 14
};

/* How the agent came into a hooked function; agent's, bits 24..31 of the flags. */
#define ATF_FN_WAY(flags) ((flags) >> 24)
enum atf_fn_way {
    ATF_WAY_JUMP = 0,   /* a jump in the place of its first instructions, which were moved */
    ATF_WAY_NOPS = 1,   /* a jump in the place of nops that the compiler left: nothing was moved */
    ATF_WAY_FENTRY = 2, /* a jump behind its call of __fentry__ */
    ATF_WAY_MCOUNT = 3, /* a jump behind its call of mcount */
    ATF_WAY_CYG = 4     /* its calls of __cyg_profile_func_enter and _exit: its code is unchanged */
};

/* atf_plan_function.state, agent's */
enum atf_fn_state { ATF_FN_WAITING = 0, ATF_FN_HOOKED = 1, ATF_FN_HOOKED_ENTRY = 2, ATF_FN_REFUSED = 3, ATF_FN_RESTORED = 4, ATF_FN_HOOKED_TRAP = 5 };

/* atf_plan_function.reason, agent's, when REFUSED */
enum atf_fn_reason {
    ATF_WHY_NONE = 0,
    ATF_WHY_SHORT = 1,       /* fewer bytes up to the next code than a hook needs: 5, aarch64 4 */
    ATF_WHY_JUMP_BACK = 2,   /* a branch of its own leads into its first 5 bytes (aarch64: to the hook) */
    ATF_WHY_INSTRUCTION = 3, /* an instruction that cannot be moved, or is unknown */
    ATF_WHY_REACH = 4,       /* no memory within 2 GiB (aarch64: 128 MiB), or an operand would be out of reach */
    ATF_WHY_OVERLAP = 5,     /* the function before it needs these bytes (or the same code under another name) */
    ATF_WHY_BOUNDS = 6,      /* not inside executable memory of its module */
    ATF_WHY_AGENT = 7,       /* code that the agent itself stands on */
    ATF_WHY_MODULE = 8,      /* the module in memory is another build */
    ATF_WHY_BRANCHED = 9,    /* other code of the module branches into its first 5 bytes, or takes their address */
    ATF_WHY_TABLE = 10,      /* a table of addresses (a switch, labels as values) leads there */
    ATF_WHY_SHARED = 11,     /* another function begins there, or it stands in the middle of another function */
    ATF_WHY_PROFILER_FRAME = 12, /* calls its profiler from a prologue of another shape, or from any with details or a duration filter */
    ATF_WHY_PROFILER_LOOP = 13,  /* a loop begins behind the call of its profiler, where the hook would stand */
    ATF_WHY_SIGNAL = 14,     /* a trap only, and the program handles, ignores or blocks SIGTRAP */
    ATF_WHY_LIBC = 15        /* a trap only, and the C library runs with all signals blocked at times */
};

typedef struct atf_plan_function {
    uint64_t vaddr;       /* as in the symbol table */
    uint32_t size;        /* bytes; up to the next function's start when the symbol has none */
    uint32_t flags;
    uint64_t function_id; /* module_id << 32 | symbol */
    uint32_t state, reason; /* agent's */
} atf_plan_function;
_Static_assert(sizeof(atf_plan_function) == 32, "plan function");
#endif
