/* What marks an event: rules, and which functions of a process they speak of. Read by the drain at every event while there are
 * rules; replaced as a whole between two passes. Never includes Python.h. */
#ifndef ATF_POLICY_H
#define ATF_POLICY_H
#include "format.h"

#define ATF_RULES_MOST 31

enum atf_rule_kind {
    ATF_RULE_SYMBOL = 1,    /* a call of one of the functions that carry this rule's bit */
    ATF_RULE_EXCEPTION = 2, /* an exception whose type is `text` ("*": any), with or without its module */
    ATF_RULE_DURATION = 3,  /* a call of such a function that took longer than threshold_ns */
    ATF_RULE_MARK = 4,      /* an event whose attribute `mark` is true */
    ATF_RULE_OUTSIDE = 5,   /* never met here: its marks are made from outside (time, signal) */
    ATF_RULE_ASKED = 6,     /* a condition in Python: what is seen goes to atf_asked, its marks come from there */
    ATF_RULE_CRASH = 7      /* an event whose attribute `crash` is true; from outside too, for a death by a signal */
};

typedef struct atf_rule {
    uint32_t kind;
    uint64_t threshold_ns;
    char text[120];
} atf_rule;

typedef struct atf_rules {
    uint32_t version, n;
    uint32_t named; /* bits of the rules that ask for functions */
    uint32_t timed; /* of those that ask how long they took */
    uint32_t other;
    uint32_t asked; /* of those that Python answers */
    atf_rule rules[ATF_RULES_MOST];
} atf_rules;

/* The functions of one process: which rules speak of each. A function that no name is known of yet is UNNAMED, and when it was
 * first and last called is kept, so that naming it later still marks these calls. */
#define ATF_UNNAMED 0x80000000u
typedef struct atf_named {
    uint64_t id; /* 0: free */
    uint32_t rules, reserved;
    uint64_t first_ns, last_ns; /* of its calls while it was unnamed; 0: none */
} atf_named;
typedef struct atf_functions {
    atf_named *table; /* a power of two, at most three quarters full */
    uint32_t size, used;
} atf_functions;

/* Calls in progress of functions that a DURATION rule speaks of, or may. */
#define ATF_WATCHED_MOST 256
typedef struct atf_watch {
    struct { uint64_t id, begun_ns; uint32_t depth; } calls[ATF_WATCHED_MOST];
    uint32_t n;
} atf_watch;

void atf_functions_clear(atf_functions *f);
/* The entry of a function, made UNNAMED when it is new; NULL: no memory. */
atf_named *atf_functions_at(atf_functions *f, uint64_t id);

/* The number of the rule that marks this event, or -1. e->timestamp_ns is in ns; detail: its own or NULL. */
int atf_rules_look(const atf_rules *p, atf_functions *f, atf_watch *w, const atf_event *e, const atf_detail_record *detail);
#endif
