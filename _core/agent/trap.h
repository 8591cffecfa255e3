/* The slow path: functions that five bytes do not fit carry a one-byte trap, whose signal handler sends the thread on to the same
 * stub that a jump would lead to. Never includes Python.h. */
#ifndef ATF_AGENT_TRAP_H
#define ATF_AGENT_TRAP_H
#include "agent.h"

#define TRAP_OWN_MOST 8 /* functions of the C library that are taken so that the signal stays ours */

/* ---- move_first.c ---- */
int atf_move_first(const uint8_t *code, uint32_t room, uint8_t *out, atf_moved *moved); /* 0 or an atf_fn_reason */

/* ---- trap.c; all but the handler under atf_agent_lock ---- */
/* Makes the signal ours, unless the program has a use for it; adds the hooks that keep it so to `list`, at most TRAP_OWN_MOST.
 * first: at a start; later, when a library came, what was refused stays so: the look at every thread takes its time. */
uint32_t atf_trap_open(int first, atf_hook **list, uint32_t (*take)(uint8_t *code, uint32_t size, void *wrapper, atf_hook *h));
int atf_trap_own(const uint8_t *code);              /* whether it is one of those functions */
int atf_trap_why(uint64_t low, uint64_t high);      /* 0, or why no function of this module may carry a trap */
int atf_trap_put(uint8_t *code, uint8_t *stub);     /* 1: the handler knows it; then the byte may be written */
void atf_trap_drop(uint64_t low, uint64_t high);    /* after the bytes are restored, or gone with their module */

/* ---- signals.c: what the C library is asked for with a mask or an action, answered so that the signal stays ours ---- */
extern struct sigaction atf_theirs;                 /* what the program believes to have set */
extern int atf_signal_ours;                         /* 0: everything passes through */
const struct atf_taken { const char *name; void *wrapper; uint8_t **original; int needed; } *atf_taken_at(uint32_t i); /* NULL: no more */

/* ---- stop.c ---- */
int atf_threads_hear(int number);                   /* 0: a thread, this one or another, blocks the signal for longer than a start takes */
#endif
