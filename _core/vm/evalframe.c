/* 3.10 and 3.11: a function that evaluates every frame (PEP 523). It records, lets the interpreter evaluate, records.
 * The depth before a call stands on the C stack, so that whatever happens inside, the depth after it is right.
 *
 * Frames that were entered before the start are not evaluated through the hook, and nobody tells when they end.
 * Such a frame's CALL is written when its thread is first seen; it is kept in the thread's base list, and its RETURN is
 * written at the first call that does not come from it any more.
 *
 * On 3.11 a hooked call takes C stack where a plain one takes none. So the hook steps aside for the profile hook when the
 * recursion limit allows more frames than the stack holds. Not for 3.12 and later: RecursionError comes before depth 900. */
#include "frames.h"
#if PY_VERSION_HEX < 0x030C0000
#include <pthread.h>

#define ATF_EVAL_RECURSION 5000   /* frames; needs about 0.5 KiB of stack each, sometimes 0.9 */
#define ATF_EVAL_FRAME_BYTES 1024
#define ATF_EVAL_STACK_SPARE 65536

typedef struct base_call {
    atf_frame *frame; /* only compared */
    PyCodeObject *code;
    uint64_t word;
} base_call;

typedef struct base_list {
    uint32_t generation, count;
    base_call calls[]; /* outermost first */
} base_list;

static _Thread_local base_list *bases __attribute__((tls_model("initial-exec")));
static int installed;

static void forget_bases(void)
{
    free(bases);
    bases = NULL;
}

static void write_error(atf_thread *t, PyThreadState *ts, uint64_t word, uint32_t depth);

/* raised_in: of the thread that an exception is on its way through, or NULL when the call returned or nobody knows how it ended. */
static void leave_base(atf_thread *t, PyThreadState *raised_in)
{
    uint64_t word = bases->calls[--bases->count].word;
    uint32_t depth = atf_leave_depth(t);
    int told = atf_vm.returns && !atf_vm.quiet;
    if (told && raised_in) write_error(t, raised_in, word, depth);
    else if (told) atf_write(t, ATF_RETURN, atf_word_function(word), depth, ATF_NO_DETAIL);
    if (bases->count == 0) forget_bases();
}

/* Writes RETURN for base calls that have ended: those above the innermost one that is still on the stack. While a recorded
 * call is open above them (depth is larger than their number) they are all there. A frame's memory may serve again,
 * but for an included frame of the same code only by way of the hook, and then it is such a call. */
static ATF_COLD void settle(atf_thread *t, atf_frame *caller)
{
    if (bases->generation != atf_vm.generation) {
        forget_bases();
        return;
    }
    if (t->depth > bases->count) return;
    uint32_t alive = 0;
    for (atf_frame *f = caller; f && !alive; f = atf_frame_back(f)) {
        for (uint32_t i = bases->count; i > 0 && !alive; i--) {
            if (bases->calls[i - 1].frame == f && bases->calls[i - 1].code == f->f_code) alive = i;
        }
    }
    while (bases && bases->count > alive) leave_base(t, NULL);
}

void atf_eval_frame_settle(atf_thread *t, void *frame)
{
    if (ATF_LIKELY(bases == NULL)) return;
    settle(t, frame);
    forget_bases(); /* the profile hook is told when the rest ends */
}

/* atf_thread_started. The frame that is about to be evaluated is not on the stack yet. With native calls in the lane nothing is written:
 * those that come after such a frame's unseen end would stand below it. There it is the start of the interpreter alone. */
static ATF_COLD void thread_started(atf_thread *t)
{
    if (atf_joint_now) return;
    uint32_t count = 0;
    PyThreadState *ts = PyThreadState_Get();
    forget_bases();
    for (atf_frame *f = atf_frame_top(ts); f; f = atf_frame_back(f)) count += atf_word_included(atf_frame_word(f));
    if (t->slot) atf_store_relaxed32(&t->slot->entered, count);
    if (!count || !(bases = malloc(sizeof *bases + count * sizeof(base_call)))) return;
    bases->generation = atf_vm.generation;
    bases->count = count;
    for (atf_frame *f = atf_frame_top(ts); f; f = atf_frame_back(f)) {
        uint64_t word = atf_frame_word(f);
        if (atf_word_included(word)) bases->calls[--count] = (base_call){f, f->f_code, word};
    }
    for (uint32_t i = 0; i < bases->count; i++) atf_write(t, ATF_CALL, atf_word_function(bases->calls[i].word), ++t->depth, ATF_NO_DETAIL);
}

#if PY_VERSION_HEX >= 0x030B0000
static int stack_holds(int recursion)
{
    static _Thread_local size_t stack_bytes __attribute__((tls_model("initial-exec")));
    if (!stack_bytes) {
        pthread_attr_t attributes;
        void *start;
        if (pthread_getattr_np(pthread_self(), &attributes) != 0) return 1;
        pthread_attr_getstack(&attributes, &start, &stack_bytes);
        pthread_attr_destroy(&attributes);
    }
    return stack_bytes >= (size_t)recursion * ATF_EVAL_FRAME_BYTES + ATF_EVAL_STACK_SPARE;
}

static _Thread_local int checked_limit __attribute__((tls_model("initial-exec"))); /* the limit that this thread's stack was found to hold */

/* The recursion limit is not the one that was checked last in this thread: 1 when the hook may go on. */
static ATF_COLD int may_go_on(PyThreadState *ts)
{
    if (atf_vm.mechanism != ATF_EVAL_FRAME) return 0;
    if (ts->recursion_limit <= ATF_EVAL_RECURSION && stack_holds(ts->recursion_limit)) {
        checked_limit = ts->recursion_limit;
        return 1;
    }
    /* Calls that are open here are left by the profile hook: it is told of their ends, and the epoch keeps us from it. */
    atf_error error = atf_error_save();
    atf_eval_frame_stop();
    atf_vm.mechanism = ATF_PROFILE;
    atf_vm.epoch++;
    if (atf_profile_start() < 0) atf_vm.mechanism = ATF_NONE; /* another profiler: recording Python calls ends here */
    atf_error_restore(error);
    return 0;
}
#endif

typedef PyObject *(*evaluator)(PyThreadState *, atf_frame *, int);

/* A frame whose call began before the hooks came or changed: if it is the innermost base call, this is its end. */
static ATF_COLD void leave_stranger(atf_thread *t, atf_frame *frame, PyThreadState *raised_in)
{
    if (!t || !bases || bases->generation != atf_vm.generation || atf_vm.mechanism != ATF_EVAL_FRAME) return;
    if (bases->calls[bases->count - 1].frame == frame) leave_base(t, raised_in);
}

static ATF_COLD void write_error(atf_thread *t, PyThreadState *ts, uint64_t word, uint32_t depth)
{
    PyObject *type = ts->curexc_type, *value = ts->curexc_value;
    int instance = value && PyExceptionInstance_Check(value);
    if (!type || !PyExceptionClass_Check(type)) type = NULL;
    atf_write_exception(t, word, depth, instance ? value : NULL, type, value);
}

/* Everything that is not a plain function at level returns. */
static __attribute__((noinline)) PyObject *evaluate_special(PyThreadState *ts, atf_frame *frame, int throwflag, uint64_t word, atf_thread *t)
{
    int generator = 0;
    uint32_t kind = ATF_CALL, epoch = atf_vm.epoch;
    if (word & ATF_WORD_GENERATOR) {
        if (!(generator = atf_frame_is_generator(frame))) return _PyEval_EvalFrameDefault(ts, frame, throwflag); /* 3.11: only makes the generator */
        if (atf_frame_started(frame)) kind = ATF_RESUME;
        else if (throwflag) return _PyEval_EvalFrameDefault(ts, frame, throwflag); /* none of its code runs: no call */
    }
    uint32_t depth = ++t->depth;
    if (kind == ATF_CALL && atf_vm.args) atf_write_call(t, kind, word, depth, frame->f_code, frame, atf_frame_argument);
    else if (kind == ATF_CALL || (atf_vm.returns && !atf_vm.quiet)) atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
    PyObject *result = _PyEval_EvalFrameDefault(ts, frame, throwflag);
    t = atf_enter();
    if (!t || epoch != atf_vm.epoch) {
        leave_stranger(t, frame, result ? NULL : ts);
        return result;
    }
    t->depth = depth - 1;
    if (!atf_vm.returns || atf_vm.quiet) return result;
    if (!result) {
        write_error(t, ts, word, depth);
        return result;
    }
    kind = generator && atf_frame_suspended(frame) ? ATF_YIELD : ATF_RETURN;
    if (atf_vm.args) atf_write_value(t, kind, word, depth, result);
    else atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
    return result;
}

static PyObject *evaluate(PyThreadState *ts, atf_frame *frame, int throwflag)
{
#if PY_VERSION_HEX >= 0x030B0000 /* first: excluded code takes C stack too */
    if (ATF_UNLIKELY(ts->recursion_limit != checked_limit) && !may_go_on(ts)) return _PyEval_EvalFrameDefault(ts, frame, throwflag);
#endif
    uint64_t word = atf_code_word(frame->f_code);
    if (ATF_UNLIKELY(!atf_word_included(word))) {
        if (atf_word_current(word) || atf_vm.mechanism != ATF_EVAL_FRAME) return _PyEval_EvalFrameDefault(ts, frame, throwflag);
        word = atf_code_resolve(frame->f_code, atf_frame_globals(frame), atf_frame_receiver(frame));
        if (!atf_word_included(word)) return _PyEval_EvalFrameDefault(ts, frame, throwflag);
    }
    atf_thread *t = atf_enter();
    if (ATF_UNLIKELY(!t)) return _PyEval_EvalFrameDefault(ts, frame, throwflag);
    if (ATF_UNLIKELY(bases != NULL)) settle(t, atf_frame_top(ts));
    if (ATF_UNLIKELY((word & ATF_WORD_GENERATOR) || atf_vm.args || !atf_vm.returns)) return evaluate_special(ts, frame, throwflag, word, t);

    uint32_t depth = ++t->depth, epoch = atf_vm.epoch;
    atf_write(t, ATF_CALL, atf_word_function(word), depth, ATF_NO_DETAIL);
    PyObject *result = _PyEval_EvalFrameDefault(ts, frame, throwflag);
    if (ATF_UNLIKELY(atf_load_relaxed32(t->gate) != t->gate_seen)) t = atf_enter(); /* a frame stays on its thread, and so does t */
    if (ATF_UNLIKELY(!t || epoch != atf_vm.epoch)) {
        leave_stranger(t, frame, result ? NULL : ts);
        return result;
    }
    t->depth = depth - 1;
    if (ATF_UNLIKELY(atf_vm.quiet)) return result;
    if (ATF_LIKELY(result != NULL)) atf_write(t, ATF_RETURN, atf_word_function(word), depth, ATF_NO_DETAIL);
    else write_error(t, ts, word, depth);
    return result;
}

int atf_eval_frame_usable(void)
{
    PyThreadState *ts = PyThreadState_Get();
    if (_PyInterpreterState_GetEvalFrameFunc(ts->interp) != _PyEval_EvalFrameDefault) return 0;
#if PY_VERSION_HEX >= 0x030B0000
    return ts->recursion_limit <= ATF_EVAL_RECURSION && stack_holds(ts->recursion_limit);
#else
    return 1;
#endif
}

int atf_eval_frame_start(void)
{
    _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Main(), evaluate);
    installed = 1;
    atf_thread_started = thread_started;
    return 0;
}

void atf_eval_frame_stop(void)
{
    PyInterpreterState *interp = PyInterpreterState_Main();
    /* Who came after us may call us still; without a session the hook only passes on. */
    if (installed && _PyInterpreterState_GetEvalFrameFunc(interp) == evaluate) _PyInterpreterState_SetEvalFrameFunc(interp, _PyEval_EvalFrameDefault);
    installed = 0;
}
#else
typedef int atf_evalframe_unused;
#endif
