/* Start and stop: which mechanism this interpreter offers, and what the hooks record. */
#include "hooks.h"

static PyObject *last_include, *last_exclude; /* of the start before this one */

static int filters_changed(PyObject *include, PyObject *exclude)
{
    if (!last_include) return 1;
    int same = PyObject_RichCompareBool(last_include, include, Py_EQ);
    if (same == 1) same = PyObject_RichCompareBool(last_exclude, exclude, Py_EQ);
    return same < 0 ? -1 : !same;
}

static void forget_filters(void)
{
    Py_XSETREF(last_include, atf_vm.include);
    Py_XSETREF(last_exclude, atf_vm.exclude);
    atf_vm.include = atf_vm.exclude = NULL;
}

static int start_hooks(int changed)
{
#if PY_VERSION_HEX >= 0x030C0000
    atf_vm.mechanism = ATF_MONITORING;
    return atf_monitoring_start(changed);
#else
    (void)changed;
    if (!atf_vm.c && atf_eval_frame_usable()) {
        atf_vm.mechanism = ATF_EVAL_FRAME;
        return atf_eval_frame_start();
    }
    atf_vm.mechanism = ATF_PROFILE;
    return atf_profile_start();
#endif
}

/* The recorder ended the recording while the program runs on. Hooks cannot go from within a hook, so the interpreter is asked to
 * call this at its next safe point, in the main thread; until it gets there they return at once. */
static int take_out(void *Py_UNUSED(argument))
{
    atf_error error = atf_error_save();
    if (atf_current.control && atf_load_acquire32(&atf_current.control->state) == ATF_STATE_STOPPED) {
        if (atf_vm_stop() < 0) PyErr_Clear();
        atf_joint_end();
    }
    atf_error_restore(error);
    return 0;
}

static void session_stopped(void)
{
    if (Py_AddPendingCall(take_out, NULL) < 0) atf_session_stopped = session_stopped; /* its queue is full: at a later event */
}

int atf_vm_start(int level, PyObject *include, PyObject *exclude, int options)
{
    if (atf_vm.mechanism) {
        PyErr_SetString(PyExc_RuntimeError, "the VM hooks are in place already; stop the recording that uses them first");
        return -1;
    }
    if (level < ATF_LEVEL_CALLS || level > ATF_LEVEL_ARGS) {
        PyErr_Format(PyExc_ValueError, "level %d: choose 1 (calls), 2 (returns), 3 (c) or 4 (args)", level);
        return -1;
    }
    if (atf_filter_check(include, "include") < 0 || atf_filter_check(exclude, "exclude") < 0) return -1;
    if (PyThreadState_Get()->interp != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_RuntimeError, "only the main interpreter can be recorded; start from there");
        return -1;
    }
    int changed = filters_changed(include, exclude);
    if (changed < 0 || atf_codes_start() < 0) return -1;
    Py_INCREF(include);
    Py_INCREF(exclude);
    atf_vm.include = include;
    atf_vm.exclude = exclude;
    atf_vm.returns = level >= ATF_LEVEL_RETURNS;
    atf_vm.c = level == ATF_LEVEL_C || (atf_vm.returns && (options & ATF_VM_C));
    atf_vm.args = level == ATF_LEVEL_ARGS || (options & ATF_VM_ARGS);
    atf_vm.repr = !!(options & ATF_VM_REPR);
    atf_vm.timed = !!(options & ATF_VM_TIMED);
    atf_level_begin();
    atf_vm.epoch++;
    if (start_hooks(changed) < 0) {
        atf_vm.mechanism = ATF_NONE;
        Py_CLEAR(atf_vm.include);
        Py_CLEAR(atf_vm.exclude);
        return -1;
    }
    atf_session_stopped = session_stopped;
    atf_level_changed = atf_level_set;
    /* A thread that writes its first event later is told by the producer; this one may have written some already. */
    if (atf_self && atf_self->live && atf_thread_started) atf_thread_started(atf_self);
    return 0;
}

int atf_vm_stop(void)
{
    int result = 0;
    if (!atf_vm.mechanism) return 0;
    atf_thread_started = NULL;
    atf_session_stopped = NULL;
    atf_level_changed = NULL;
#if PY_VERSION_HEX >= 0x030C0000
    result = atf_monitoring_stop();
#else
    if (atf_vm.mechanism == ATF_PROFILE) atf_profile_stop();
    atf_eval_frame_stop(); /* after a switch to the profile hook there is still something to let go */
#endif
    atf_vm.mechanism = ATF_NONE;
    atf_vm.key = ATF_NO_KEY;
    atf_vm.epoch++;
    forget_filters();
    return result;
}

void atf_vm_forked(void)
{
    atf_error error = atf_error_save();
    atf_vm_stop();
    atf_error_restore(error);
}

const char *atf_vm_mechanism(void)
{
    static const char *const names[] = {"", "sys.monitoring", "eval frame", "profile"};
    return names[atf_vm.mechanism];
}
