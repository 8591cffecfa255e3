"""One decision: what was decided, by whom, when and why; its fields, checked, and its identity."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import os
from collections.abc import Mapping
from types import MappingProxyType

from atf._core import traceparent as w3c
from atf._core.errors import InvalidType, InvalidValue
from atf._core.moments cimport Duration, Timestamp
from atf._core.severity import Severity

cdef extern from "Python.h":
    const uint8_t *PyUnicode_1BYTE_DATA(object text)
    str PyUnicode_New(Py_ssize_t length, Py_UCS4 most)

cdef extern from "clock.h" nogil:
    int CLOCK_BOOTTIME
    uint64_t atf_clock_ns(int clock)

cdef extern from "identity.h" nogil:
    uint64_t atf_identity_high
    bint atf_identity_known()
    void atf_identity_set(uint64_t hash, uint32_t pid)
    uint64_t atf_identity_next()
    uint32_t atf_thread_id()
    void atf_identity_text(uint64_t high, uint64_t low, char *out)

_SEVERITIES = tuple(Severity(n) for n in range(4))
_TITLES = {s.name.title(): s for s in _SEVERITIES}
cdef dict _NOTHING = {}  # one for all that have none


# ---------------------------------------------------------------- identity
cdef int _know() except -1:
    """The first event of a process, or of a forked child."""
    cdef uint64_t h = 0xCBF29CE484222325, prime = 0x100000001B3  # FNV-1a
    cdef uint8_t byte
    said = []
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/stat"):
        try:
            with open(path, "rb") as file:
                said.append(file.read())
        except OSError:
            said.append(os.urandom(16))
    try:
        said.append(os.readlink("/proc/self/ns/pid").encode())
    except OSError:
        pass
    said.append(str(atf_clock_ns(CLOCK_BOOTTIME)).encode())  # a program that replaces itself by exec keeps its pid and its start
    said[1] = said[1].rpartition(b")")[2].split()[19] if said[1][:1].isdigit() and b")" in said[1] else said[1]
    for byte in b" ".join(said):
        h = (h ^ byte) * prime
    atf_identity_set(h >> 16, os.getpid())
    return 0


def know_this_process():
    """Find out now what the first event would have to."""
    if not atf_identity_known():
        _know()


cdef int give_id(TraceEvent e) except -1:
    if not atf_identity_known():
        _know()
    e.id_high = atf_identity_high
    e.id_low = atf_identity_next()
    return 0


cdef str id_text(uint64_t high, uint64_t low):
    cdef str text = PyUnicode_New(36, 127)
    atf_identity_text(high, low, <char *>PyUnicode_1BYTE_DATA(text))
    return text


cdef int id_parsed(text, uint64_t *high, uint64_t *low) except -1:
    cdef str digits
    given = text
    if not isinstance(text, str):
        text = getattr(text, "hex", None)  # uuid.UUID
    if not isinstance(text, str):
        raise InvalidType(f"an event_id is a UUID or its text, not {type(given).__name__}")
    digits = text.replace("-", "").lower()
    if len(digits) != 32 or not _is_hex(digits):
        raise InvalidValue(f"event_id {text!r}: it is a UUID, 32 hexadecimal digits")
    high[0] = int(digits[:16], 16)
    low[0] = int(digits[16:], 16)
    return 0


cdef uint32_t own_thread() noexcept:
    return atf_thread_id()


# ---------------------------------------------------------------- what is taken
cdef str _text(value, str what):
    if type(value) is str:
        return <str>value
    if isinstance(value, str):
        return str.__str__(value)
    raise InvalidType(f"{what} is a str, not {type(value).__name__}")


cdef str _named(value, str what):
    cdef str text = _text(value, what)
    if not text:
        raise InvalidValue(f"{what} is empty: an event says what happened (event_type) and where (component)")
    return text


cdef bint _is_hex(str text):
    cdef Py_UCS4 c
    for c in text:
        if not (u"0" <= c <= u"9" or u"a" <= c <= u"f"):
            return False
    return True


cdef str _hex(value, Py_ssize_t digits, str what):
    cdef str text = _text(value, what)
    if text and (len(text) != digits or not _is_hex(text) or not text.strip("0")):
        raise InvalidValue(f"{what} {text!r}: it is {digits} hexadecimal digits in lower case, not all zeros")
    return text


cdef object _severity(value):
    if type(value) is Severity:
        return value
    if isinstance(value, str):
        found = _TITLES.get(value.title())
        if found is None:
            raise InvalidValue(f"severity {value!r}: choose from {', '.join(_TITLES)}")
        return found
    if type(value) is int:
        if 0 <= value <= 3:
            return _SEVERITIES[value]
        raise InvalidValue(f"severity {value}: it is from 0 (Info) to 3 (Critical)")
    raise InvalidType(f"a severity is a Severity, not {type(value).__name__}")


cdef int64_t _moment(value) except -1:
    if value is None:
        return <int64_t>atf_clock_ns(CLOCK_BOOTTIME)
    if type(value) is Timestamp:
        return (<Timestamp>value).ns
    if type(value) is Duration:
        raise InvalidType("a timestamp is a Timestamp or an int of nanoseconds, not a Duration")
    return (<Timestamp>Timestamp(value)).ns


cdef int64_t _length(value) except -1:
    cdef int64_t ns
    if type(value) is Timestamp:
        raise InvalidType("a duration is a Duration or an int of nanoseconds, not a Timestamp")
    ns = (<Duration>value).ns if type(value) is Duration else (<Duration>Duration(value)).ns
    if ns < 0:
        raise InvalidValue(f"a duration of {ns} ns: nothing takes less than no time")
    return ns


cdef dict _attributes(value):
    """A copy: what the caller does with its own later is not in the event."""
    cdef dict kept
    cdef bint exact = True
    if value is None:
        return _NOTHING
    if type(value) is dict:
        kept = (<dict>value).copy()
    elif isinstance(value, Mapping):
        kept = dict(value)
    else:
        raise InvalidType(f"attributes are a mapping of str to str, not {type(value).__name__}")
    for key, item in kept.items():
        if type(key) is not str or type(item) is not str:
            if not isinstance(key, str):
                raise InvalidType(f"attribute {key!r}: a key is a str, not {type(key).__name__}")
            if not isinstance(item, str):
                raise InvalidType(f"attribute {key!r}: a value is a str, not {type(item).__name__}: str() tells how it is to be written")
            exact = False
    return kept if exact else {str.__str__(key): str.__str__(item) for key, item in kept.items()}


cdef int fill(TraceEvent e, event_type, component, rationale, model_id, request_id, severity, timestamp, duration, attributes,
              decision_chain_id, parent_id, trace_id, span_id, traceparent) except -1:
    """All but the identity, checked."""
    e.event_type = _named(event_type, "event_type")
    e.component = _named(component, "component")
    e.rationale = _text(rationale, "rationale")
    e.model_id = _text(model_id, "model_id")
    e.request_id = _text(request_id, "request_id")
    e.decision_chain_id = _text(decision_chain_id, "decision_chain_id")
    e.parent_id = _text(parent_id, "parent_id")
    e.severity = _severity(severity)
    e.timestamp_ns = _moment(timestamp)
    e.duration_ns = 0 if duration is None else _length(duration)
    e.said = _attributes(attributes)
    if traceparent is not None:
        given = traceparent if isinstance(traceparent, w3c.TraceParent) else w3c.parse(traceparent)
        trace_id, span_id = trace_id or given.trace_id, span_id or given.span_id
    e.trace_id = _hex(trace_id, 32, "trace_id")
    e.span_id = _hex(span_id, 16, "span_id")
    return 0


def _rebuilt(state):
    """What pickle calls."""
    return TraceEvent(**state)


@cython.final
@cython.no_gc  # what it holds are texts, a dict of texts and a Severity: never a cycle
@cython.freelist(64)
cdef class TraceEvent:
    def __init__(self, event_type, component, rationale="", *, timestamp=None, duration=None, model_id="", request_id="",
                 severity=Severity.INFO, attributes=None, event_id=None, decision_chain_id="", parent_id="", trace_id="", span_id="",
                 traceparent=None, timestamp_ns=None, duration_ns=None):
        if (timestamp is not None and timestamp_ns is not None) or (duration is not None and duration_ns is not None):
            raise InvalidValue("timestamp and timestamp_ns, duration and duration_ns are two names of one: give one of both")
        fill(self, event_type, component, rationale, model_id, request_id, severity, timestamp if timestamp_ns is None else timestamp_ns,
             duration if duration_ns is None else duration_ns, attributes, decision_chain_id, parent_id, trace_id, span_id, traceparent)
        if event_id is None:
            give_id(self)
        else:
            id_parsed(event_id, &self.id_high, &self.id_low)

    @property
    def event_id(self):
        return id_text(self.id_high, self.id_low)

    @property
    def timestamp(self):
        cdef Timestamp made = Timestamp.__new__(Timestamp)
        made.ns = self.timestamp_ns
        return made

    @property
    def duration(self):
        cdef Duration made = Duration.__new__(Duration)
        made.ns = self.duration_ns
        return made

    @property
    def attributes(self):
        return MappingProxyType(self.said)

    def to_dict(self):
        found = {
            "event_id": self.event_id, "event_type": self.event_type, "component": self.component, "timestamp_ns": self.timestamp_ns,
            "duration_ns": self.duration_ns, "model_id": self.model_id, "request_id": self.request_id, "rationale": self.rationale,
            "severity": self.severity.name.title(), "attributes": dict(self.said),
        }
        if self.decision_chain_id: found["decision_chain_id"] = self.decision_chain_id
        if self.parent_id: found["parent_id"] = self.parent_id
        if self.trace_id: found["trace_id"] = self.trace_id
        if self.span_id: found["span_id"] = self.span_id
        return found

    @staticmethod
    def from_dict(values):
        return TraceEvent(**values)

    def replace(self, **changes):
        values = self.to_dict()
        for name in ("timestamp", "duration"):
            if name in changes:
                del values[f"{name}_ns"]
        values.update(changes)
        return TraceEvent(**values)

    def __eq__(self, other):
        cdef TraceEvent o
        if type(other) is not TraceEvent:
            return NotImplemented
        o = other
        return (
            self.id_high == o.id_high and self.id_low == o.id_low and self.timestamp_ns == o.timestamp_ns and self.duration_ns == o.duration_ns
            and self.severity is o.severity and self.event_type == o.event_type and self.component == o.component
            and self.model_id == o.model_id and self.request_id == o.request_id and self.rationale == o.rationale
            and self.decision_chain_id == o.decision_chain_id and self.parent_id == o.parent_id and self.trace_id == o.trace_id
            and self.span_id == o.span_id and self.said == o.said
        )

    def __hash__(self):
        return hash((self.id_high, self.id_low))

    def __repr__(self):
        more = "".join(
            f", {name}={value!r}" for name, value in self.to_dict().items()
            if value and name not in ("event_id", "event_type", "component") and (name, value) != ("severity", "Info")
        )
        return f"TraceEvent({self.event_type!r}, {self.component!r}{more})"

    def __reduce__(self):
        return _rebuilt, (self.to_dict(),)
