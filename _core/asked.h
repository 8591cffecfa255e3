/* Events that conditions in Python are to be asked about: a bounded queue, filled by the drain while there are such rules, emptied
 * by the recorder's poll. Both sides hold the engine's lock. What finds it full is counted and not asked. Never includes Python.h. */
#ifndef ATF_ASKED_H
#define ATF_ASKED_H
#include "format.h"

#define ATF_ASKED_MOST 131072u

typedef struct atf_sighting {
    uint64_t source; /* which process: its address here */
    uint64_t function_id, timestamp_ns, duration_ns;
    uint32_t tid, depth, kind, reserved;
} atf_sighting;

typedef struct atf_asked {
    atf_sighting *queue;
    uint64_t put, taken, answered; /* numbers of sightings so far */
    uint64_t missed;
    uint64_t until_ns;             /* everything before this is answered */
    uint64_t next_ns, next_put;    /* and up to here, when so many are */
} atf_asked;

/* Calls in progress, by depth: how long a call took is known at its end. It counts from the call, of a generator from where it was
 * resumed last. */
#define ATF_CALLS_DEEPEST 1024u
typedef struct atf_calls {
    struct { uint64_t id, begun_ns; } at[ATF_CALLS_DEEPEST];
} atf_calls;

void atf_asked_put(atf_asked *a, atf_calls **calls, uint64_t source, uint32_t tid, const atf_event *e);
uint32_t atf_asked_take(atf_asked *a, atf_sighting *to, uint32_t most);
/* How far is answered of what was seen up to p_ns. */
uint64_t atf_asked_until(atf_asked *a, uint64_t p_ns);
void atf_asked_forget(atf_asked *a); /* the rules changed: nobody asks about these any more */
void atf_asked_close(atf_asked *a);
#endif
