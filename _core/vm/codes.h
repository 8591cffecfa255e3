/* Names and numbers of modules and functions. A module's number and a function's symbol are given once in the
 * life of the process, and never to another. */
#ifndef ATF_CODES_H
#define ATF_CODES_H
#include "hooks.h"
#include "text.h"

typedef struct atf_module {
    PyObject *name, *file;  /* owned; file may be NULL */
    uint32_t symbols;       /* given so far */
    uint32_t generation;    /* of the start for which the rest holds */
    uint8_t excluded;       /* by the filters as a whole */
    uint8_t refused;        /* by an exclude glob, or atf's own */
} atf_module;

/* Number of a module, 0 when there is no memory. file: borrowed str or NULL. Decides the filters and writes the
 * module's name once per start. */
uint32_t atf_module_number(PyObject *name, PyObject *file);
/* The same for a module whose number is known. The pointer is good until the next call of atf_module_number. */
atf_module *atf_module_current(uint32_t number);

/* 3.10 has no co_qualname: looks for the function in the receiver's classes, then in the globals. New reference. */
PyObject *atf_qualified_name(PyCodeObject *code, PyObject *globals, PyObject *receiver);
#endif
