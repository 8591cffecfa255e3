"""The lane of a TraceCollector: events go in from any thread, the newest stay, and questions are answered from a copy.

In a recording session an event is also written into the rings of its thread, under the name ``decision:<event_type>``.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

import os

from atf._core import traceparent as w3c
from atf._core.errors import InvalidType, InvalidValue, SessionError
from atf._core.eventbytes cimport (
    ATF_F_CHAIN, ATF_F_COMPONENT, ATF_F_MODEL, ATF_F_REQUEST, ATF_F_TRACE, ATF_F_TYPE, ATF_FIELDS, Packed, Span, atf_decision,
    pack_event, pack_for_trace, packed_free, packed_start, spans_of, unpack,
)
from atf._core.layout cimport ATF_INSTANT, ATF_NO_DETAIL, atf_detail_record
from atf._core.recorder cimport is_recording, write_event
from atf._core.severity import Severity
from atf._core.traceevent import know_this_process
from atf._core.traceevent cimport TraceEvent, fill, give_id, id_parsed, id_text, own_thread

cdef extern from "format.h":
    enum:
        ATF_D_EVENT

cdef extern from "newest.h" nogil:
    enum:
        ATF_LINE
    ctypedef struct atf_newest:
        uint64_t capacity, refused
    ctypedef struct atf_copies:
        unsigned char *bytes
        uint64_t *offsets
        uint64_t events
    int atf_newest_open(atf_newest *l, uint64_t capacity)
    void atf_newest_close(atf_newest *l)
    int atf_newest_put(atf_newest *l, const void *head, uint32_t head_bytes, const void *body, uint32_t body_bytes)
    void atf_newest_clear(atf_newest *l)
    void atf_newest_range(const atf_newest *l, uint64_t *first, uint64_t *end)
    uint64_t atf_newest_pushed_out(const atf_newest *l)
    int atf_newest_copy(atf_newest *l, uint32_t pid, atf_copies *c)
    void atf_copies_free(atf_copies *c)
    uint64_t atf_load_relaxed64(const uint64_t *p)

cdef extern from "stdlib.h" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef extern from "unistd.h" nogil:
    int getpid()

NAME_PREFIX = "decision:"
cdef dict _names = {}  # event type -> name in a trace


cdef str _name(str event_type):
    name = _names.get(event_type)
    if name is None:
        name = NAME_PREFIX + event_type
        if len(_names) < 1024:
            _names[event_type] = name
    return name


cdef TraceEvent _of_trace(TraceEvent e, str trace_id, str span_id):
    """The same event, as part of a trace that began elsewhere."""
    cdef TraceEvent made = TraceEvent.__new__(TraceEvent)
    made.id_high, made.id_low, made.severity, made.said = e.id_high, e.id_low, e.severity, e.said
    made.timestamp_ns, made.duration_ns = e.timestamp_ns, e.duration_ns
    made.event_type, made.component, made.model_id, made.request_id = e.event_type, e.component, e.model_id, e.request_id
    made.rationale, made.decision_chain_id, made.parent_id = e.rationale, e.decision_chain_id, e.parent_id
    made.trace_id, made.span_id = trace_id, span_id
    return made


cdef class Lane:
    cdef atf_newest *lane
    cdef str trace_id, span_id
    cdef frozenset reasoned
    cdef readonly object traceparent

    def __init__(self, buffer_size=10000, *, require_rationale=("scheduling_decision",), traceparent=None):
        if isinstance(buffer_size, bool) or not isinstance(buffer_size, int):
            raise InvalidType(f"buffer_size is an int, not {type(buffer_size).__name__}")
        if buffer_size <= 0:
            raise InvalidValue(f"buffer_size {buffer_size}: a collector keeps one event at least")
        if self.lane != NULL:
            raise SessionError("this collector was made already")
        if isinstance(require_rationale, str):
            raise InvalidType("require_rationale is a collection of event types, not one str")
        self.reasoned = frozenset(require_rationale)
        self.traceparent = w3c.read(os.environ.get("TRACEPARENT", "")) if traceparent is None else w3c.parse(str(traceparent))
        self.trace_id, self.span_id = self.traceparent[:2] if self.traceparent is not None else ("", "")
        made = <atf_newest *>aligned_alloc(ATF_LINE, sizeof(atf_newest)) if buffer_size < 1 << 40 else NULL
        if made != NULL and not atf_newest_open(made, buffer_size):
            free(made)
            made = NULL
        if made == NULL:
            raise InvalidValue(f"buffer_size {buffer_size}: there is no memory for so many events")
        self.lane = made
        know_this_process()

    def __dealloc__(self):
        if self.lane != NULL:
            atf_newest_close(self.lane)
            free(self.lane)

    cdef int _check(self) except -1:
        if self.lane == NULL:
            raise SessionError("this collector was never made: call TraceCollector.__init__")
        return 0

    cdef int _put(self, TraceEvent e) except -1:
        """Into the lane, and into the trace while one is recorded."""
        cdef Packed p, detail
        cdef atf_decision head
        self._check()
        if not e.rationale and self.reasoned and e.event_type in self.reasoned:
            raise InvalidValue(f"an event {e.event_type!r} without a rationale: say why it was decided so (require_rationale of this collector)")
        packed_start(&p)
        try:
            pack_event(&p, e, 0)
            head.event.timestamp_ns = <uint64_t>e.timestamp_ns
            head.event.function_id = 0
            head.event.thread_id = own_thread()
            head.event.event_kind = ATF_INSTANT
            head.event.call_depth = <uint32_t>e.severity
            head.event.detail_seq = 0
            head.id_high, head.id_low, head.duration_ns = e.id_high, e.id_low, <uint64_t>e.duration_ns
            memset(&head.detail, 0, sizeof(head.detail))
            head.detail.total_length = <uint32_t>sizeof(head.detail) + p.used
            head.detail.event_type = ATF_D_EVENT
            head.detail.thread_id = head.event.thread_id
            head.detail.timestamp = head.event.timestamp_ns
            atf_newest_put(self.lane, &head, sizeof(head), p.bytes, p.used)
            if is_recording():
                packed_start(&detail)
                try:
                    name = _name(e.event_type)
                    pack_for_trace(&detail, &p, e, name)
                    write_event(name, detail.bytes, detail.used)
                finally:
                    packed_free(&detail)
        finally:
            packed_free(&p)
        return 0

    def record(self, event):
        cdef TraceEvent e
        if type(event) is not TraceEvent:
            raise InvalidType(f"a collector records a TraceEvent, not {type(event).__name__}")
        e = event
        if self.trace_id and not e.trace_id:
            e = _of_trace(e, self.trace_id, e.span_id or self.span_id)
        self._put(e)
        return id_text(e.id_high, e.id_low)

    def record_now(self, event_type, component, rationale="", *, model_id="", request_id="", severity=Severity.INFO, duration=None,
                   attributes=None, decision_chain_id="", parent_id="", trace_id="", span_id="", traceparent=None, duration_ns=None):
        cdef TraceEvent e = TraceEvent.__new__(TraceEvent)
        if duration_ns is not None:
            if duration is not None:
                raise InvalidValue("duration and duration_ns are two names of one: give one of both")
            duration = duration_ns
        fill(e, event_type, component, rationale, model_id, request_id, severity, None, duration, attributes, decision_chain_id, parent_id,
             trace_id, span_id, traceparent)
        if self.trace_id and not e.trace_id:
            e.trace_id = self.trace_id
            if not e.span_id:
                e.span_id = self.span_id
        give_id(e)
        self._put(e)
        return id_text(e.id_high, e.id_low)

    def size(self):
        cdef uint64_t first = 0, end = 0
        self._check()
        atf_newest_range(self.lane, &first, &end)
        return end - first

    def __len__(self):
        return self.size()

    def __bool__(self):
        return True

    def clear(self):
        self._check()
        atf_newest_clear(self.lane)

    @property
    def buffer_size(self):
        self._check()
        return self.lane.capacity

    @property
    def dropped(self):
        self._check()
        return atf_newest_pushed_out(self.lane)

    @property
    def refused(self):
        self._check()
        return atf_load_relaxed64(&self.lane.refused)

    def select(self, int64_t start_ns, int64_t end_ns, int min_severity, event_type=None, component=None, model_id=None, request_id=None,
               decision_chain_id=None, trace_id=None, any_request=None, event_id=None):
        cdef _Wanted wanted = _Wanted(start_ns, end_ns, min_severity)
        cdef atf_copies copies
        cdef atf_decision *head
        cdef Span spans[13]
        cdef uint64_t i, last = 0
        cdef int whole
        cdef bint in_order = True
        self._check()
        for field, value in ((ATF_F_TYPE, event_type), (ATF_F_COMPONENT, component), (ATF_F_MODEL, model_id), (ATF_F_REQUEST, request_id),
                             (ATF_F_CHAIN, decision_chain_id), (ATF_F_TRACE, trace_id)):
            wanted.text(field, value)
        wanted.identity(event_id, any_request)
        found = []
        with nogil:
            whole = atf_newest_copy(self.lane, <uint32_t>getpid(), &copies)
        try:
            if not whole:
                raise MemoryError("no memory for a copy of the collector's events")
            for i in range(copies.events, 0, -1):
                head = <atf_decision *>(copies.bytes + copies.offsets[i - 1] + 16)
                if wanted.takes(head, spans):
                    in_order = in_order and last <= head.event.timestamp_ns
                    last = head.event.timestamp_ns
                    found.append(unpack(head, spans))
        finally:
            atf_copies_free(&copies)
        if not in_order:
            found.sort(key=_when)
        return found


def _when(TraceEvent e):
    return e.timestamp_ns


cdef class _Wanted:
    """A filter, applied to the bytes of an event."""
    cdef int64_t start_ns, end_ns
    cdef int min_severity
    cdef Span texts[13]  # text NULL: any
    cdef Span any_request
    cdef bint by_id
    cdef uint64_t id_high, id_low
    cdef list kept  # what the spans point into

    def __init__(self, start_ns, end_ns, min_severity):
        self.start_ns, self.end_ns, self.min_severity, self.kept = start_ns, end_ns, min_severity, []

    cdef Span _span(self, value):
        cdef Span made
        cdef bytes encoded
        made.text, made.bytes = NULL, 0
        if value is not None:
            if not isinstance(value, str):
                raise InvalidType(f"a query asks for a str, not {type(value).__name__}")
            encoded = (<str>value).encode("utf-8", "surrogatepass")
            self.kept.append(encoded)
            made.text, made.bytes = encoded, <uint32_t>len(encoded)
        return made

    cdef int text(self, int field, value) except -1:
        self.texts[field] = self._span(value)
        return 0

    cdef int identity(self, event_id, any_request) except -1:
        """any_request: a request id, or a trace id."""
        self.by_id = event_id is not None
        if self.by_id:
            id_parsed(event_id, &self.id_high, &self.id_low)
        self.any_request = self._span(any_request)
        return 0

    cdef bint takes(self, atf_decision *head, Span *spans) noexcept:
        cdef int field
        if <int64_t>head.event.timestamp_ns < self.start_ns or <int64_t>head.event.timestamp_ns > self.end_ns:
            return False
        if <int>head.event.call_depth < self.min_severity:
            return False
        if self.by_id and (head.id_high != self.id_high or head.id_low != self.id_low):
            return False
        spans_of(<unsigned char *>head + sizeof(atf_decision), spans)
        for field in range(ATF_FIELDS):
            if self.texts[field].text != NULL and not _same(spans[field], self.texts[field]):
                return False
        if self.any_request.text == NULL or _same(spans[<int>ATF_F_REQUEST], self.any_request):
            return True
        return self.any_request.bytes == 32 and _same(spans[<int>ATF_F_TRACE], self.any_request)


cdef bint _same(Span a, Span b) noexcept:
    return a.bytes == b.bytes and (a.bytes == 0 or memcmp(a.text, b.text, a.bytes) == 0)
