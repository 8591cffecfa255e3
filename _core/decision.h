/* A decision event in the lane of newest events: the record and the detail header that an event has in a ring, its identity between them,
 * then its fields as msgpack, as they stand in the trace: a map in this order, what has no value left out. So the lane can be
 * searched without making objects. Data only; never includes Python.h. */
#ifndef ATF_DECISION_H
#define ATF_DECISION_H
#include "format.h"

typedef struct atf_decision {
    atf_event event;          /* timestamp_ns: the event's own; call_depth: its severity */
    uint64_t id_high, id_low; /* see identity.h */
    uint64_t duration_ns;
    atf_detail_record detail; /* total_length: of the msgpack that follows, and itself */
} atf_decision;
_Static_assert(sizeof(atf_decision) == 80 && offsetof(atf_decision, detail) == 56, "a decision's head is 80 bytes");

enum atf_decision_field {
    ATF_F_TYPE, ATF_F_COMPONENT, ATF_F_SEVERITY, ATF_F_TIMESTAMP, ATF_F_DURATION, ATF_F_MODEL, ATF_F_REQUEST, ATF_F_RATIONALE,
    ATF_F_CHAIN, ATF_F_PARENT, ATF_F_TRACE, ATF_F_SPAN, ATF_F_ATTRIBUTES, ATF_FIELDS
};

/* A short text of msgpack: its head, then its characters. */
typedef struct atf_short {
    const char *packed;
    uint32_t bytes;
} atf_short;
#define ATF_SHORT(head, text) {head text, sizeof(head text) - 1}

static const atf_short atf_decision_keys[ATF_FIELDS] = {
    ATF_SHORT("\xAA", "event_type"), ATF_SHORT("\xA9", "component"), ATF_SHORT("\xA8", "severity"), ATF_SHORT("\xAC", "timestamp_ns"),
    ATF_SHORT("\xAB", "duration_ns"), ATF_SHORT("\xA8", "model_id"), ATF_SHORT("\xAA", "request_id"), ATF_SHORT("\xA9", "rationale"),
    ATF_SHORT("\xB1", "decision_chain_id"), ATF_SHORT("\xA9", "parent_id"), ATF_SHORT("\xA8", "trace_id"), ATF_SHORT("\xA7", "span_id"),
    ATF_SHORT("\xAA", "attributes"),
};
static const atf_short atf_decision_severities[4] = {
    ATF_SHORT("\xA4", "Info"), ATF_SHORT("\xA7", "Warning"), ATF_SHORT("\xA5", "Error"), ATF_SHORT("\xA8", "Critical"),
};
/* In a trace, around the map. */
static const atf_short atf_decision_name = ATF_SHORT("\x82\xA4", "name");
static const atf_short atf_decision_id = ATF_SHORT("\xA8", "event_id");
#endif
