/* Brings the other threads of the process to a stand. Never includes Python.h. */
#ifndef ATF_AGENT_STOP_H
#define ATF_AGENT_STOP_H
#include "agent.h"
#include <ucontext.h>

/* Returns with all other threads standing, or an atf_plan_error and all of them running. While they stand, nothing may be called that
 * could need a lock of theirs. `inside`: how many of them stand in a stub. */
int atf_stop_others(uint32_t *inside);

/* They go on, each after `going` was called with its context (NULL: nothing is). Tells the report how many stood, and the longest time
 * that any of them did, also in tries that were given up. */
void atf_stop_over(void (*going)(ucontext_t *), atf_plan *report);
#endif
