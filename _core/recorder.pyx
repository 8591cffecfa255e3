"""The producing half in this process: the session it writes to, its Python hooks, and the user's own spans and events."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

import sys

from atf._core.errors import InjectionError, SessionError, UsageError
from atf._core.shm cimport ATF_NAME_FUNCTION, ATF_NAME_MODULE, Segments, atf_slot_name_put

cdef extern from "format.h":
    enum:
        ATF_D_EVENT

from atf._core.layout cimport ATF_CALL, ATF_EXCEPTION, ATF_INSTANT, ATF_NO_DETAIL, ATF_RETURN

cdef Segments _segments = None
cdef dict _ids = {}          # name -> function id, of this session
cdef uint32_t _ids_serial = 0


def open_session(Segments segments):
    """Let the producers of this process write to these segments."""
    global _segments
    atf_session_open(segments.control, segments.registry, segments.rings)
    _segments = segments


def close_session():
    """Retire every thread of this process; nothing is written after this."""
    global _segments
    atf_session_close()
    _segments = None


def is_open():
    """Whether this process has a session to write to."""
    return atf_current.control != NULL


cdef uint64_t _intern(name) except 0:
    """The function id of one of the user's own names: module 0, numbered from 1 in a session."""
    global _ids_serial
    if _ids_serial != atf_current.serial:
        _ids.clear()
        _ids_serial = atf_current.serial
        atf_name_put(ATF_NAME_MODULE, 0, 0, "user", 4, "", 0)
    if type(name) is not str:
        raise UsageError(f"the name of a span or event is a str, not {type(name).__name__}")
    cdef bytes text = (<str>name).encode("utf-8", "replace")
    cdef uint64_t identifier = <uint64_t>len(_ids) + 1
    atf_name_put(ATF_NAME_FUNCTION, identifier, 0, text, len(text), "", 0)
    _ids[name] = identifier
    return identifier


cdef inline uint64_t _id(name) except 0:
    if _ids_serial == atf_current.serial:
        found = _ids.get(name)
        if found is not None:
            return found
    return _intern(name)


def record(uint32_t kind, uint64_t function_id):
    """Write one bare record: the floor of what a Python-side producer pays."""
    cdef atf_thread *t = atf_enter()
    if t != NULL:
        atf_write(t, kind, function_id, t.depth, ATF_NO_DETAIL)


cdef extern from "vm/values.h":
    ctypedef struct atf_values:
        uint8_t bytes[1]
    void atf_values_start(atf_values *v) noexcept
    uint32_t atf_values_size(const atf_values *v) noexcept
    void atf_put_map(atf_values *v, uint32_t count) noexcept
    void atf_put_text(atf_values *v, const char *text) noexcept
    void atf_put_str(atf_values *v, object text) noexcept
    void atf_put_value(atf_values *v, object value, int depth) noexcept

cdef extern from "vm/hooks.h":
    enum:
        ATF_VM_C, ATF_VM_ARGS, ATF_VM_REPR, ATF_VM_TIMED, ATF_LEVEL_CALLS, ATF_LEVEL_RETURNS
    int atf_vm_start(int level, object included, object excluded, int options) except -1
    int atf_vm_stop() except -1
    void atf_vm_forked()
    const char *atf_vm_mechanism()
    void atf_write_exception(atf_thread *t, uint64_t word, uint32_t depth, void *exception, void *type, void *value) noexcept

LEVEL_CALLS, LEVEL_RETURNS, LEVEL_C, LEVEL_ARGS, LEVEL_REPR = 1, 2, 4, 8, 16


def start_hooks(int level, tuple included, tuple excluded, bint timed=False):
    """Put the Python hooks in place: bits of LEVEL_*, globs on module names. timed: the time that values take is counted (Segments.capture_ns).
    UsageError, or RuntimeError when they are taken."""
    cdef int options = ATF_VM_TIMED if timed else 0
    if level & LEVEL_C:
        options |= ATF_VM_C
    if level & LEVEL_ARGS:
        options |= ATF_VM_ARGS
    if level & LEVEL_REPR:
        options |= ATF_VM_REPR
    try:
        atf_vm_start(ATF_LEVEL_CALLS if level == LEVEL_CALLS else ATF_LEVEL_RETURNS, included, excluded, options)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    except RuntimeError as error:
        raise SessionError(str(error)) from error


def stop_hooks(forked=False):
    """Take the Python hooks out; in a forked child (forked=True) without writing anything."""
    if forked:
        atf_vm_forked()
    else:
        atf_vm_stop()


def mechanism():
    """How Python calls are seen: "sys.monitoring", "eval frame", "profile", or "" when not at all."""
    return atf_vm_mechanism().decode()


cdef extern from "joint.h":
    int atf_joint_load(const char *agent, const char *plan, char *why, uint32_t why_bytes)
    void atf_joint_begin(int returns)


def join(bytes agent, bytes plan):
    """Bring the native agent into this process: both sides write one lane from now on. Before open_session; followed by joined."""
    cdef char why[512]
    why[0] = 0
    cdef int error = atf_joint_load(agent, plan, why, sizeof(why))
    if error == -1:
        raise InjectionError(f"the native agent cannot be loaded: {why.decode('utf-8', 'replace')}")
    if error:
        raise InjectionError(f"the native agent did not start (error {error} of its plan)")


def joined(int level):
    """The hooks are in place: what this thread calls is recorded natively from here on."""
    atf_joint_begin(level != LEVEL_CALLS)


cdef uint32_t _attributes_detail(atf_thread *t, name, dict attributes, uint64_t ticks):
    """The attributes as a detail of the record that is written next."""
    cdef atf_values v
    atf_values_start(&v)
    atf_put_map(&v, 2)
    atf_put_text(&v, "name")
    atf_put_str(&v, name)
    atf_put_text(&v, "attributes")
    atf_put_value(&v, attributes, 0)
    return atf_detail(t, ATF_D_EVENT, v.bytes, atf_values_size(&v), ticks)


@cython.final
@cython.freelist(64)
cdef class Span:
    """``with Span(name, /, **attributes):`` writes a CALL and a RETURN of the user's own name, or an EXCEPTION when an
    exception leaves it. The attributes stand in the CALL's detail. Without a recording it does nothing. Entering it again is allowed.
    """
    cdef object _name
    cdef dict _attributes

    def __init__(self, name, /, **attributes):
        if type(name) is not str:
            raise UsageError(f"the name of a span or event is a str, not {type(name).__name__}")
        self._name = name
        self._attributes = attributes if attributes else None

    def __enter__(self):
        cdef atf_thread *t = atf_enter()
        cdef uint64_t ticks
        cdef uint32_t detail = ATF_NO_DETAIL
        cdef uint64_t identifier
        if t != NULL:
            identifier = _id(self._name)
            ticks = atf_ticks(t.clock_type)
            if self._attributes is not None:
                detail = _attributes_detail(t, self._name, self._attributes, ticks)
            t.depth += 1
            atf_write_at(t, ticks, ATF_CALL, identifier, t.depth, detail)
        return self

    def __exit__(self, kind, value, traceback):
        cdef atf_thread *t = atf_enter()
        cdef uint32_t depth
        if t != NULL:
            depth = t.depth if t.depth else 1
            t.depth = depth - 1
            if kind is None:
                atf_write(t, ATF_RETURN, _id(self._name), depth, ATF_NO_DETAIL)
            else:
                atf_write_exception(t, _id(self._name) << 4, depth, <void *>value, NULL, NULL)
        return False


def event(name, /, **attributes):
    """Write one INSTANT of the user's own name, with its attributes as a detail. Without a recording it does nothing."""
    cdef atf_thread *t = atf_enter()
    cdef uint64_t identifier, ticks
    cdef uint32_t detail = ATF_NO_DETAIL
    if t == NULL:
        if type(name) is not str:
            raise UsageError(f"the name of a span or event is a str, not {type(name).__name__}")
        return
    identifier = _id(name)
    ticks = atf_ticks(t.clock_type)
    if attributes:
        detail = _attributes_detail(t, name, attributes, ticks)
    atf_write_at(t, ticks, ATF_INSTANT, identifier, t.depth, detail)


cdef bint is_recording() noexcept:
    """Whether write_event would write."""
    return atf_enter() != NULL


cdef int write_event(name, const uint8_t *detail, uint32_t bytes) except -1:
    """The same with a detail that is packed already: {"name", "attributes"}."""
    cdef atf_thread *t = atf_enter()
    cdef uint64_t identifier, ticks
    if t != NULL:
        identifier = _id(name)
        ticks = atf_ticks(t.clock_type)
        atf_write_at(t, ticks, ATF_INSTANT, identifier, t.depth, atf_detail(t, ATF_D_EVENT, detail, bytes, ticks))
    return 0


def kept_event(name, /, **attributes):
    """The same, for what must not be lost: past the rings, which give their oldest away under overload."""
    cdef atf_thread *t = atf_enter()
    cdef atf_event one
    if t == NULL:
        return
    one.timestamp_ns = atf_ticks(t.clock_type)
    one.function_id = _id(name)
    one.thread_id = t.tid
    one.event_kind = ATF_INSTANT
    one.call_depth = t.depth
    one.detail_seq = _attributes_detail(t, name, attributes, one.timestamp_ns)
    atf_write_kept(t, &one)


# A thread's name stands in the Thread object; at its first event the thread may not be listed yet, but the outermost
# frame is Thread._bootstrap, whose first variable is that object. Runs no code of the program's.
cdef extern from "Python.h":
    ctypedef struct PyFrameObject
    PyFrameObject *PyEval_GetFrame()
    object PyObject_GenericGetAttr(object o, object name)
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *traceback)

import _thread
_get_ident = _thread.get_ident


cdef str _thread_name():
    threading = sys.modules.get("threading")
    if threading is None:
        return ""
    thread = (<dict>threading._active).get(_get_ident())
    cdef PyFrameObject *top
    if thread is None:
        top = PyEval_GetFrame()
        if top == NULL:
            return ""
        frame = <object>top
        while frame.f_back is not None:
            frame = frame.f_back
        if frame.f_code.co_name != "_bootstrap":
            return ""
        thread = frame.f_locals.get("self")
    name = PyObject_GenericGetAttr(thread, "_name")
    return name if type(name) is str else ""


cdef void _on_thread(atf_thread *t) noexcept:
    """At a thread's first event, which may be one that an exception is on its way through: that stays as it is."""
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    cdef bytes text
    PyErr_Fetch(&kind, &value, &traceback)
    try:
        text = _thread_name().encode("utf-8", "replace")[:47]
        if t.slot != NULL:
            atf_slot_name_put(t.slot, text, len(text))
    except Exception:
        pass
    PyErr_Restore(kind, value, traceback)


atf_thread_named = _on_thread
