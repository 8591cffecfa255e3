/* 3.10 and 3.11: the C profile function. It sees C functions, needs no C stack, and costs four to seven times the frame
 * evaluator; it is used where that one cannot be. It is per thread: threads that exist get it at the start, those of
 * `threading` when they begin. One thread can have one profiler, so another one's is never replaced.
 * The exception that ends a frame is not shown to it: EXCEPTION records have no detail here. */
#include "frames.h"
#if PY_VERSION_HEX < 0x030C0000

static int on_event(PyObject *object, PyFrameObject *frame_object, int what, PyObject *arg);

static void on_call(PyFrameObject *frame_object)
{
    atf_frame *frame = atf_frame_of(frame_object);
    atf_thread *t = atf_enter_frame(frame->f_code);
    if (!t) return;
    atf_eval_frame_settle(t, atf_frame_back(frame));
    uint64_t word = atf_frame_word(frame);
    if (!atf_word_included(word)) return;
    int resumed = (word & ATF_WORD_GENERATOR) && atf_frame_started(frame);
    uint32_t depth = ++t->depth, kind = resumed ? ATF_RESUME : ATF_CALL;
    if (!resumed && atf_vm.args) atf_write_call(t, kind, word, depth, frame->f_code, frame, atf_frame_argument);
    else if (!resumed || atf_vm.returns) atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
}

static void on_return(PyFrameObject *frame_object, PyObject *value)
{
    atf_frame *frame = atf_frame_of(frame_object);
    atf_thread *t = atf_enter();
    if (!t) return;
    atf_eval_frame_settle(t, frame);
    uint64_t word = atf_frame_word(frame);
    if (!atf_word_included(word)) return;
    uint32_t depth = atf_leave_depth(t);
    if (!atf_vm.returns) return;
    if (!value) {
        atf_write(t, ATF_EXCEPTION, atf_word_function(word), depth, ATF_NO_DETAIL);
        return;
    }
    int suspended = (word & ATF_WORD_GENERATOR) && atf_frame_is_generator(frame) && atf_frame_suspended(frame);
    uint32_t kind = suspended ? ATF_YIELD : ATF_RETURN;
    if (atf_vm.args) atf_write_value(t, kind, word, depth, value);
    else atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
}

static void on_c(PyFrameObject *frame_object, PyObject *callable, uint32_t kind)
{
    atf_frame *frame = atf_frame_of(frame_object);
    atf_thread *t = atf_enter();
    if (!t) return;
    atf_eval_frame_settle(t, frame);
    if (!atf_word_included(atf_frame_word(frame))) return;
    uint64_t word = atf_c_word(callable);
    if (word) atf_write(t, kind, atf_word_function(word), kind == ATF_CALL ? ++t->depth : atf_leave_depth(t), ATF_NO_DETAIL);
}

static int on_event(PyObject *Py_UNUSED(object), PyFrameObject *frame, int what, PyObject *arg)
{
    if (ATF_UNLIKELY(atf_vm.mechanism != ATF_PROFILE)) return 0;
    if (what == PyTrace_CALL) on_call(frame);
    else if (what == PyTrace_RETURN) on_return(frame, arg);
    else if (!atf_vm.c) return 0;
    else if (what == PyTrace_C_CALL) on_c(frame, arg, ATF_CALL);
    else if (what == PyTrace_C_RETURN) on_c(frame, arg, ATF_RETURN);
    else if (what == PyTrace_C_EXCEPTION) on_c(frame, arg, ATF_EXCEPTION);
    return 0;
}

/* ---------------------------------------------------------------- threads to come */
/* threading.setprofile gives a new thread this object as its profile function; at its first event it puts the C function
 * in its own place. */
static PyObject *begin_thread(PyObject *Py_UNUSED(self), PyObject *const *args, size_t nargs, PyObject *Py_UNUSED(names))
{
    if (PyVectorcall_NARGS(nargs) == 3 && PyFrame_Check(args[0])) {
        PyEval_SetProfile(atf_vm.mechanism == ATF_PROFILE ? on_event : NULL, NULL);
        if (PyUnicode_Check(args[1]) && PyUnicode_CompareWithASCIIString(args[1], "call") == 0) on_event(NULL, (PyFrameObject *)args[0], PyTrace_CALL, NULL);
    }
    Py_RETURN_NONE;
}

typedef struct starter {
    PyObject_HEAD
    vectorcallfunc call;
} starter;

static PyTypeObject starter_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "atf._core.recorder.profile_starter",
    .tp_basicsize = sizeof(starter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(starter, call),
    .tp_call = PyVectorcall_Call,
};
static starter the_starter = {PyObject_HEAD_INIT(&starter_type) begin_thread};

/* Puts the starter where threading looks for it, or takes it away; somebody else's function stays. */
static int set_starter(int on)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *now = threading ? PyObject_GetAttrString(threading, "_profile_hook") : NULL;
    if (!now) {
        Py_XDECREF(threading);
        return -1;
    }
    PyObject *mine = (PyObject *)&the_starter, *result = NULL;
    int act = now == (on ? Py_None : mine);
    if (act) result = PyObject_CallMethod(threading, "setprofile", "O", on ? mine : Py_None);
    Py_XDECREF(result);
    Py_DECREF(now);
    Py_DECREF(threading);
    return act && !result ? -1 : 0;
}

int atf_profile_start(void)
{
    PyThreadState *self = PyThreadState_Get();
    if (self->c_profilefunc) {
        PyErr_SetString(PyExc_RuntimeError, "this thread has a profiler already (sys.setprofile, cProfile); stop it, or record at level returns "
                                            "with a recursion limit of at most 5000");
        return -1;
    }
    if (PyType_Ready(&starter_type) < 0 || set_starter(1) < 0) return -1;
    atf_vm.mechanism = ATF_PROFILE;
    atf_thread_started = atf_calls_in_progress;
    for (PyThreadState *ts = PyInterpreterState_ThreadHead(self->interp); ts; ts = PyThreadState_Next(ts)) {
        if (!ts->c_profilefunc && _PyEval_SetProfile(ts, on_event, NULL) < 0) { /* an audit hook refused */
            atf_error error = atf_error_save();
            atf_profile_stop();
            atf_error_restore(error);
            return -1;
        }
    }
    return 0;
}

void atf_profile_stop(void)
{
    for (PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Main()); ts; ts = PyThreadState_Next(ts)) {
        if (ts->c_profilefunc == on_event && _PyEval_SetProfile(ts, NULL, NULL) < 0) PyErr_Clear(); /* it does nothing from now on */
    }
    if (set_starter(0) < 0) PyErr_Clear();
}
#else
typedef int atf_profile_unused;
#endif
