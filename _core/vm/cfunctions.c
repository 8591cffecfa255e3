/* Words of C functions: a hash table on the PyMethodDef, which is one per function however it is bound. */
#include "cfunctions.h"
#include "codes.h"

typedef atf_c_function entry;

atf_c_function atf_c_recent[ATF_C_RECENT];
static struct {
    entry *items;
    uint32_t count, bits; /* 1 << bits items, at most half of them used; grows with the functions, not with the calls */
} table;

static entry *find(PyMethodDef *method)
{
    uint32_t mask = (1u << table.bits) - 1;
    uint32_t i = (uint32_t)(((uintptr_t)method >> 4) * 0x9E3779B97F4A7C15ull >> 32) & mask;
    while (table.items[i].method && table.items[i].method != method) i = (i + 1) & mask;
    return &table.items[i];
}

static int grow(void)
{
    if (table.items && table.count < 1u << table.bits >> 1) return 0;
    entry *old = table.items;
    uint32_t used = old ? 1u << table.bits : 0, bits = old ? table.bits + 1 : 10;
    entry *items = calloc((size_t)1 << bits, sizeof *items);
    if (!items) return -1;
    table.items = items;
    table.bits = bits;
    for (uint32_t i = 0; i < used; i++) {
        if (old[i].method) *find(old[i].method) = old[i];
    }
    free(old);
    return 0;
}

/* A bound method names the class that defines it, not the subclass of its receiver. */
static PyTypeObject *defining_type(PyTypeObject *type, PyMethodDef *method)
{
    for (PyTypeObject *base = type; base; base = base->tp_base) {
        for (PyMethodDef *m = base->tp_methods; m && m->ml_name; m++) {
            if (m == method) return base;
        }
    }
    return type;
}

/* New reference: the module of a type. */
static PyObject *module_of_type(PyTypeObject *type)
{
    PyObject *module = atf_type_module(type);
    if (module) {
        Py_INCREF(module);
        return module;
    }
    const char *dot = strrchr(type->tp_name, '.');
    return dot ? PyUnicode_FromStringAndSize(type->tp_name, dot - type->tp_name) : PyUnicode_FromString("builtins");
}

static const char *last_part(PyTypeObject *type)
{
    const char *dot = strrchr(type->tp_name, '.');
    return dot ? dot + 1 : type->tp_name;
}

static ATF_COLD uint64_t resolve(PyObject *callable, PyMethodDef *method, uint64_t known)
{
    uint64_t heard = atf_joint_hush();
    atf_error error = atf_error_save();
    uint64_t word = atf_vm.key | ATF_WORD_EXCLUDED;
    PyTypeObject *type = NULL;
    PyObject *module = NULL;
    if (Py_IS_TYPE(callable, &PyMethodDescr_Type)) {
        type = PyDescr_TYPE(callable);
    } else {
        PyCFunctionObject *function = (PyCFunctionObject *)callable;
        PyObject *self = function->m_self;
        if (function->m_module && PyUnicode_CheckExact(function->m_module)) {
            module = function->m_module;
            Py_INCREF(module);
        } else if (self && !PyModule_Check(self)) {
            type = PyType_Check(self) ? (PyTypeObject *)self : Py_TYPE(self);
            type = defining_type(type, method);
        }
    }
    if (!module) module = type ? module_of_type(type) : PyUnicode_FromString("builtins");
    uint32_t number = known ? (uint32_t)(known >> 32) & 0xFFFF : module ? atf_module_number(module, NULL) : 0;
    if (number && grow() == 0) {
        atf_module *m = atf_module_current(number);
        uint32_t symbol = known ? (uint32_t)known >> 4 : m->symbols++;
        word = atf_vm.key | (uint64_t)number << 32 | symbol << 4 | (m->refused ? ATF_WORD_EXCLUDED : 0);
        entry *e = find(method);
        if (!e->method) table.count++;
        *e = (entry){method, method->ml_name, word};
        if (!m->refused) {
            char name[512];
            int bytes = type ? snprintf(name, sizeof name, "%.250s.%.250s", last_part(type), method->ml_name)
                             : snprintf(name, sizeof name, "%.500s", method->ml_name);
            atf_name_put(ATF_NAME_FUNCTION, atf_word_function(word), 0, name, (size_t)bytes, "", 0);
        }
    }
    Py_XDECREF(module);
    atf_error_restore(error);
    atf_joint_speak(heard);
    return word;
}

uint64_t atf_c_word(PyObject *callable)
{
    PyMethodDef *method = atf_c_method(callable);
    if (!method && PyCFunction_Check(callable)) method = ((PyCFunctionObject *)callable)->m_ml;
    if (!method) return 0;
    uint64_t known = 0;
    if (ATF_LIKELY(table.items != NULL)) {
        entry *e = find(method);
        if (e->method && e->name == method->ml_name) known = e->word;
    }
    if (ATF_UNLIKELY(!atf_word_current(known))) known = resolve(callable, method, known);
    *atf_c_recent_of(method) = (entry){method, method->ml_name, known};
    return atf_word_included(known) ? known : 0;
}
