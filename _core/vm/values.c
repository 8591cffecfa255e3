#include "values.h"

void atf_put_map(atf_values *v, uint32_t count) { *v->p++ = (uint8_t)(0x80 | count); }

static void put_big(atf_values *v, uint64_t value, int bytes)
{
    while (bytes--) *v->p++ = (uint8_t)(value >> 8 * bytes);
}

static void put_array(atf_values *v, uint32_t count)
{
    if (count < 16) {
        *v->p++ = (uint8_t)(0x90 | count);
    } else {
        *v->p++ = 0xDC;
        put_big(v, count, 2);
    }
}

static void put_wide_map(atf_values *v, uint32_t count)
{
    if (count < 16) {
        atf_put_map(v, count);
    } else {
        *v->p++ = 0xDE;
        put_big(v, count, 2);
    }
}

void atf_put_text(atf_values *v, const char *text)
{
    size_t bytes = strlen(text);
    *v->p++ = (uint8_t)(0xA0 | bytes);
    memcpy(v->p, text, bytes);
    v->p += bytes;
}

void atf_put_long(atf_values *v, int64_t value)
{
    if (value >= 0) {
        if (value < 128) {
            *v->p++ = (uint8_t)value;
        } else {
            int bytes = value <= 0xFF ? 1 : value <= 0xFFFF ? 2 : value <= 0xFFFFFFFFll ? 4 : 8;
            *v->p++ = (uint8_t)(bytes == 1 ? 0xCC : bytes == 2 ? 0xCD : bytes == 4 ? 0xCE : 0xCF);
            put_big(v, (uint64_t)value, bytes);
        }
    } else if (value >= -32) {
        *v->p++ = (uint8_t)value;
    } else {
        int bytes = value >= INT8_MIN ? 1 : value >= INT16_MIN ? 2 : value >= INT32_MIN ? 4 : 8;
        *v->p++ = (uint8_t)(bytes == 1 ? 0xD0 : bytes == 2 ? 0xD1 : bytes == 4 ? 0xD2 : 0xD3);
        put_big(v, (uint64_t)value, bytes);
    }
}

/* The header is written when the size is known: text goes three bytes further, then moves up against it. */
static void close_str(atf_values *v, size_t bytes)
{
    uint8_t *text = v->p + 3;
    if (bytes < 32) {
        *v->p++ = (uint8_t)(0xA0 | bytes);
    } else if (bytes < 256) {
        *v->p++ = 0xD9;
        *v->p++ = (uint8_t)bytes;
    } else {
        *v->p++ = 0xDA;
        put_big(v, bytes, 2);
    }
    memmove(v->p, text, bytes);
    v->p += bytes;
}

void atf_put_str(atf_values *v, PyObject *text)
{
    uint8_t *at = v->p + 3;
    size_t bytes = atf_utf8_put(at, text, ATF_VALUE_CHARS);
    if (PyUnicode_GET_LENGTH(text) > ATF_VALUE_CHARS) {
        memcpy(at + bytes, "\xE2\x80\xA6", 3); /* … */
        bytes += 3;
    }
    close_str(v, bytes);
}

void atf_put_type_name(atf_values *v, PyTypeObject *type)
{
    close_str(v, atf_type_name_put(v->p + 3, type, ATF_VALUE_CHARS));
}

static void put_bytes(atf_values *v, const char *data, Py_ssize_t size)
{
    int cut = size > ATF_VALUE_CHARS;
    size_t kept = cut ? ATF_VALUE_CHARS : (size_t)size, bytes = kept + (cut ? 3 : 0);
    *v->p++ = bytes < 256 ? 0xC4 : 0xC5;
    put_big(v, bytes, bytes < 256 ? 1 : 2);
    memcpy(v->p, data, kept);
    memcpy(v->p + kept, "...", bytes - kept);
    v->p += bytes;
}

static void put_int(atf_values *v, PyObject *value)
{
    int overflow;
    long long small = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (!overflow) {
        atf_put_long(v, small);
        return;
    }
    if (overflow > 0) {
        unsigned long long large = PyLong_AsUnsignedLongLong(value);
        if (!PyErr_Occurred()) {
            *v->p++ = 0xCF;
            put_big(v, large, 8);
            return;
        }
        PyErr_Clear();
    }
    atf_put_map(v, 2);
    atf_put_text(v, "~");
    atf_put_text(v, "int");
    atf_put_text(v, "bits");
    atf_put_long(v, (int64_t)_PyLong_NumBits(value));
}

/* The only place where the program's code may run, and only when it was asked for. */
static PyObject *safe_repr(PyObject *value)
{
    static _Thread_local int busy __attribute__((tls_model("initial-exec")));
    if (busy) return NULL;
    busy = 1;
    atf_error error = atf_error_save();
    PyObject *text = PyObject_Repr(value);
    if (!text && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) PyErr_SetInterrupt(); /* it was the program's */
    atf_error_restore(error);
    busy = 0;
    return text;
}

static void put_object(atf_values *v, PyObject *value)
{
    PyObject *text = atf_vm.repr && v->p < v->full ? safe_repr(value) : NULL;
    atf_put_map(v, text ? 2 : 1);
    atf_put_text(v, "~");
    atf_put_type_name(v, Py_TYPE(value));
    if (!text) return;
    atf_put_text(v, "repr");
    atf_put_str(v, text);
    Py_DECREF(text);
}

/* One more item, unless this many or the room is used up. */
static int more(const atf_values *v, uint32_t count) { return count < ATF_VALUE_ITEMS && v->p < v->full; }

/* Counts are written first, for all items that may come; fix_count repairs them. */
static void fix_count(uint8_t *at, uint32_t count)
{
    if (*at == 0xDC || *at == 0xDE) {
        at[1] = 0;
        at[2] = (uint8_t)count;
    } else {
        *at = (uint8_t)((*at & 0xF0) | count);
    }
}

static uint32_t expected(Py_ssize_t total) { return total > ATF_VALUE_ITEMS ? ATF_VALUE_ITEMS + 1 : (uint32_t)total; }

static void put_array_end(atf_values *v, uint8_t *at, uint32_t count, Py_ssize_t total)
{
    if ((Py_ssize_t)count < total) {
        atf_put_map(v, 1);
        atf_put_text(v, "\xE2\x80\xA6");
        atf_put_long(v, total);
        count++;
    }
    fix_count(at, count);
}

static void put_sequence(atf_values *v, PyObject *value, int depth)
{
    uint8_t *at = v->p;
    Py_ssize_t total = Py_SIZE(value);
    uint32_t count = 0;
    put_array(v, expected(total));
    while (more(v, count) && (Py_ssize_t)count < Py_SIZE(value)) { /* a repr may have shortened it */
        PyObject *item = PyList_CheckExact(value) ? PyList_GET_ITEM(value, count) : PyTuple_GET_ITEM(value, count);
        Py_INCREF(item);
        atf_put_value(v, item, depth + 1);
        Py_DECREF(item);
        count++;
    }
    put_array_end(v, at, count, total);
}

static void put_set(atf_values *v, PyObject *value, int depth)
{
    PySetObject *set = (PySetObject *)value;
    Py_ssize_t total = set->used;
    uint32_t count = 0;
    atf_put_map(v, 2);
    atf_put_text(v, "~");
    atf_put_text(v, PyFrozenSet_CheckExact(value) ? "frozenset" : "set");
    atf_put_text(v, "items");
    uint8_t *at = v->p;
    put_array(v, expected(total));
    for (Py_ssize_t i = 0; i <= set->mask && (Py_ssize_t)count < total && more(v, count); i++) {
        setentry *entry = &set->table[i];
        if (!entry->key || entry->hash == -1) continue; /* unused, or a dummy */
        PyObject *item = entry->key;
        Py_INCREF(item);
        atf_put_value(v, item, depth + 1);
        Py_DECREF(item);
        count++;
    }
    put_array_end(v, at, count, total);
}

static void put_dict(atf_values *v, PyObject *value, int depth)
{
    uint8_t *at = v->p;
    Py_ssize_t total = PyDict_GET_SIZE(value), position = 0;
    uint32_t count = 0;
    PyObject *key, *item;
    put_wide_map(v, expected(total));
    while ((Py_ssize_t)count < total && more(v, count) && PyDict_Next(value, &position, &key, &item)) {
        Py_INCREF(key);
        Py_INCREF(item);
        atf_put_value(v, key, ATF_VALUE_DEPTH); /* a container as a key is only named */
        if (atf_is_secret(key)) atf_put_text(v, "***");
        else atf_put_value(v, item, depth + 1);
        Py_DECREF(key);
        Py_DECREF(item);
        count++;
    }
    if ((Py_ssize_t)count < total) {
        atf_put_text(v, "\xE2\x80\xA6");
        atf_put_long(v, total);
        count++;
    }
    fix_count(at, count);
}

static void put_float(atf_values *v, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    *v->p++ = 0xCB;
    put_big(v, bits, 8);
}

/* Of a container too deep to open: its type and size. */
static void put_closed(atf_values *v, PyObject *value, Py_ssize_t total)
{
    atf_put_map(v, 2);
    atf_put_text(v, "~");
    atf_put_text(v, Py_TYPE(value)->tp_name);
    atf_put_text(v, "\xE2\x80\xA6");
    atf_put_long(v, total);
}

void atf_put_value(atf_values *v, PyObject *value, int depth)
{
    if (v->p >= v->full) atf_put_text(v, "\xE2\x80\xA6");
    else if (value == Py_None) *v->p++ = 0xC0;
    else if (value == Py_False) *v->p++ = 0xC2;
    else if (value == Py_True) *v->p++ = 0xC3;
    else if (PyLong_CheckExact(value)) put_int(v, value);
    else if (PyUnicode_CheckExact(value)) atf_put_str(v, value);
    else if (PyFloat_CheckExact(value)) put_float(v, PyFloat_AS_DOUBLE(value));
    else if (PyBytes_CheckExact(value)) put_bytes(v, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    else if (PyList_CheckExact(value) || PyTuple_CheckExact(value))
        depth < ATF_VALUE_DEPTH ? put_sequence(v, value, depth) : put_closed(v, value, Py_SIZE(value));
    else if (PyDict_CheckExact(value))
        depth < ATF_VALUE_DEPTH ? put_dict(v, value, depth) : put_closed(v, value, PyDict_GET_SIZE(value));
    else if (PyAnySet_CheckExact(value))
        depth < ATF_VALUE_DEPTH ? put_set(v, value, depth) : put_closed(v, value, ((PySetObject *)value)->used);
    else put_object(v, value);
}
