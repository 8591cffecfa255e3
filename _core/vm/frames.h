/* The interpreter's own frames on 3.10 and 3.11, one set of names for both. Include first: it needs the internal headers. */
#ifndef ATF_FRAMES_H
#define ATF_FRAMES_H
#include <patchlevel.h>
#if PY_VERSION_HEX < 0x030C0000
#if PY_VERSION_HEX >= 0x030B0000
#define Py_BUILD_CORE 1
#include "hooks.h"
#include <internal/pycore_frame.h>

typedef _PyInterpreterFrame atf_frame;

/* Innermost frame; one that is still making its cells or its generator counts as not there yet. */
static inline atf_frame *atf_frame_complete(atf_frame *f)
{
    while (f && _PyFrame_IsIncomplete(f)) f = f->previous;
    return f;
}
static inline atf_frame *atf_frame_top(PyThreadState *ts) { return atf_frame_complete(ts->cframe->current_frame); }
static inline atf_frame *atf_frame_back(atf_frame *f) { return atf_frame_complete(f->previous); }
static inline PyObject *atf_frame_globals(atf_frame *f) { return f->f_globals; }
static inline atf_frame *atf_frame_of(PyFrameObject *f) { return f->f_frame; }
static inline PyObject *atf_frame_receiver(atf_frame *f) { return NULL; }

static inline int atf_frame_is_generator(atf_frame *f) { return f->owner == FRAME_OWNED_BY_GENERATOR; }
/* The frame ran before: this is no first entry. */
static inline int atf_frame_started(atf_frame *f) { return _PyInterpreterFrame_LASTI(f) > f->f_code->_co_firsttraceable; }
/* The frame gets an exception and none of its code runs. (3.10 does not tell that from a first entry.) */
static inline int atf_frame_unstarted(atf_frame *f) { return _PyInterpreterFrame_LASTI(f) < f->f_code->_co_firsttraceable; }
/* Only for a generator's frame; good also after the frame was left, as the generator is in its caller's hands. */
static inline int atf_frame_suspended(atf_frame *f) { return _PyFrame_GetGenerator(f)->gi_frame_state == FRAME_SUSPENDED; }

/* Until its first instruction ran, a cell's variable holds the bare argument. */
static inline PyObject *atf_frame_argument(void *frame, PyCodeObject *code, int i)
{
    PyObject *value = ((atf_frame *)frame)->localsplus[i];
    if (value && PyCell_Check(value) && (PyBytes_AS_STRING(code->co_localspluskinds)[i] & 0x40 /* CO_FAST_CELL */)) {
        value = PyCell_GET(value);
    }
    Py_XINCREF(value);
    return value;
}
#else
#include "hooks.h"
#include <frameobject.h>

typedef PyFrameObject atf_frame;

static inline atf_frame *atf_frame_top(PyThreadState *ts) { return ts->frame; }
static inline atf_frame *atf_frame_back(atf_frame *f) { return f->f_back; }
static inline PyObject *atf_frame_globals(atf_frame *f) { return f->f_globals; }
static inline atf_frame *atf_frame_of(PyFrameObject *f) { return f; }
static inline PyObject *atf_frame_receiver(atf_frame *f) { return f->f_code->co_argcount > 0 ? f->f_localsplus[0] : NULL; }

static inline int atf_frame_is_generator(atf_frame *f) { return f->f_gen != NULL; }
static inline int atf_frame_started(atf_frame *f) { return f->f_lasti >= 0; }
static inline int atf_frame_unstarted(atf_frame *f) { return 0; }
static inline int atf_frame_suspended(atf_frame *f) { return f->f_state == FRAME_SUSPENDED; }

/* An argument that is a cell was moved into it when the frame was made. */
static inline PyObject *atf_frame_argument(void *frame, PyCodeObject *code, int i)
{
    atf_frame *f = frame;
    PyObject *value = f->f_localsplus[i];
    for (Py_ssize_t k = 0; !value && code->co_cell2arg && k < PyTuple_GET_SIZE(code->co_cellvars); k++) {
        if (code->co_cell2arg[k] == i) {
            PyObject *cell = f->f_localsplus[code->co_nlocals + k];
            value = cell && PyCell_Check(cell) ? PyCell_GET(cell) : NULL;
        }
    }
    Py_XINCREF(value);
    return value;
}
#endif

/* The word of a frame's code, resolved when this start has not seen it. */
static inline uint64_t atf_frame_word(atf_frame *f)
{
    uint64_t word = atf_code_word(f->f_code);
    if (ATF_UNLIKELY(!atf_word_current(word))) word = atf_code_resolve(f->f_code, atf_frame_globals(f), atf_frame_receiver(f));
    return word;
}
#endif
#endif
