/* -finstrument-functions: the calls that such a program makes of itself, led to the agent. */
#ifndef ATF_CYG_H
#define ATF_CYG_H

#include "hooks.h"

/* ---- cyg_link.c ---- */
/* Whether the module's functions can be traced by their calls; builds what that needs. `late`: the loader has not relocated it yet. */
int atf_cyg_module(atf_module *m, atf_arena *arena, int late);
int atf_cyg_traced(const atf_module *m, const atf_plan_function *f); /* whether this one is */
int atf_cyg_publish(atf_module *m);  /* a new table: what the last one held, and this module's functions; 0: no memory */
void atf_cyg_redirect(void);         /* from now on the slots of the modules published lead to us */
void atf_cyg_restore(atf_module *m, int loaded); /* its calls lead where they led before */
#endif
