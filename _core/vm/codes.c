/* A code object's word: who it is, and whether it is recorded. Resolved once per code object and start. */
#include "codes.h"

atf_vm_state atf_vm = {.index = -1};

static struct {
    atf_module *items; /* items[number]; 0 is unused: the user's own names have it */
    uint32_t count, capacity;
    PyObject *numbers; /* name -> number */
    PyObject *key_name, *key_file;
} modules;

int atf_codes_start(void)
{
    if (!modules.numbers) {
        modules.numbers = PyDict_New();
        modules.key_name = PyUnicode_InternFromString("__name__");
        modules.key_file = PyUnicode_InternFromString("__file__");
        modules.count = 1;
        if (!modules.numbers || !modules.key_name || !modules.key_file) {
            Py_CLEAR(modules.numbers);
            return -1;
        }
    }
    if (atf_vm.index < 0 || atf_vm.generation == ATF_GENERATIONS) {
        /* A generation that comes round would take old words for its own; a fresh slot has none. */
        Py_ssize_t index = -1;
#if PY_VERSION_HEX >= 0x030C0000
        index = PyUnstable_Eval_RequestCodeExtraIndex(NULL);
#else
        index = _PyEval_RequestCodeExtraIndex(NULL);
#endif
        if (index < 0) {
            PyErr_SetString(PyExc_RuntimeError,
                            "the interpreter has no free extra slot for code objects; other tools in this process hold all of them");
            return -1;
        }
        atf_vm.index = index;
        atf_vm.generation = 0;
    }
    atf_vm.generation++;
    atf_vm.key = (uint64_t)atf_vm.generation << 48;
    return 0;
}

atf_module *atf_module_current(uint32_t number)
{
    atf_module *m = &modules.items[number];
    if (m->generation == atf_vm.generation) return m;
    m->generation = atf_vm.generation;
    atf_text name;
    atf_text_set(&name, m->name);
    m->refused = atf_filter_own(name.text) || atf_filter_match(atf_vm.exclude, name.text);
    m->excluded = m->refused || (PyTuple_GET_SIZE(atf_vm.include) > 0 && !atf_filter_match(atf_vm.include, name.text));
    /* Functions of C modules are recorded though no include glob names them, so only a refused one needs no name. */
    if (!m->refused && (!m->excluded || atf_vm.c)) {
        uint8_t file[ATF_FILE_CHARS * ATF_UTF8_CHAR];
        size_t bytes = m->file ? atf_utf8_put(file, m->file, ATF_FILE_CHARS) : 0;
        atf_name_put(ATF_NAME_MODULE, number, 0, name.text, name.bytes, (char *)file, bytes);
    }
    return m;
}

uint32_t atf_module_number(PyObject *name, PyObject *file)
{
    PyObject *known = PyDict_GetItemWithError(modules.numbers, name);
    if (known) return (uint32_t)PyLong_AsLong(known);
    if (modules.count > ATF_MODULES) return ATF_MODULES; /* the last number stands for all further names */
    if (modules.count >= modules.capacity) {
        uint32_t capacity = modules.capacity ? modules.capacity * 2 : 256;
        atf_module *items = realloc(modules.items, capacity * sizeof *items);
        if (!items) return 0;
        modules.items = items;
        modules.capacity = capacity;
    }
    PyObject *number = PyLong_FromLong(modules.count);
    if (!number || PyDict_SetItem(modules.numbers, name, number) < 0) {
        Py_XDECREF(number);
        return 0;
    }
    Py_DECREF(number);
    Py_INCREF(name);
    Py_XINCREF(file);
    modules.items[modules.count] = (atf_module){.name = name, .file = file};
    return modules.count++;
}

static PyObject *exact_str(PyObject *globals, PyObject *key)
{
    if (!globals || !PyDict_CheckExact(globals)) return NULL;
    PyObject *value = PyDict_GetItemWithError(globals, key);
    return value && PyUnicode_CheckExact(value) ? value : NULL;
}

/* Code that runs without a module's globals is named after its file: new reference. */
static PyObject *stem(PyObject *file)
{
    Py_ssize_t length = PyUnicode_GetLength(file);
    Py_ssize_t start = PyUnicode_FindChar(file, '/', 0, length, -1) + 1;
    Py_ssize_t end = start < length ? PyUnicode_FindChar(file, '.', start, length, -1) : -1;
    return PyUnicode_Substring(file, start < 0 ? 0 : start, end > start ? end : length);
}

static uint32_t module_of(PyCodeObject *code, PyObject *globals)
{
    PyObject *name = exact_str(globals, modules.key_name), *file = exact_str(globals, modules.key_file);
    if (!file) file = code->co_filename;
    PyObject *owned = name ? NULL : stem(code->co_filename);
    if (!name && !(name = owned)) return 0;
    uint32_t number = atf_module_number(name, file);
    Py_XDECREF(owned);
    return number;
}

static void put_name(uint64_t function_id, atf_module *m, PyCodeObject *code, PyObject *globals, PyObject *receiver)
{
    atf_text name;
#if PY_VERSION_HEX >= 0x030B0000
    (void)globals, (void)receiver;
    atf_text_set(&name, code->co_qualname);
#else
    PyObject *qualified = atf_qualified_name(code, globals, receiver);
    atf_text_set(&name, qualified);
    Py_XDECREF(qualified);
#endif
    uint8_t file[ATF_FILE_CHARS * ATF_UTF8_CHAR];
    size_t bytes = 0;
    if (m->file != code->co_filename && !(m->file && PyUnicode_Compare(m->file, code->co_filename) == 0)) {
        bytes = atf_utf8_put(file, code->co_filename, ATF_FILE_CHARS);
    }
    uint32_t line = code->co_firstlineno > 0 ? (uint32_t)code->co_firstlineno : 0;
    atf_name_put(ATF_NAME_FUNCTION, function_id, line, name.text, name.bytes, (char *)file, bytes);
}

static uint32_t flags_of(PyCodeObject *code)
{
    uint32_t flags = code->co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR) ? ATF_WORD_GENERATOR : 0;
    if (atf_is_secret(code->co_name)) flags |= ATF_WORD_SECRET_NAME;
#if PY_VERSION_HEX >= 0x030B0000
    PyObject *names = code->co_localsplusnames;
#else
    PyObject *names = code->co_varnames;
#endif
    Py_ssize_t arguments = code->co_argcount + code->co_kwonlyargcount + !!(code->co_flags & CO_VARARGS) + !!(code->co_flags & CO_VARKEYWORDS);
    for (Py_ssize_t i = 0; i < arguments && i < PyTuple_GET_SIZE(names); i++) {
        if (atf_is_secret(PyTuple_GET_ITEM(names, i))) flags |= ATF_WORD_SECRET_ARGS;
    }
    return flags;
}

ATF_COLD uint64_t atf_code_resolve(PyCodeObject *code, PyObject *globals, PyObject *receiver)
{
    uint64_t word = atf_code_word(code), failed = atf_vm.key | ATF_WORD_EXCLUDED;
    if (!atf_current.control) return 0; /* its name would be lost: in a forked child, or after the session's end */
    uint64_t heard = atf_joint_hush();
    atf_error error = atf_error_save();
    uint32_t number = word ? (uint32_t)(word >> 32) & 0xFFFF : module_of(code, globals);
    if (number) {
        atf_module *m = atf_module_current(number);
        uint32_t symbol = word ? (uint32_t)word >> 4 : m->symbols;
        uint32_t flags = word ? (uint32_t)word & 0xE : flags_of(code);
        uint64_t fresh = atf_vm.key | (uint64_t)number << 32 | symbol << 4 | flags | (m->excluded ? ATF_WORD_EXCLUDED : 0);
#if PY_VERSION_HEX >= 0x030C0000
        int set = PyUnstable_Code_SetExtra((PyObject *)code, atf_vm.index, (void *)(uintptr_t)fresh);
#else
        int set = _PyCode_SetExtra((PyObject *)code, atf_vm.index, (void *)(uintptr_t)fresh);
#endif
        if (set == 0) {
            if (!word) m->symbols++;
            if (!m->excluded) put_name(atf_word_function(fresh), m, code, globals, receiver);
            failed = fresh;
        }
    }
    atf_error_restore(error);
    atf_joint_speak(heard);
    return failed;
}
