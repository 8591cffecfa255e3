/* The Python VM hooks, as recorder.pyx sees them. Every function is called with the GIL held, in the main interpreter. */
#ifndef ATF_VM_H
#define ATF_VM_H
#include <Python.h>

enum atf_vm_level { ATF_LEVEL_CALLS = 1, ATF_LEVEL_RETURNS = 2, ATF_LEVEL_C = 3, ATF_LEVEL_ARGS = 4 };

/* Options, or'ed. LEVEL_C is RETURNS with ATF_VM_C, LEVEL_ARGS is RETURNS with ATF_VM_ARGS; both may be asked for. */
enum atf_vm_options {
    ATF_VM_C = 1,    /* C functions too */
    ATF_VM_ARGS = 2, /* arguments and results as details */
    ATF_VM_TIMED = 8, /* the time that values take is counted, see capture_ticks in layout.h */
    ATF_VM_REPR = 4  /* repr() of objects that are no built-in values; runs the program's code */
};

/* Puts the hooks in place. A session must be open. include, exclude: tuples of str, globs on module names; an empty
 * include means every module; exclude wins. -1 with an exception set: ValueError or TypeError for an argument,
 * RuntimeError when the interpreter's hooks are taken by others (the message names them). */
int atf_vm_start(int level, PyObject *include, PyObject *exclude, int options);

/* Removes every hook; safe when not started. -1 with an exception set when the interpreter refused. */
int atf_vm_stop(void);

/* In a forked child, before a new start: the parent's hooks are removed, nothing is written. */
void atf_vm_forked(void);

/* "sys.monitoring", "eval frame", "profile", or "" when not started. May change from "eval frame" to "profile". */
const char *atf_vm_mechanism(void);
#endif
