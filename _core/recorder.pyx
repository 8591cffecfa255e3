"""The producing half in this process: the session it writes to, its Python hooks, and the user's own spans and events."""

cimport cython
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen, strncpy

import sys

from atf._core.errors import UsageError
from atf._core.shm cimport ATF_NAME_FUNCTION, ATF_NAME_MODULE, Segments
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


LEVEL_CALLS, LEVEL_RETURNS, LEVEL_C, LEVEL_ARGS = 1, 2, 4, 8


def start_hooks(int level, included, excluded):
    pass


def stop_hooks(forked=False):
    pass


@cython.final
@cython.freelist(64)
cdef class Span:
    """``with Span(name, **attributes):`` writes a CALL and a RETURN (or an EXCEPTION) of the user's own name."""
    cdef uint64_t _id
    cdef dict _attributes

    def __init__(self, name, **attributes):
        self._id = _id(name)
        self._attributes = attributes

    def __enter__(self):
        cdef atf_thread *t = atf_enter()
        if t != NULL:
            t.depth += 1
            atf_write(t, ATF_CALL, self._id, t.depth, ATF_NO_DETAIL)
        return self

    def __exit__(self, kind, value, traceback):
        cdef atf_thread *t = atf_enter()
        if t != NULL:
            atf_write(t, ATF_RETURN if kind is None else ATF_EXCEPTION, self._id, t.depth, ATF_NO_DETAIL)
            if t.depth:
                t.depth -= 1
        return False


def event(name, /, **attributes):
    """Write one INSTANT of the user's own name."""
    cdef atf_thread *t = atf_enter()
    if t != NULL:
        atf_write(t, ATF_INSTANT, _id(name), t.depth, ATF_NO_DETAIL)
