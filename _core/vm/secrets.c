/* Names that must not be followed by their value. */
#include "text.h"

static const char *const words[] = {"password",      "passwd",     "secret",      "token",  "api_key",   "apikey",
                                    "authorization", "credential", "private_key", "cookie", "session_id"};

/* A word occurs in the name, in any case, '-' being the same as '_' (HTTP headers). */
int atf_is_secret(PyObject *name)
{
    if (!PyUnicode_CheckExact(name)) return 0;
    uint8_t text[128 * ATF_UTF8_CHAR + 1];
    size_t bytes = atf_utf8_put(text, name, 128);
    for (size_t i = 0; i < bytes; i++) text[i] = text[i] == '-' ? '_' : (uint8_t)Py_TOLOWER(text[i]);
    text[bytes] = 0;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(words); i++) {
        if (strstr((char *)text, words[i])) return 1;
    }
    return 0;
}
