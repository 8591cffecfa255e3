/* Fair turns at the engine's lock. A mutex alone is not fair: the drain's thread, which gives it up for microseconds only, takes it
 * again before whoever waits for it has woken. So callers are counted: while one waits the thread ends its pass after the ring it is
 * at, and before the next pass it lets everybody have the lock who had asked for it by then. Never includes Python.h. */
#ifndef ATF_TURNS_H
#define ATF_TURNS_H
#include "atomics.h"

typedef struct atf_turns {
    uint64_t asked;  /* callers that ever wanted the lock; added to before they wait for it */
    uint64_t served; /* callers that had it and gave it back; written under the lock */
    uint64_t let_by; /* passes that began or went on while a caller waited: the most of one; written under the lock */
} atf_turns;

/* For the thread that holds the lock. Both loads are relaxed: `served` is its own while it holds the lock, and a caller that is
 * seen too late is seen one ring later. */
static inline int atf_turns_wanted(const atf_turns *t)
{
    return t && atf_load_relaxed64(&t->asked) != atf_load_relaxed64(&t->served);
}
#endif
