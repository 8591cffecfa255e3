/* What leads into the first bytes of functions, found by looking through all code of a module before any of it is changed.
 * Never includes Python.h. */
#ifndef ATF_AGENT_SWEEP_H
#define ATF_AGENT_SWEEP_H
#include "hooks.h"

/* Code from one offset to another, from the module's first executable byte; equal: how long it is, is not known. */
typedef struct atf_span { uint32_t from, to; } atf_span;

/* ---- starts.c ---- */
/* What the module's unwind table calls functions, by address, to be freed; returns how many. */
uint32_t atf_module_frames(const atf_module *m, atf_span **spans);
/* Whether these bytes come from the module's file and can be read. */
int atf_module_holds(const atf_module *m, uint64_t address, uint64_t bytes);

/* ---- sweep.c ---- */
/* For each of the module's functions 0, or the atf_fn_reason for which its first five bytes must stay as they are; to be freed.
 * NULL: no memory. `functions`: by address. */
uint8_t *atf_sweep(const atf_module *m, const atf_plan_function *functions, uint32_t count);
#endif
