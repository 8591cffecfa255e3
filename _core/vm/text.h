/* Strings as UTF-8 into a buffer. PyUnicode_AsUTF8 is not used on the program's strings: it leaves a copy in them
 * for as long as they live, and refuses lone surrogates (written here as U+FFFD). */
#ifndef ATF_TEXT_H
#define ATF_TEXT_H
#include "hooks.h"

#define ATF_UTF8_CHAR 4 /* bytes of one character at most */

/* Writes at most max_chars characters of a str; returns the bytes written. */
static inline size_t atf_utf8_put(uint8_t *out, PyObject *text, Py_ssize_t max_chars)
{
#if PY_VERSION_HEX < 0x030C0000
    if (!PyUnicode_IS_READY(text)) return 0;
#endif
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    if (length > max_chars) length = max_chars;
    if (PyUnicode_IS_ASCII(text)) {
        memcpy(out, PyUnicode_1BYTE_DATA(text), (size_t)length);
        return (size_t)length;
    }
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    uint8_t *p = out;
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c >= 0xD800 && c <= 0xDFFF) c = 0xFFFD;
        if (c < 0x80) {
            *p++ = (uint8_t)c;
        } else if (c < 0x800) {
            *p++ = (uint8_t)(0xC0 | c >> 6);
            *p++ = (uint8_t)(0x80 | (c & 0x3F));
        } else if (c < 0x10000) {
            *p++ = (uint8_t)(0xE0 | c >> 12);
            *p++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
            *p++ = (uint8_t)(0x80 | (c & 0x3F));
        } else {
            *p++ = (uint8_t)(0xF0 | c >> 18);
            *p++ = (uint8_t)(0x80 | (c >> 12 & 0x3F));
            *p++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
            *p++ = (uint8_t)(0x80 | (c & 0x3F));
        }
    }
    return (size_t)(p - out);
}

#define ATF_NAME_CHARS 512
#define ATF_FILE_CHARS 1024

/* A name of the program's, cut and zero-terminated. */
typedef struct atf_text {
    size_t bytes;
    char text[ATF_NAME_CHARS * ATF_UTF8_CHAR + 1];
} atf_text;

static inline void atf_text_set(atf_text *out, PyObject *text)
{
    out->bytes = text ? atf_utf8_put((uint8_t *)out->text, text, ATF_NAME_CHARS) : 0;
    out->text[out->bytes] = 0;
}

/* "module.Name" of a type, without running any code of the program's: from the type's own slots. */
static inline PyObject *atf_type_module(PyTypeObject *type) /* borrowed str, or NULL: look at tp_name */
{
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || !type->tp_dict) return NULL;
    static PyObject *key; /* immortal, made once */
    if (!key && !(key = PyUnicode_InternFromString("__module__"))) {
        PyErr_Clear();
        return NULL;
    }
    PyObject *module = PyDict_GetItem(type->tp_dict, key);
    return module && PyUnicode_CheckExact(module) ? module : NULL;
}

static inline size_t atf_type_name_put(uint8_t *out, PyTypeObject *type, Py_ssize_t max_chars)
{
    uint8_t *p = out;
    PyObject *module = atf_type_module(type);
    if (module) {
        p += atf_utf8_put(p, module, max_chars / 2);
        *p++ = '.';
        return (size_t)(p - out) + atf_utf8_put(p, ((PyHeapTypeObject *)type)->ht_qualname, max_chars / 2 - 1);
    }
    if (!strchr(type->tp_name, '.')) {
        memcpy(p, "builtins.", 9);
        p += 9;
    }
    size_t bytes = strlen(type->tp_name), room = (size_t)max_chars - 9;
    if (bytes > room) bytes = room;
    memcpy(p, type->tp_name, bytes);
    return (size_t)(p - out) + bytes;
}
#endif
