/* 3.10 and 3.11: the C profile function. It sees C functions, needs no C stack, and costs four to seven times the frame
 * evaluator; it is used where that one cannot be. It is per thread: threads that exist get it at the start, those of
 * `threading` when they begin. One thread can have one profiler, so another one's is never replaced.
 * The exception that ends a frame is not shown to it: EXCEPTION records have no detail here. */
#include "frames.h"
#if PY_VERSION_HEX < 0x030C0000
#include <pthread.h>

/* The recorded calls that are open in a thread: a frame, or NULL for a C function. Needed because 3.11 resumes a generator
 * without an event when what it delegates to ends inside throw(), and because C calls that were open at the start end too.
 * As deep as the thread's stack. */
typedef struct open_calls {
    uint32_t epoch, count, capacity;
    atf_frame **frames;
} open_calls;

static _Thread_local open_calls *mine __attribute__((tls_model("initial-exec")));
static pthread_key_t mine_key;
static int key_made;

static void free_open_calls(void *pointer)
{
    free(((open_calls *)pointer)->frames);
    free(pointer);
}

static void push(atf_frame *frame)
{
    if (mine->count == mine->capacity) {
        uint32_t capacity = mine->capacity ? mine->capacity * 2 : 64;
        atf_frame **frames = realloc(mine->frames, capacity * sizeof *frames);
        if (!frames) return; /* its end will look like one without a beginning */
        mine->frames = frames;
        mine->capacity = capacity;
    }
    mine->frames[mine->count++] = frame;
}

/* First event of a thread under this hook: takes the calls in progress, outermost first. They are counted in the depth already,
 * or get their CALL here. */
static ATF_COLD int take_open_calls(atf_thread *t, int write)
{
    uint32_t count = 0;
    if (!mine) {
        if (!(mine = calloc(1, sizeof *mine))) return 0;
        pthread_setspecific(mine_key, mine);
    }
    mine->epoch = atf_vm.epoch;
    mine->count = 0;
    atf_frame *top = atf_frame_top(PyThreadState_Get());
    if (top && top->f_code == atf_entering) top = atf_frame_back(top);
    for (atf_frame *f = top; f; f = atf_frame_back(f)) {
        if (!atf_word_included(atf_frame_word(f))) continue;
        push(f);
        count++;
    }
    for (uint32_t i = 0, n = mine->count; i < n / 2; i++) {
        atf_frame *swap = mine->frames[i];
        mine->frames[i] = mine->frames[n - 1 - i];
        mine->frames[n - 1 - i] = swap;
    }
    for (uint32_t i = 0; write && i < mine->count; i++) atf_write(t, ATF_CALL, atf_word_function(atf_frame_word(mine->frames[i])), ++t->depth, ATF_NO_DETAIL);
    if (write && t->slot) atf_store_relaxed32(&t->slot->entered, count);
    return 1;
}

static void thread_started(atf_thread *t) { take_open_calls(t, 1); }

/* The thread, when it records and its open calls are known. entering: the code of a frame whose CALL is this event. */
static atf_thread *enter(atf_frame *frame, int entering)
{
    atf_thread *t = atf_enter_frame(entering ? frame->f_code : NULL);
    if (!t || ATF_LIKELY(mine && mine->epoch == atf_vm.epoch)) return t;
    atf_eval_frame_settle(t, entering ? atf_frame_back(frame) : frame);
    atf_entering = entering ? frame->f_code : NULL;
    int taken = take_open_calls(t, 0);
    atf_entering = NULL;
    return taken ? t : NULL;
}

static void on_call(atf_frame *frame)
{
    uint64_t word = atf_frame_word(frame);
    if (!atf_word_included(word) || atf_frame_unstarted(frame)) return;
    atf_thread *t = enter(frame, 1);
    if (!t) return;
    int resumed = (word & ATF_WORD_GENERATOR) && atf_frame_started(frame);
    uint32_t depth = ++t->depth, kind = resumed ? ATF_RESUME : ATF_CALL;
    push(frame);
    if (!resumed && atf_vm.args) atf_write_call(t, kind, word, depth, frame->f_code, frame, atf_frame_argument);
    else if (!resumed || (atf_vm.returns && !atf_vm.quiet)) atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
}

static void on_return(atf_frame *frame, PyObject *value)
{
    uint64_t word = atf_frame_word(frame);
    if (!atf_word_included(word) || atf_frame_unstarted(frame)) return;
    atf_thread *t = enter(frame, 0);
    if (!t) return;
    uint32_t at = mine->count;
    while (at > 0 && mine->frames[at - 1] != frame) at--;
    if (at == 0) { /* resumed without an event */
        t->depth++;
        if (!atf_vm.quiet) atf_write(t, ATF_RESUME, atf_word_function(word), t->depth, ATF_NO_DETAIL);
    } else {
        for (; mine->count > at; mine->count--) atf_leave_depth(t);
        mine->count--;
    }
    uint32_t depth = atf_leave_depth(t);
    if (!atf_vm.returns || atf_vm.quiet) return;
    if (!value) {
        atf_write(t, ATF_EXCEPTION, atf_word_function(word), depth, ATF_NO_DETAIL);
        return;
    }
    int suspended = (word & ATF_WORD_GENERATOR) && atf_frame_is_generator(frame) && atf_frame_suspended(frame);
    uint32_t kind = suspended ? ATF_YIELD : ATF_RETURN;
    if (atf_vm.args) atf_write_value(t, kind, word, depth, value);
    else atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
}

static void on_c(atf_frame *frame, PyObject *callable, uint32_t kind)
{
    if (!atf_word_included(atf_frame_word(frame))) return;
    uint64_t word = atf_c_word(callable);
    atf_thread *t = word ? enter(frame, 0) : NULL;
    if (!t) return;
    if (kind == ATF_CALL) {
        push(NULL);
        atf_write(t, kind, atf_word_function(word), ++t->depth, ATF_NO_DETAIL);
    } else if (mine->count && !mine->frames[mine->count - 1]) { /* else it was called before the start */
        mine->count--;
        uint32_t depth = atf_leave_depth(t);
        if (!atf_vm.quiet) atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
    }
}

static int on_event(PyObject *Py_UNUSED(object), PyFrameObject *frame_object, int what, PyObject *arg)
{
    atf_frame *frame = atf_frame_of(frame_object);
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
    if (!key_made && pthread_key_create(&mine_key, free_open_calls) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    key_made = 1;
    if (PyType_Ready(&starter_type) < 0 || set_starter(1) < 0) return -1;
    atf_vm.mechanism = ATF_PROFILE;
    atf_thread_started = thread_started;
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
