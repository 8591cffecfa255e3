/* Records with a detail: calls with arguments, results, exceptions. The detail is published before its record. */
#include "values.h"

static void put_arguments(atf_values *v, uint64_t word, PyCodeObject *code, void *frame, atf_argument_getter get)
{
#if PY_VERSION_HEX >= 0x030B0000
    PyObject *names = code->co_localsplusnames;
#else
    PyObject *names = code->co_varnames;
#endif
    int total = code->co_argcount + code->co_kwonlyargcount + !!(code->co_flags & CO_VARARGS) + !!(code->co_flags & CO_VARKEYWORDS);
    int count = 0;
    uint8_t *at = v->p;
    *v->p++ = 0xDE; /* map 16: more than 15 arguments are rare but possible */
    v->p += 2;
    for (; count < total && v->p < v->full; count++) {
        PyObject *name = PyTuple_GET_ITEM(names, count);
        atf_put_str(v, name);
        if ((word & ATF_WORD_SECRET_ARGS) && atf_is_secret(name)) {
            atf_put_text(v, "***");
            continue;
        }
        PyObject *value = get(frame, code, count);
        if (value) atf_put_value(v, value, 0);
        else atf_put_text(v, "\xE2\x80\xA6");
        Py_XDECREF(value);
    }
    int kept = count;
    if (count < total) {
        atf_put_text(v, "\xE2\x80\xA6");
        atf_put_long(v, total);
        kept++;
    }
    at[1] = (uint8_t)(kept >> 8);
    at[2] = (uint8_t)kept;
}

#define CAPTURE_MOST_PER_SECOND 50000u /* a 50,000th of a second at most is counted of one: the thread may have lost its processor meanwhile */

static uint64_t begin_capture(const atf_thread *t) { return atf_vm.timed ? atf_ticks(t->clock_type) : 0; }

static void end_capture(const atf_thread *t, uint64_t begun)
{
    atf_control *c = atf_current.control;
    if (!begun || !c) return;
    uint64_t took = atf_ticks(t->clock_type) - begun, most = c->ticks_per_second / CAPTURE_MOST_PER_SECOND;
    atf_count64(&c->capture_ticks, took < most ? took : most); /* the GIL makes us the only writer; read relaxed by the recorder */
}

/* The call's time is taken after its arguments were written, so that it is not charged for them. */
ATF_COLD void atf_write_call(atf_thread *t, uint32_t kind, uint64_t word, uint32_t depth, PyCodeObject *code, void *frame, atf_argument_getter get)
{
    atf_values v;
    uint64_t begun = begin_capture(t);
    atf_values_start(&v);
    uint64_t heard = atf_joint_hush();
    atf_error error = atf_error_save();
    if (frame) {
        atf_put_map(&v, 1);
        atf_put_text(&v, "args");
        put_arguments(&v, word, code, frame, get);
    }
    atf_error_restore(error);
    atf_joint_speak(heard);
    uint64_t ticks = atf_ticks(t->clock_type);
    uint32_t detail = frame ? atf_detail(t, ATF_D_PY_CALL, v.bytes, atf_values_size(&v), ticks) : ATF_NO_DETAIL;
    atf_write_at(t, ticks, kind, atf_word_function(word), depth, detail);
    end_capture(t, begun);
}

ATF_COLD void atf_write_value(atf_thread *t, uint32_t kind, uint64_t word, uint32_t depth, PyObject *value)
{
    uint64_t ticks = atf_ticks(t->clock_type), begun = begin_capture(t);
    atf_values v;
    atf_values_start(&v);
    uint64_t heard = atf_joint_hush();
    atf_error error = atf_error_save();
    atf_put_map(&v, 1);
    atf_put_text(&v, "value");
    if (word & ATF_WORD_SECRET_NAME) atf_put_text(&v, "***");
    else atf_put_value(&v, value, 0);
    atf_error_restore(error);
    atf_joint_speak(heard);
    uint32_t detail = atf_detail(t, ATF_D_PY_RETURN, v.bytes, atf_values_size(&v), ticks);
    atf_write_at(t, ticks, kind, atf_word_function(word), depth, detail);
    end_capture(t, begun);
}

/* What str(exception) would say where that needs none of the program's code: the one argument when it is a str or a
 * number, the second one of an OSError; else nothing. */
static PyObject *message_of(PyObject *args)
{
    if (!args) return NULL;
    if (PyTuple_CheckExact(args)) {
        Py_ssize_t count = PyTuple_GET_SIZE(args);
        PyObject *text = count == 1 ? PyTuple_GET_ITEM(args, 0) : NULL;
        if (count >= 2 && PyLong_CheckExact(PyTuple_GET_ITEM(args, 0))) text = PyTuple_GET_ITEM(args, 1);
        args = text;
    }
    if (!args) return NULL;
    if (PyUnicode_CheckExact(args)) {
        Py_INCREF(args);
        return args;
    }
    if (args == Py_None || PyBool_Check(args) || PyLong_CheckExact(args) || PyFloat_CheckExact(args) || PyBytes_CheckExact(args)) return PyObject_Repr(args);
    return NULL;
}

ATF_COLD void atf_write_exception(atf_thread *t, uint64_t word, uint32_t depth, PyObject *exception, PyObject *type, PyObject *value)
{
    uint64_t ticks = atf_ticks(t->clock_type);
    uint32_t detail = ATF_NO_DETAIL;
    PyTypeObject *class = exception ? Py_TYPE(exception) : (PyTypeObject *)type;
    if (class) {
        atf_values v;
        atf_values_start(&v);
        uint64_t heard = atf_joint_hush();
        atf_error error = atf_error_save();
        PyObject *message = message_of(exception ? ((PyBaseExceptionObject *)exception)->args : value);
        if (!message) PyErr_Clear(); /* a number too long for repr */
        atf_put_map(&v, 2);
        atf_put_text(&v, "type");
        atf_put_type_name(&v, class);
        atf_put_text(&v, "message");
        if (message && PyUnicode_GET_LENGTH(message) > ATF_MESSAGE_CHARS) {
            PyObject *cut = PyUnicode_Substring(message, 0, ATF_MESSAGE_CHARS);
            Py_SETREF(message, cut);
            if (!cut) PyErr_Clear();
        }
        if (message) atf_put_str(&v, message);
        else atf_put_text(&v, "");
        Py_XDECREF(message);
        atf_error_restore(error);
        atf_joint_speak(heard);
        detail = atf_detail(t, ATF_D_PY_EXCEPTION, v.bytes, atf_values_size(&v), ticks);
    }
    atf_write_at(t, ticks, ATF_EXCEPTION, atf_word_function(word), depth, detail);
}
