/* 3.12 and later: sys.monitoring. The callbacks are static objects with a vectorcall: everything else the interpreter
 * can call costs 10 to 90 ns more.
 *
 * A callback's error would be raised in the program, and DISABLE from an event that cannot be disabled (PY_UNWIND,
 * PY_THROW, C_RETURN, C_RAISE) would replace the program's exception. So no callback fails, and DISABLE is returned only where it
 * is allowed: for excluded code, and for call sites that call no C function. */
#include "cfunctions.h"
#include "generators.h"
#if PY_VERSION_HEX >= 0x030C0000
#include <opcode.h>

typedef struct callback {
    PyObject_HEAD
    vectorcallfunc call;
    const char *event; /* its name in sys.monitoring.events */
} callback;

#define INSTRUCTION_BYTES 2 /* one code unit: opcode, argument */

static PyObject *disable; /* sys.monitoring.DISABLE */
static int tool_id = -1, ever_started;

/* Not again at this place. A word of 0 is no verdict: there is no session. */
static inline PyObject *skip(uint64_t word) { return Py_NewRef(word ? disable : Py_None); }

/* The word, resolved when this start has not seen the code. The frame that the event is about is the current one. */
static inline uint64_t word_of(PyCodeObject *code)
{
    uint64_t word = atf_code_word(code);
    if (ATF_UNLIKELY(!atf_word_current(word))) word = atf_code_resolve(code, PyEval_GetGlobals(), NULL);
    return word;
}

static PyObject *current_argument(void *frame, PyCodeObject *code, int i)
{
    PyObject *value = PyFrame_GetVar(frame, PyTuple_GET_ITEM(code->co_localsplusnames, i));
    if (!value) PyErr_Clear(); /* deleted, or a cell that is still empty */
    return value;
}

static ATF_COLD void write_call_args(atf_thread *t, uint32_t kind, uint64_t word, uint32_t depth, PyCodeObject *code)
{
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    if (frame) {
        PyCodeObject *top = PyFrame_GetCode(frame);
        atf_write_call(t, kind, word, depth, code, top == code ? frame : NULL, current_argument);
        Py_DECREF(top);
        Py_DECREF(frame);
    } else {
        atf_write_call(t, kind, word, depth, code, NULL, current_argument);
    }
}

#define CODE ((PyCodeObject *)args[0])
#define CALLBACK(name) static PyObject *name(PyObject *Py_UNUSED(self), PyObject *const *args, size_t Py_UNUSED(nargs), PyObject *Py_UNUSED(names))

/* The general way of a callback, behind the plain one. */
#define GENERAL(name) static __attribute__((noinline)) PyObject *name(PyObject *const *args)

GENERAL(start_general)
{
    uint64_t word = word_of(CODE);
    if (ATF_UNLIKELY(!atf_word_included(word))) return skip(word);
    atf_thread *t = atf_enter_frame(CODE);
    if (ATF_UNLIKELY(!t)) Py_RETURN_NONE;
    uint32_t depth = ++t->depth;
    if (ATF_UNLIKELY(word & ATF_WORD_GENERATOR)) atf_generator_entered();
    if (ATF_UNLIKELY(atf_vm.args)) write_call_args(t, ATF_CALL, word, depth, CODE);
    else atf_write(t, ATF_CALL, atf_word_function(word), depth, ATF_NO_DETAIL);
    Py_RETURN_NONE;
}

CALLBACK(on_start)
{
    if (ATF_UNLIKELY(!atf_write_plain(CODE, ATF_WORD_PLAIN, ATF_CALL, 1))) return start_general(args);
    Py_RETURN_NONE;
}

/* Level calls: no exits are seen, so the depth is the interpreter's own, excluded frames included. */
CALLBACK(on_start_only)
{
    uint64_t word = word_of(CODE);
    if (ATF_UNLIKELY(!atf_word_included(word))) return skip(word);
    atf_thread *t = atf_enter_frame(CODE);
    if (ATF_UNLIKELY(!t)) Py_RETURN_NONE;
    PyThreadState *ts = PyThreadState_Get();
    uint32_t depth = (uint32_t)(ts->py_recursion_limit - ts->py_recursion_remaining);
    if (ATF_UNLIKELY(atf_vm.args)) write_call_args(t, ATF_CALL, word, depth, CODE);
    else atf_write(t, ATF_CALL, atf_word_function(word), depth, ATF_NO_DETAIL);
    Py_RETURN_NONE;
}

static void write_resume(atf_thread *t, uint64_t word)
{
    uint32_t depth = ++t->depth;
    if (!atf_vm.quiet) atf_write(t, ATF_RESUME, atf_word_function(word), depth, ATF_NO_DETAIL);
}

GENERAL(resume_general)
{
    uint64_t word = word_of(CODE);
    if (ATF_UNLIKELY(!atf_word_included(word))) return skip(word);
    atf_thread *t = atf_enter_frame(CODE);
    if (ATF_UNLIKELY(!t)) Py_RETURN_NONE;
    atf_generator_entered();
    write_resume(t, word);
    Py_RETURN_NONE;
}

CALLBACK(on_resume)
{
    uint32_t depth = atf_running_depth();
    if (ATF_UNLIKELY(!atf_running_has_room() || !atf_write_plain(CODE, ATF_WORD_TEST, ATF_RESUME, 1))) return resume_general(args);
    atf_running_add(depth);
    Py_RETURN_NONE;
}

/* An event's offset lies before a frame's first traceable instruction: a generator that was never started gets an exception,
 * and none of its code runs. That is no call. */
static inline int is_unstarted(PyCodeObject *code, PyObject *offset)
{
    return PyLong_AsLong(offset) / INSTRUCTION_BYTES < code->_co_firsttraceable;
}

/* An exception thrown into a generator. */
CALLBACK(on_throw)
{
    uint64_t word = word_of(CODE);
    if (!atf_word_included(word) || is_unstarted(CODE, args[1])) Py_RETURN_NONE;
    atf_thread *t = atf_enter_frame(CODE);
    if (!t) Py_RETURN_NONE;
    atf_generator_entered();
    write_resume(t, word);
    Py_RETURN_NONE;
}

static __attribute__((noinline)) PyObject *leave_general(PyObject *const *args, uint32_t kind)
{
    uint64_t word = word_of(CODE);
    if (ATF_UNLIKELY(!atf_word_included(word))) return skip(word);
    atf_thread *t = atf_enter();
    if (ATF_UNLIKELY(!t)) Py_RETURN_NONE;
    /* The resumption of a generator that was not told is written now, so that the exit has its entry. */
    if (ATF_UNLIKELY(word & ATF_WORD_GENERATOR) && ATF_UNLIKELY(!atf_generator_left())) write_resume(t, word);
    uint32_t depth = atf_leave_depth(t);
    if (ATF_UNLIKELY(atf_vm.quiet)) Py_RETURN_NONE;
    if (ATF_UNLIKELY(atf_vm.args)) atf_write_value(t, kind, word, depth, args[2]);
    else atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
    Py_RETURN_NONE;
}

CALLBACK(on_return)
{
    if (ATF_UNLIKELY(!atf_write_plain(CODE, ATF_WORD_PLAIN, ATF_RETURN, -1))) return leave_general(args, ATF_RETURN);
    Py_RETURN_NONE;
}

CALLBACK(on_yield)
{
    if (ATF_UNLIKELY(!atf_running_is_top(atf_running_depth()) || !atf_write_plain(CODE, ATF_WORD_TEST, ATF_YIELD, -1))) return leave_general(args, ATF_YIELD);
    atf_running_drop();
    Py_RETURN_NONE;
}

/* How often a code object is on the stack; 1 as soon as another one's recorded frame stands below the top one. */
static uint32_t frames_of(PyCodeObject *code)
{
    atf_error error = atf_error_save();
    uint32_t count = 0, others = 0;
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    while (frame && !(others && count == 1)) {
        PyCodeObject *one = PyFrame_GetCode(frame);
        if (one == code) count++;
        else others += atf_word_included(atf_code_word(one));
        Py_DECREF(one);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    atf_error_restore(error);
    return count;
}

static ATF_COLD int is_open(atf_thread *t, PyCodeObject *code, uint64_t function_id)
{
    uint32_t depth = t->depth, open = 0;
    if (atf_joint_now) return (open = atf_joint_now->open(function_id)) && open >= frames_of(code);
    const atf_event *e = t->cursor, *start = t->cursor - t->count;
    while (depth > 0 && e > start) {
        e--;
        if ((e->event_kind != ATF_CALL && e->event_kind != ATF_RESUME) || e->call_depth != depth) continue;
        if (e->function_id == function_id) open++;
        else if (depth == t->depth) return 0; /* the innermost open call is another's */
        depth--;
        if (open == 1 && frames_of(code) == 1) return 1;
    }
    if (open == 0) return PY_VERSION_HEX < 0x030D0000; /* not in this ring: what is likelier on this version */
    return depth > 0 || open >= frames_of(code);
}

/* A frame can be unwound although its entry was never told, or its exit was told already: from 3.13 signals and asynchronous
 * exceptions are raised at its RESUME instruction before PY_START; and on all versions the callbacks of tools with
 * higher ids, and trace functions, run before ours and may raise, those of lower ids after ours. Then the open records tell.
 * Elsewhere in a function's code its frame has been entered. In a generator's it may have been resumed without being told
 * and have handled the exception: see generators.h; before 3.13 only other tools can do that. */
static inline int was_entered(atf_thread *t, PyCodeObject *code, PyObject *offset, uint64_t word)
{
    uint8_t opcode = (uint8_t)code->co_code_adaptive[PyLong_AsLong(offset)];
    if (word & ATF_WORD_GENERATOR) return PY_VERSION_HEX >= 0x030D0000 ? atf_generator_left() : atf_vm.was_quiet || is_open(t, code, atf_word_function(word));
    if (opcode != RESUME && opcode != INSTRUMENTED_RESUME && opcode != INSTRUMENTED_RETURN_VALUE && opcode != INSTRUMENTED_RETURN_CONST) return 1;
    return is_open(t, code, atf_word_function(word));
}

CALLBACK(on_unwind)
{
    uint64_t word = word_of(CODE);
    if (!atf_word_included(word) || is_unstarted(CODE, args[1])) Py_RETURN_NONE;
    atf_thread *t = atf_enter();
    if (!t || !was_entered(t, CODE, args[1], word)) Py_RETURN_NONE;
    uint32_t depth = atf_leave_depth(t);
    if (!atf_vm.quiet) atf_write_exception(t, word, depth, args[2], NULL, NULL);
    Py_RETURN_NONE;
}

/* C functions: recorded when the calling code is. */
GENERAL(c_call_general)
{
    uint64_t caller = word_of(CODE);
    if (ATF_UNLIKELY(!atf_word_included(caller))) return skip(caller);
    uint64_t word = atf_c_word(args[2]);
    if (ATF_UNLIKELY(!word)) return skip(caller); /* this site calls Python functions, classes, or refused modules */
    atf_thread *t = atf_enter();
    if (ATF_UNLIKELY(!t)) Py_RETURN_NONE;
    atf_write(t, ATF_CALL, atf_word_function(word), ++t->depth, ATF_NO_DETAIL);
    Py_RETURN_NONE;
}

CALLBACK(on_c_call)
{
    if (ATF_UNLIKELY(!atf_c_write_plain(CODE, args[2], ATF_CALL, 1))) return c_call_general(args);
    Py_RETURN_NONE;
}

static __attribute__((noinline)) PyObject *leave_c_general(PyObject *const *args, uint32_t kind)
{
    if (ATF_UNLIKELY(!atf_word_included(word_of(CODE)))) Py_RETURN_NONE;
    uint64_t word = atf_c_word(args[2]);
    atf_thread *t = word ? atf_enter() : NULL;
    uint32_t depth = t ? atf_leave_depth(t) : 0;
    if (ATF_LIKELY(t && !atf_vm.quiet)) atf_write(t, kind, atf_word_function(word), depth, ATF_NO_DETAIL);
    Py_RETURN_NONE;
}

CALLBACK(on_c_return)
{
    if (ATF_UNLIKELY(!atf_c_write_plain(CODE, args[2], ATF_RETURN, -1))) return leave_c_general(args, ATF_RETURN);
    Py_RETURN_NONE;
}

CALLBACK(on_c_raise) { return leave_c_general(args, ATF_EXCEPTION); }

static PyTypeObject callback_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "atf._core.recorder.monitoring_callback",
    .tp_basicsize = sizeof(callback),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(callback, call),
    .tp_call = PyVectorcall_Call,
};

#define HOOK(function, name) {PyObject_HEAD_INIT(&callback_type) function, name}
static callback start_only = HOOK(on_start_only, "PY_START");
static callback callbacks[] = {
    HOOK(on_start, "PY_START"), HOOK(on_return, "PY_RETURN"), HOOK(on_yield, "PY_YIELD"), HOOK(on_resume, "PY_RESUME"),
    HOOK(on_throw, "PY_THROW"), HOOK(on_unwind, "PY_UNWIND"),
    HOOK(on_c_call, "CALL"), HOOK(on_c_return, "C_RETURN"), HOOK(on_c_raise, "C_RAISE"),
};
enum { RETURNS_COUNT = 6, ALL_COUNT = 9 };

/* The number of an event, -1 with an exception set. */
static long event_bit(PyObject *monitoring, const char *name)
{
    PyObject *events = PyObject_GetAttrString(monitoring, "events");
    PyObject *bit = events ? PyObject_GetAttrString(events, name) : NULL;
    long value = bit ? PyLong_AsLong(bit) : -1;
    Py_XDECREF(bit);
    Py_XDECREF(events);
    return value;
}

static int done(PyObject *result)
{
    Py_XDECREF(result);
    return result ? 0 : -1;
}

static int take_tool(PyObject *monitoring)
{
    static const int order[] = {3, 4, 5, 2, 0, 1}; /* the unnamed two first; 0, 1, 2 and 5 are reserved by custom for others */
    char owners[512] = "";
    for (size_t i = 0, used = 0; i < Py_ARRAY_LENGTH(order); i++) {
        PyObject *owner = PyObject_CallMethod(monitoring, "get_tool", "i", order[i]);
        if (!owner) return -1;
        if (owner == Py_None) {
            Py_DECREF(owner);
            if (done(PyObject_CallMethod(monitoring, "use_tool_id", "is", order[i], "atf")) < 0) return -1;
            tool_id = order[i];
            return 0;
        }
        const char *name = PyUnicode_Check(owner) ? PyUnicode_AsUTF8(owner) : NULL;
        if (!name) PyErr_Clear();
        used += (size_t)snprintf(owners + used, sizeof owners - used, "%s%d: %.60s", used ? ", " : "", order[i], name ? name : "?");
        Py_DECREF(owner);
    }
    PyErr_Format(PyExc_RuntimeError, "all six tool ids of sys.monitoring are taken (%s); stop one of these tools first", owners);
    return -1;
}

/* Which callbacks, which events; callable is NULL to remove. */
static int set_hooks(PyObject *monitoring, int on)
{
    long mask = 0;
    int count = !atf_vm.returns ? 1 : atf_vm.c ? ALL_COUNT : RETURNS_COUNT;
    if (!on && done(PyObject_CallMethod(monitoring, "set_events", "ii", tool_id, 0)) < 0) return -1;
    for (int i = 0; i < (on ? count : ALL_COUNT); i++) {
        long bit = event_bit(monitoring, callbacks[i].event);
        if (bit < 0) return -1;
        callback *c = i == 0 && !atf_vm.returns ? &start_only : &callbacks[i];
        if (done(PyObject_CallMethod(monitoring, "register_callback", "ilO", tool_id, bit, on ? (PyObject *)c : Py_None)) < 0) return -1;
        mask |= bit;
    }
    return on ? done(PyObject_CallMethod(monitoring, "set_events", "il", tool_id, mask)) : 0;
}

int atf_monitoring_start(int filters_changed)
{
    PyObject *monitoring = PySys_GetObject("monitoring"); /* borrowed */
    if (!monitoring || PyType_Ready(&callback_type) < 0 || atf_running_start() < 0) return -1;
    if (!disable && !(disable = PyObject_GetAttrString(monitoring, "DISABLE"))) return -1;
    if (take_tool(monitoring) < 0) return -1;
    /* What was DISABLEd stays so across set_events and free_tool_id: under other filters it must come back, and so must what
     * an earlier owner of the tool id disabled. */
    int failed = set_hooks(monitoring, 1) < 0;
    if (!failed && (filters_changed || !ever_started)) failed = done(PyObject_CallMethod(monitoring, "restart_events", NULL)) < 0;
    if (failed) {
        atf_error error = atf_error_save();
        atf_monitoring_stop();
        atf_error_restore(error);
        return -1;
    }
    ever_started = 1;
    atf_thread_started = atf_calls_in_progress;
    return 0;
}

int atf_monitoring_stop(void)
{
    PyObject *monitoring = PySys_GetObject("monitoring");
    if (tool_id < 0) return 0;
    if (!monitoring) {
        PyErr_SetString(PyExc_RuntimeError, "sys.monitoring is gone; the hooks cannot be removed");
        return -1;
    }
    int failed = set_hooks(monitoring, 0) < 0;
    if (!failed) failed = done(PyObject_CallMethod(monitoring, "free_tool_id", "i", tool_id)) < 0;
    tool_id = -1;
    return failed ? -1 : 0;
}
#else
typedef int atf_monitoring_unused;
#endif
