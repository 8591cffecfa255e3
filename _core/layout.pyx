"""The numpy view of the records: dtypes derived from the C structs, and the names of kinds and reasons."""

import numpy

from atf._core.layout cimport atf_event, atf_index_header, atf_index_footer, atf_detail_header, atf_detail_record, atf_detail_footer

cdef atf_event _one_event

# Derived from the struct itself, so the two cannot drift apart.
EVENT_DTYPE = numpy.asarray(<atf_event[:1]>&_one_event).dtype

KINDS = {1: "call", 2: "return", 3: "exception", 4: "instant", 5: "yield", 6: "resume", 7: "signal", 8: "gap"}
GAP_REASONS = {1: "exhausted", 2: "killed", 3: "disk full", 4: "rate limited", 5: "not kept", 6: "earlier part"}
NOT_KEPT = 5  # outside of every window: forgotten on purpose; reasons from here on are no losses
EARLIER = 6  # in earlier parts of the recording; a part's file begins with it
DETAIL_TYPES = {3: "call", 4: "return", 16: "python_call", 17: "python_return", 18: "python_exception", 19: "event", 20: "signal"}
NO_DETAIL = 0xFFFFFFFF

# struct module formats of the headers and footers, in the order of the fields.
INDEX_HEADER = "<4sBBBBIIB3xIIIQQQQ"
INDEX_FOOTER = "<4sIQQQQ24x"
DETAIL_HEADER = "<4sBBBBIIIQQQQQ4x"
DETAIL_RECORD = "<IHHIIQ"
DETAIL_FOOTER = "<4sIQQQQ24x"

SIZES = {
    "event": sizeof(atf_event),
    "index_header": sizeof(atf_index_header),
    "index_footer": sizeof(atf_index_footer),
    "detail_header": sizeof(atf_detail_header),
    "detail_record": sizeof(atf_detail_record),
    "detail_footer": sizeof(atf_detail_footer),
}
