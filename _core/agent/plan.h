/* The plan: one file by which a controller tells the agent what to hook, and the agent what came of it.
 * The controller writes it whole; the agent maps it shared and fills in the fields marked "agent's".
 * Little-endian, natural alignment, offsets in bytes from the file's start. Never includes Python.h.
 *
 *   atf_plan, then modules (atf_plan_module × module_count), functions (atf_plan_function × function_count,
 *   those of one module together), then texts (paths, zero-terminated) */
#ifndef ATF_PLAN_H
#define ATF_PLAN_H
#include <stddef.h>
#include <stdint.h>

#define ATF_PLAN_MAGIC 0x50465441u /* "ATFP" */
#define ATF_PLAN_VERSION 1u

/* atf_plan.flags */
#define ATF_PLAN_LIVE 1u       /* other threads run: they are stopped while code is changed */
#define ATF_PLAN_ENTRY_ONLY 2u /* no return hooks anywhere */
#define ATF_PLAN_CHILDREN 16u  /* forked children record on: family.h, in the plan's directory */

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
    uint64_t reserved[2];

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
    uint64_t spare[4];
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
/* What the function means to the agent besides being traced; bits 8..15. Functions with a role are not
 * traced themselves. The agent finds those of libgcc_s and libstdc++ alone; the controller names those that
 * are linked into a module statically. */
#define ATF_FN_ROLE(flags) ((flags) >> 8 & 0xFF)
enum atf_fn_role {
    ATF_ROLE_NONE = 0,
    ATF_ROLE_RAISE = 1,      /* _Unwind_RaiseException */
    ATF_ROLE_FORCED = 2,     /* _Unwind_ForcedUnwind */
    ATF_ROLE_RETHROW = 3,    /* _Unwind_Resume_or_Rethrow */
    ATF_ROLE_RESUME = 4,     /* _Unwind_Resume */
    ATF_ROLE_BACKTRACE = 5,  /* _Unwind_Backtrace */
    ATF_ROLE_BEGIN_CATCH = 6, /* __cxa_begin_catch */
    ATF_ROLE_EXECVE = 7,     /* the C library's, found by the agent alone */
    ATF_ROLE_EXECVEAT = 8,
    ATF_ROLE_FEXECVE = 9,
    ATF_ROLE_LAST = 9
};

/* atf_plan_function.state, agent's */
enum atf_fn_state { ATF_FN_WAITING = 0, ATF_FN_HOOKED = 1, ATF_FN_HOOKED_ENTRY = 2, ATF_FN_REFUSED = 3, ATF_FN_RESTORED = 4 };

/* atf_plan_function.reason, agent's, when REFUSED */
enum atf_fn_reason {
    ATF_WHY_NONE = 0,
    ATF_WHY_SHORT = 1,       /* fewer than 5 bytes up to the next code */
    ATF_WHY_JUMP_BACK = 2,   /* a branch of its own leads into its first 5 bytes */
    ATF_WHY_INSTRUCTION = 3, /* an instruction that cannot be moved, or is unknown */
    ATF_WHY_REACH = 4,       /* no memory within 2 GiB, or an operand would be out of reach */
    ATF_WHY_OVERLAP = 5,     /* the function before it needs these bytes (or the same code under another name) */
    ATF_WHY_BOUNDS = 6,      /* not inside executable memory of its module */
    ATF_WHY_AGENT = 7,       /* code that the agent itself stands on */
    ATF_WHY_MODULE = 8       /* the module in memory is another build */
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
