/* 3.10: the qualified name of a function is in the function, not in its code. Looked for where it is cheap. */
#include "codes.h"
#if PY_VERSION_HEX < 0x030B0000

/* The function of this code behind a class's attribute, borrowed, or NULL. Only exact built-in wrappers are opened:
 * their attributes are plain members. */
static PyObject *function_behind(PyObject *value, PyCodeObject *code)
{
    if (PyFunction_Check(value)) return PyFunction_GET_CODE(value) == (PyObject *)code ? value : NULL;
    static const char *const wrapped[] = {"__func__", "fget", "fset", "fdel"};
    int property = Py_IS_TYPE(value, &PyProperty_Type);
    if (!property && !Py_IS_TYPE(value, &PyClassMethod_Type) && !Py_IS_TYPE(value, &PyStaticMethod_Type)) return NULL;
    for (int i = property; i < (property ? 4 : 1); i++) {
        PyObject *inner = PyObject_GetAttrString(value, wrapped[i]);
        if (!inner) {
            PyErr_Clear();
            continue;
        }
        Py_DECREF(inner); /* the wrapper holds it */
        if (PyFunction_Check(inner) && PyFunction_GET_CODE(inner) == (PyObject *)code) return inner;
    }
    return NULL;
}

static PyObject *in_classes(PyTypeObject *type, PyCodeObject *code)
{
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro && i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        if (!PyType_Check(base) || !((PyTypeObject *)base)->tp_dict) continue;
        PyObject *value = PyDict_GetItem(((PyTypeObject *)base)->tp_dict, code->co_name);
        PyObject *function = value ? function_behind(value, code) : NULL;
        if (function) return function;
    }
    return NULL;
}

PyObject *atf_qualified_name(PyCodeObject *code, PyObject *globals, PyObject *receiver)
{
    PyObject *function = NULL;
    if (receiver && PyType_Check(receiver)) function = in_classes((PyTypeObject *)receiver, code);
    if (receiver && !function) function = in_classes(Py_TYPE(receiver), code);
    if (!function && globals && PyDict_CheckExact(globals)) {
        PyObject *value = PyDict_GetItem(globals, code->co_name);
        function = value ? function_behind(value, code) : NULL;
    }
    PyObject *name = function ? ((PyFunctionObject *)function)->func_qualname : code->co_name;
    Py_INCREF(name);
    return name;
}
#else
typedef int atf_qualname_unused;
#endif
