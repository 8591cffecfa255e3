/* The words of the C functions that were seen last, for the plain way of their events. The GIL guards it. */
#ifndef ATF_CFUNCTIONS_H
#define ATF_CFUNCTIONS_H
#include "hooks.h"

#define ATF_C_RECENT 256u

typedef struct atf_c_function {
    PyMethodDef *method;
    const char *name; /* the method's own pointer: a definition that was freed and made anew has another */
    uint64_t word;
} atf_c_function;
extern atf_c_function atf_c_recent[ATF_C_RECENT] __attribute__((visibility("hidden")));

static inline atf_c_function *atf_c_recent_of(const PyMethodDef *method)
{
    return &atf_c_recent[((uintptr_t)method >> 5 ^ (uintptr_t)method >> 13) % ATF_C_RECENT];
}

/* The definition behind the two usual kinds of C functions, else NULL. */
static inline PyMethodDef *atf_c_method(PyObject *callable)
{
    if (Py_IS_TYPE(callable, &PyMethodDescr_Type)) return ((PyMethodDescrObject *)callable)->d_method;
    return Py_IS_TYPE(callable, &PyCFunction_Type) ? ((PyCFunctionObject *)callable)->m_ml : NULL;
}

/* The plain case of a C function's event, like atf_write_plain. 0: nothing was done, take the general way. */
static inline __attribute__((always_inline)) int atf_c_write_plain(PyCodeObject *caller, PyObject *callable, uint32_t kind, int by)
{
    PyMethodDef *method = atf_c_method(callable);
    if (ATF_UNLIKELY(!method)) return 0;
    const atf_c_function *c = atf_c_recent_of(method);
    if (ATF_UNLIKELY(c->method != method || c->name != method->ml_name || !atf_word_included(c->word))) return 0;
    return atf_write_word(atf_code_word(caller), ATF_WORD_TEST, c->word, kind, by);
}
#endif
