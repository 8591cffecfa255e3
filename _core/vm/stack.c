/* The calls that are in progress in a thread when it is first seen get their CALL then, outermost first, so that
 * their ends have a beginning. */
#include "generators.h"
#include <frameobject.h>
#if PY_VERSION_HEX < 0x030B0000
static PyObject *frame_globals(PyFrameObject *f)
{
    Py_INCREF(f->f_globals);
    return f->f_globals;
}
#define frame_receiver(f) ((f)->f_code->co_argcount > 0 ? (f)->f_localsplus[0] : NULL)
#else
#define frame_globals(f) PyFrame_GetGlobals(f)
#define frame_receiver(f) NULL
#endif

_Thread_local PyCodeObject *atf_entering __attribute__((tls_model("initial-exec"), visibility("hidden")));

typedef struct open_call {
    uint64_t word;
    uint32_t depth; /* the interpreter's */
} open_call;

#if PY_VERSION_HEX >= 0x030C0000
static uint32_t python_depth(void)
{
    PyThreadState *ts = PyThreadState_Get();
    int depth = ts->py_recursion_limit - ts->py_recursion_remaining;
    return depth > 0 ? (uint32_t)depth : 1;
}
#else
static uint32_t python_depth(void) { return 0; }
#endif

static uint64_t word_of(PyFrameObject *frame, PyCodeObject *code)
{
    uint64_t word = atf_code_word(code);
    if (atf_word_current(word)) return word;
    PyObject *globals = frame_globals(frame);
    word = atf_code_resolve(code, globals, frame_receiver(frame));
    Py_XDECREF(globals);
    return word;
}

/* Uses frame objects: they exist for as long as their frames, and nothing in them is changed. */
ATF_COLD void atf_calls_in_progress(atf_thread *t)
{
    PyCodeObject *entering = atf_entering;
    atf_entering = NULL;
    atf_error error = atf_error_save();
    size_t count = 0, capacity = 0;
    open_call *calls = NULL;
    uint32_t depth = python_depth();
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    for (int top = 1; frame; top = 0, depth -= depth > 1) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        uint64_t word = top && code == entering ? 0 : word_of(frame, code);
        Py_DECREF(code);
        if (atf_word_included(word)) {
            if (count == capacity) {
                capacity = capacity ? capacity * 2 : 64;
                open_call *more = realloc(calls, capacity * sizeof *calls);
                if (!more) break;
                calls = more;
            }
            calls[count++] = (open_call){word, depth};
        }
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    /* Spans that are open in a thread which was seen before the hooks came keep their share of the depth. */
    atf_running_clear();
    for (size_t i = count; i-- > 0;) {
        uint32_t at = ++t->depth;
        if (calls[i].word & ATF_WORD_GENERATOR) atf_running_push(calls[i].depth);
        atf_write(t, ATF_CALL, atf_word_function(calls[i].word), atf_vm.returns ? at : calls[i].depth, ATF_NO_DETAIL);
    }
    if (t->slot) atf_store_relaxed32(&t->slot->entered, (uint32_t)count);
    free(calls);
    atf_error_restore(error);
}
