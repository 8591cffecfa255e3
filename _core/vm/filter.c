/* Which modules are recorded: globs on module names (*, ?, [abc], [!abc]), asked once per module and start. A plain name
 * stands for the module and everything below it: shop is shop and shop.cart. */
#include "hooks.h"

/* One pattern element against one character; moves *pattern past the element. */
static int matches_one(const char **pattern, unsigned char c)
{
    const char *p = *pattern;
    if (*p == '[') {
        const char *q = p + 1;
        int negated = *q == '!', found = 0;
        if (negated) q++;
        const char *first = q;
        for (; *q && (*q != ']' || q == first); q++) {
            if (q[1] == '-' && q[2] && q[2] != ']') {
                if ((unsigned char)q[0] <= c && c <= (unsigned char)q[2]) found = 1;
                q += 2;
            } else if ((unsigned char)*q == c) {
                found = 1;
            }
        }
        if (*q == ']') {
            *pattern = q + 1;
            return found != negated;
        }
    } else if (*p == '?') {
        *pattern = p + 1;
        return 1;
    }
    *pattern = p + 1;
    return (unsigned char)*p == c;
}

/* Linear in text times pattern: on a mismatch only the last star is tried again. */
static int glob(const char *pattern, const char *text)
{
    const char *star = NULL, *resume = NULL;
    while (*text) {
        const char *next = pattern;
        if (*pattern == '*') {
            star = ++pattern;
            resume = text;
        } else if (*pattern && matches_one(&next, (unsigned char)*text)) {
            pattern = next;
            text++;
        } else if (star) {
            pattern = star;
            text = ++resume;
        } else {
            return 0;
        }
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}

int atf_filter_check(PyObject *globs, const char *argument)
{
    if (!PyTuple_CheckExact(globs)) {
        PyErr_Format(PyExc_TypeError, "%s must be a tuple of module globs, not %.100s", argument, Py_TYPE(globs)->tp_name);
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(globs); i++) {
        PyObject *one = PyTuple_GET_ITEM(globs, i);
        if (!PyUnicode_CheckExact(one)) {
            PyErr_Format(PyExc_TypeError, "%s[%zd] must be a str, not %.100s", argument, i, Py_TYPE(one)->tp_name);
            return -1;
        }
        if (!PyUnicode_AsUTF8(one)) return -1; /* kept in the pattern: the match reads it */
    }
    return 0;
}

static int below(const char *package, const char *name)
{
    size_t bytes = strlen(package);
    return !strpbrk(package, "*?[") && !strncmp(name, package, bytes) && name[bytes] == '.';
}

int atf_filter_match(PyObject *globs, const char *name)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(globs); i++) {
        const char *pattern = PyUnicode_AsUTF8(PyTuple_GET_ITEM(globs, i));
        if (glob(pattern, name) || below(pattern, name)) return 1;
    }
    return 0;
}

int atf_filter_own(const char *name) { return !strcmp(name, "atf") || below("atf", name); }
