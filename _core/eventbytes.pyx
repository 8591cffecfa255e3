"""TraceEvents as bytes: packed for the lane and for the trace, searched in place, and made again."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

from atf._core.errors import InvalidValue
from atf._core.severity import Severity
from atf._core.traceevent cimport TraceEvent, id_text

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    const uint8_t *PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GetLength(object text) except -1
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t bytes, const char *errors)

cdef extern from "producer.h":
    enum:
        ATF_DETAIL_MAX

MOST_BYTES = 1 << 20  # of one event, all its texts together
cdef uint32_t _MOST_BYTES = MOST_BYTES
_SEVERITIES = tuple(Severity(n) for n in range(4))
cdef dict _NOTHING = {}  # one for all events without attributes


cdef void packed_start(Packed *p) noexcept:
    p.bytes = p.stack
    p.used = 0
    p.room = sizeof(p.stack)
    p.surrogates = False


cdef void packed_free(Packed *p) noexcept:
    if p.bytes != p.stack:
        free(p.bytes)


cdef int _grow(Packed *p, size_t more) except -1:
    cdef size_t room = 2 * (p.used + more)
    cdef uint8_t *grown
    if p.used + more > _MOST_BYTES:
        raise InvalidValue(f"an event of more than {_MOST_BYTES} bytes of text: keep what is long elsewhere, and name it here")
    grown = <uint8_t *>(malloc(room) if p.bytes == p.stack else realloc(p.bytes, room))
    if grown == NULL:
        raise MemoryError
    if p.bytes == p.stack:
        memcpy(grown, p.stack, p.used)
    p.bytes = grown
    p.room = <uint32_t>room
    return 0


cdef inline uint8_t *_need(Packed *p, size_t more) except NULL:
    if p.used + more > p.room:
        _grow(p, more)
    return p.bytes + p.used


cdef inline void _put_big(uint8_t *at, uint64_t value, int bytes) noexcept:
    cdef int i
    for i in range(bytes):
        at[i] = <uint8_t>(value >> (8 * (bytes - 1 - i)))


cdef inline uint32_t _big32(const uint8_t *at) noexcept:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


cdef int _put(Packed *p, const uint8_t *text, size_t n) except -1:
    cdef uint8_t *at = _need(p, n + 5)
    cdef uint8_t *begin = at
    if n < 32:
        at[0] = <uint8_t>(0xA0 | n)
        at += 1
    elif n < 256:
        at[0] = 0xD9
        at[1] = <uint8_t>n
        at += 2
    else:
        at[0] = 0xDB
        _put_big(at + 1, n, 4)
        at += 5
    memcpy(at, text, n)
    p.used += <uint32_t>(at - begin + n)
    return 0


cdef int _pack_short(Packed *p, atf_short text) except -1:
    memcpy(_need(p, text.bytes), text.packed, text.bytes)
    p.used += text.bytes
    return 0


cdef int _pack_text(Packed *p, str text, Py_ssize_t most) except -1:
    """most: characters, beyond which it is cut; 0: never."""
    cdef bytes encoded
    cdef Py_ssize_t length = PyUnicode_GetLength(text)
    if most and length > most:
        text = text[:most] + "…"
    elif PyUnicode_IS_ASCII(text):
        if length > _MOST_BYTES:
            _grow(p, length)
        return _put(p, PyUnicode_1BYTE_DATA(text), length)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        encoded = text.encode("utf-8", "surrogatepass")
        p.surrogates = True
    return _put(p, encoded, len(encoded))


cdef inline int _pack_field(Packed *p, int field, str text, Py_ssize_t most, uint32_t *count) except -1:
    if text:
        _pack_short(p, atf_decision_keys[field])
        _pack_text(p, text, most)
        count[0] += 1
    return 0


cdef int _pack_ns(Packed *p, int field, uint64_t ns) except -1:
    cdef uint8_t *at
    _pack_short(p, atf_decision_keys[field])
    at = _need(p, 9)
    at[0] = 0xCF
    _put_big(at + 1, ns, 8)
    p.used += 9
    return 0


cdef int _pack_attributes(Packed *p, dict attributes, Py_ssize_t most) except -1:
    cdef uint32_t start, count = 0
    _pack_short(p, atf_decision_keys[ATF_F_ATTRIBUTES])
    start = p.used
    _need(p, 5)
    p.used += 5
    for key, item in attributes.items():
        if most and p.used > 4096:
            _pack_text(p, "…", 0)
            _pack_text(p, str(len(attributes)), 0)
            count += 1
            break
        _pack_text(p, key, most)
        _pack_text(p, item, most)
        count += 1
    p.bytes[start] = 0xDF
    _put_big(p.bytes + start + 1, count, 4)
    return 0


cdef int pack_event(Packed *p, TraceEvent e, Py_ssize_t most) except -1:
    """A map of its fields behind what is there; most: see pack_text. Its head is 0xDE and two bytes of the count."""
    cdef uint32_t start = p.used, count = 3
    _need(p, 3)
    p.used += 3
    _pack_field(p, ATF_F_TYPE, e.event_type, most, &count)
    _pack_field(p, ATF_F_COMPONENT, e.component, most, &count)
    _pack_short(p, atf_decision_keys[ATF_F_SEVERITY])
    _pack_short(p, atf_decision_severities[<int>e.severity])
    _pack_ns(p, ATF_F_TIMESTAMP, <uint64_t>e.timestamp_ns)
    _pack_ns(p, ATF_F_DURATION, <uint64_t>e.duration_ns)
    _pack_field(p, ATF_F_MODEL, e.model_id, most, &count)
    _pack_field(p, ATF_F_REQUEST, e.request_id, most, &count)
    _pack_field(p, ATF_F_RATIONALE, e.rationale, most, &count)
    _pack_field(p, ATF_F_CHAIN, e.decision_chain_id, most, &count)
    _pack_field(p, ATF_F_PARENT, e.parent_id, most, &count)
    _pack_field(p, ATF_F_TRACE, e.trace_id, most, &count)
    _pack_field(p, ATF_F_SPAN, e.span_id, most, &count)
    if e.said:
        _pack_attributes(p, e.said, most)
        count += 1
    p.bytes[start] = 0xDE
    p.bytes[start + 1] = 0
    p.bytes[start + 2] = <uint8_t>count
    return 0


cdef TraceEvent _without_surrogates(TraceEvent e):
    def whole(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    cdef TraceEvent made = TraceEvent.__new__(TraceEvent)
    made.id_high, made.id_low, made.severity = e.id_high, e.id_low, e.severity
    made.timestamp_ns, made.duration_ns = e.timestamp_ns, e.duration_ns
    made.event_type, made.component = whole(e.event_type), whole(e.component)
    made.model_id, made.request_id, made.rationale = whole(e.model_id), whole(e.request_id), whole(e.rationale)
    made.decision_chain_id, made.parent_id = whole(e.decision_chain_id), whole(e.parent_id)
    made.trace_id, made.span_id = e.trace_id, e.span_id
    made.said = {whole(key): whole(item) for key, item in e.said.items()}
    return made


cdef int pack_for_trace(Packed *p, Packed *event, TraceEvent e, str name) except -1:
    """The detail of an event of this name: {"name", "attributes"}, the attributes being what was packed for the lane and the event's id. What
    a detail has no room for is cut, texts first."""
    cdef uint32_t at
    cdef Py_ssize_t most
    for most in (0, 1024, 256, 64):
        p.used = 0
        _pack_short(p, atf_decision_name)
        _pack_text(p, name, most)
        _pack_short(p, atf_decision_keys[ATF_F_ATTRIBUTES])
        at = p.used
        if most or event.surrogates:
            pack_event(p, _without_surrogates(e) if event.surrogates else e, most)
        else:
            memcpy(_need(p, event.used), event.bytes, event.used)
            p.used += event.used
        p.bytes[at + 2] += 1
        _pack_short(p, atf_decision_id)
        _pack_text(p, id_text(e.id_high, e.id_low), 0)
        if p.used <= ATF_DETAIL_MAX:
            break
    return 0


cdef const uint8_t *_read(const uint8_t *at, Span *s) noexcept:
    """One value: text, a number (its span is empty), or the attributes (their span begins at the first key)."""
    cdef uint32_t n, i
    if at[0] == 0xCF:
        s.text, s.bytes = at, 0
        return at + 9
    if at[0] == 0xDF:
        n = _big32(at + 1)
        s.text, s.bytes = at + 5, n
        return NULL
    if at[0] == 0xD9:
        n = at[1]
        at += 2
    elif at[0] == 0xDB:
        n = _big32(at + 1)
        at += 5
    else:
        n = at[0] & 0x1F
        at += 1
    s.text, s.bytes = at, n
    return at + n


cdef int spans_of(const uint8_t *bytes, Span *spans) noexcept:
    """Where the fields stand in what pack_event wrote."""
    cdef int field = 0, count = bytes[2]
    cdef const uint8_t *at = bytes + 3
    cdef Span key
    for field in range(ATF_FIELDS):
        spans[field].text, spans[field].bytes = NULL, 0
    field = 0
    while count:
        at = _read(at, &key)
        while field < ATF_FIELDS and (
            atf_decision_keys[field].bytes != key.bytes + 1 or memcmp(atf_decision_keys[field].packed + 1, key.text, key.bytes) != 0
        ):
            field += 1
        if field == ATF_FIELDS:
            return -1
        at = _read(at, &spans[field])
        count -= 1
    return 0


cdef inline str _str(Span s):
    return PyUnicode_DecodeUTF8(<const char *>s.text, s.bytes, "surrogatepass") if s.bytes else ""


cdef TraceEvent unpack(const atf_decision *head, Span *spans):
    cdef TraceEvent e = TraceEvent.__new__(TraceEvent)
    cdef const uint8_t *at = spans[ATF_F_ATTRIBUTES].text
    cdef uint32_t i
    cdef Span one
    e.id_high, e.id_low = head.id_high, head.id_low
    e.timestamp_ns, e.duration_ns = <int64_t>head.event.timestamp_ns, <int64_t>head.duration_ns
    e.severity = _SEVERITIES[head.event.call_depth]
    e.event_type, e.component = _str(spans[ATF_F_TYPE]), _str(spans[ATF_F_COMPONENT])
    e.model_id, e.request_id, e.rationale = _str(spans[ATF_F_MODEL]), _str(spans[ATF_F_REQUEST]), _str(spans[ATF_F_RATIONALE])
    e.decision_chain_id, e.parent_id = _str(spans[ATF_F_CHAIN]), _str(spans[ATF_F_PARENT])
    e.trace_id, e.span_id = _str(spans[ATF_F_TRACE]), _str(spans[ATF_F_SPAN])
    e.said = _NOTHING
    if at != NULL:
        e.said = {}
        for i in range(spans[ATF_F_ATTRIBUTES].bytes):
            at = _read(at, &one)
            key = _str(one)
            at = _read(at, &one)
            e.said[key] = _str(one)
    return e
