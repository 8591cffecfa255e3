/* What the hooks share: their state, the word in a code object's extra slot, and the gate.
 * The GIL guards everything here. */
#ifndef ATF_HOOKS_H
#define ATF_HOOKS_H
#define PY_SSIZE_T_CLEAN
#include "vm.h"
#include "joint.h"

#define ATF_COLD __attribute__((noinline, cold))

enum atf_mechanism { ATF_NONE = 0, ATF_MONITORING, ATF_EVAL_FRAME, ATF_PROFILE };

typedef struct atf_vm_state {
    uint64_t key;      /* a word that matches in ATF_WORD_TEST is of this start and included */
    uint64_t plain_key; /* the same, when a record without a detail is all there is to write for a call; else it matches no word */
    uint64_t exit_key;  /* the same, for what follows a call: ends, suspensions, resumptions */
    Py_ssize_t index;  /* of the extra slot; -1: not requested yet */
    uint32_t epoch;    /* changes whenever hooks come or go: what was entered before is not left after */
    uint32_t generation; /* of this start, 1..ATF_GENERATIONS */
    int mechanism;
    int returns, c; /* which hooks there are */
    int args, repr, quiet, timed; /* what they write, see level.c. quiet: calls only; exits are followed, for the depth, and not written */
    int was_quiet;  /* once since the start */
    PyObject *include, *exclude; /* tuples of str */
} atf_vm_state;
extern atf_vm_state atf_vm __attribute__((visibility("hidden")));

/* The word: 63..48 generation that resolved it, 47..32 module, 31..4 symbol, 3..0 flags; 0: never seen.
 * A code object's extra slot dies with it, so that no other one can have its word. */
#define ATF_WORD_EXCLUDED 1u
#define ATF_WORD_GENERATOR 2u    /* its frames outlive a call: generator, coroutine, asynchronous generator */
#define ATF_WORD_SECRET_ARGS 4u  /* an argument's name is a secret's */
#define ATF_WORD_SECRET_NAME 8u  /* the function's name is: its result is masked */
#define ATF_WORD_TEST (0xFFFFull << 48 | ATF_WORD_EXCLUDED)
/* From 3.13 a generator's frames are counted one by one, see generators.h: its code is no plain code. */
#define ATF_WORD_PLAIN (ATF_WORD_TEST | (PY_VERSION_HEX >= 0x030D0000 ? ATF_WORD_GENERATOR : 0))
#define ATF_GENERATIONS 0xFFFEu
#define ATF_NO_KEY UINT64_MAX /* matches no word */
#define ATF_MODULES 0xFFFFu

static inline uint64_t atf_word_function(uint64_t word)
{
    return (word & 0xFFFF00000000ull) | (uint32_t)word >> 4;
}

/* As in codeobject.c from 3.10 to 3.13. Read in place: the API checks four things again at every event, which is a
 * tenth of what a call costs. The GIL guards it; a build without the GIL, and later versions, take the API. */
#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
typedef struct atf_code_extra {
    Py_ssize_t size;
    void *words[1];
} atf_code_extra;

static inline uint64_t atf_code_word(PyCodeObject *code)
{
    atf_code_extra *extra = (atf_code_extra *)code->co_extra;
    return ATF_LIKELY(extra && extra->size > atf_vm.index) ? (uint64_t)(uintptr_t)extra->words[atf_vm.index] : 0;
}
#else
static inline uint64_t atf_code_word(PyCodeObject *code)
{
    void *word = NULL;
    PyUnstable_Code_GetExtra((PyObject *)code, atf_vm.index, &word);
    return (uint64_t)(uintptr_t)word;
}
#endif

static inline int atf_word_included(uint64_t word) { return (word & ATF_WORD_TEST) == atf_vm.key; }
static inline int atf_word_current(uint64_t word) { return word >> 48 == atf_vm.generation; }

/* The word of a code object that this start has not seen. globals: of a frame that runs it, or NULL; receiver: its
 * first argument, or NULL (3.10 finds a method's qualified name by it). Runs no code of the program's, keeps the
 * current exception. 0 without a session. A hook asks for the word first and enters second, so that a thread which runs
 * excluded code only takes no ring. */
uint64_t atf_code_resolve(PyCodeObject *code, PyObject *globals, PyObject *receiver);

/* The word of a C function, 0 when the object is none or is excluded. */
uint64_t atf_c_word(PyObject *callable);

/* codes.c */
int atf_codes_start(void); /* -1 with an exception set */

/* level.c. Bits of a level, as recorder.pyx has them. */
enum atf_level_bits { ATF_BIT_CALLS = 1, ATF_BIT_RETURNS = 2, ATF_BIT_C = 4, ATF_BIT_ARGS = 8, ATF_BIT_REPR = 16 };
void atf_level_begin(void);                      /* of a start, after what is recorded was set */
void atf_level_set(atf_thread *t, uint32_t level); /* atf_level_changed */

/* filter.c */
int atf_filter_check(PyObject *globs, const char *argument); /* -1 with an exception set */
int atf_filter_match(PyObject *globs, const char *name);
int atf_filter_own(const char *name); /* atf's own modules */

/* ---------------------------------------------------------------- a thread's calls in progress */
/* Code of the top frame that is about to write its own CALL, or NULL. Set around the slow path of atf_enter. */
extern _Thread_local PyCodeObject *atf_entering __attribute__((tls_model("initial-exec"), visibility("hidden")));
void atf_calls_in_progress(atf_thread *t); /* stack.c; evalframe.c has its own */

/* atf_enter, for an event of a frame that is on the stack already though its CALL has not been written. */
static inline atf_thread *atf_enter_frame(PyCodeObject *entering)
{
    atf_thread *t = atf_self;
    if (ATF_UNLIKELY(!t || atf_load_relaxed32(t->gate) != t->gate_seen)) {
        atf_entering = entering;
        t = atf_enter_slow();
        atf_entering = NULL;
    }
    return t;
}

/* Depth of the frame that is being left; an exit without its entry leaves the depth at 0. */
static inline uint32_t atf_leave_depth(atf_thread *t)
{
    uint32_t depth = t->depth;
    if (ATF_UNLIKELY(depth == 0)) return 1;
    t->depth = depth - 1;
    return depth;
}

/* The plain case in one leaf function, so that it needs no stack frame: included code, a thread that is registered, the TSC,
 * room in the ring, no values to write. test: the bits of `word` that must be those of the key; `function`: the word that
 * the record names. `by` is added to the depth before (an entry: 1) or after (an exit: -1). 0: nothing was done, take the general way. */
static inline __attribute__((always_inline)) int atf_write_word(uint64_t word, uint64_t test, uint64_t function, uint32_t kind, int by)
{
    atf_thread *t = atf_self;
    if (ATF_UNLIKELY((word & test) != (kind == ATF_CALL ? atf_vm.plain_key : atf_vm.exit_key) || !t || atf_load_relaxed32(t->gate) != t->gate_seen)) return 0;
    atf_event *e = t->cursor;
    uint32_t depth = t->depth;
    if (ATF_UNLIKELY(e == t->end || t->clock_type != ATF_CLOCK_TSC || (by < 0 && depth == 0))) return 0;
    t->depth = depth + (uint32_t)by;
    atf_event_put(t, e, atf_ticks(ATF_CLOCK_TSC), kind, atf_word_function(function), by > 0 ? depth + 1 : depth, ATF_NO_DETAIL);
    return 1;
}

static inline __attribute__((always_inline)) int atf_write_plain(PyCodeObject *code, uint64_t test, uint32_t kind, int by)
{
    uint64_t word = atf_code_word(code);
    return atf_write_word(word, test, word, kind, by);
}

/* ---------------------------------------------------------------- details */
/* Argument i (an index into the code's variables), as a new reference, or NULL without an exception. */
typedef PyObject *(*atf_argument_getter)(void *frame, PyCodeObject *code, int i);
void atf_write_call(atf_thread *t, uint32_t kind, uint64_t word, uint32_t depth, PyCodeObject *code, void *frame, atf_argument_getter get);
void atf_write_value(atf_thread *t, uint32_t kind, uint64_t word, uint32_t depth, PyObject *value);
/* exception: an instance or NULL; type: its type when it has no instance yet, or NULL; value: what it will be made of. */
void atf_write_exception(atf_thread *t, uint64_t word, uint32_t depth, PyObject *exception, PyObject *type, PyObject *value);
int atf_is_secret(PyObject *name);

/* ---------------------------------------------------------------- mechanisms: 0, or -1 with an exception set */
int atf_monitoring_start(int filters_changed);
int atf_monitoring_stop(void);
int atf_eval_frame_usable(void);
int atf_eval_frame_start(void);
void atf_eval_frame_stop(void);
void atf_eval_frame_settle(atf_thread *t, void *frame); /* profile.c calls it before its first event after a switch */
int atf_profile_start(void);
void atf_profile_stop(void);

/* A saved exception state; hooks run while one may be set. */
#if PY_VERSION_HEX >= 0x030C0000
typedef PyObject *atf_error;
static inline atf_error atf_error_save(void) { return PyErr_GetRaisedException(); }
static inline void atf_error_restore(atf_error e) { PyErr_SetRaisedException(e); }
#else
typedef struct atf_error {
    PyObject *type, *value, *traceback;
} atf_error;
static inline atf_error atf_error_save(void)
{
    atf_error e;
    PyErr_Fetch(&e.type, &e.value, &e.traceback);
    return e;
}
static inline void atf_error_restore(atf_error e) { PyErr_Restore(e.type, e.value, e.traceback); }
#endif
#endif
