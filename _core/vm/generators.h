/* From 3.13: which generators' frames run in this thread. A signal or an asynchronous exception is raised there at a
 * generator's resumption before PY_RESUME is told; the generator may catch it, run on, and leave without ever having been
 * entered. A frame that runs is known by its depth in the interpreter, so that is what is kept, for generators only. */
#ifndef ATF_GENERATORS_H
#define ATF_GENERATORS_H
#include "hooks.h"

#if PY_VERSION_HEX >= 0x030D0000
typedef struct atf_running {
    uint32_t epoch, count, capacity;
    uint32_t *depths; /* increasing; as many as generators are nested */
} atf_running;

extern _Thread_local atf_running *atf_running_here __attribute__((tls_model("initial-exec"), visibility("hidden")));
int atf_running_start(void); /* -1 with an exception set */
void atf_running_push(uint32_t depth);
void atf_running_clear(void);

static inline uint32_t atf_running_depth(void)
{
    PyThreadState *ts = PyThreadState_GetUnchecked();
    return (uint32_t)(ts->py_recursion_limit - ts->py_recursion_remaining);
}

/* The plain case, in two steps: asked before the record is written, done after it. */
static inline int atf_running_has_room(void)
{
    atf_running *r = atf_running_here;
    return ATF_LIKELY(r && r->epoch == atf_vm.epoch && r->count < r->capacity);
}
static inline int atf_running_is_top(uint32_t depth)
{
    atf_running *r = atf_running_here;
    return ATF_LIKELY(r && r->epoch == atf_vm.epoch && r->count && r->depths[r->count - 1] == depth);
}
static inline void atf_running_add(uint32_t depth) { atf_running_here->depths[atf_running_here->count++] = depth; }
static inline void atf_running_drop(void) { atf_running_here->count--; }

static inline void atf_generator_entered(void) { atf_running_push(atf_running_depth()); }

/* The generator's frame is being left: was its entry told? */
static inline int atf_generator_left(void)
{
    atf_running *r = atf_running_here;
    uint32_t depth = atf_running_depth();
    if (ATF_UNLIKELY(!r || r->epoch != atf_vm.epoch)) return 0;
    while (r->count && r->depths[r->count - 1] > depth) r->count--;
    if (!atf_running_is_top(depth)) return 0;
    r->count--;
    return 1;
}
#else
static inline int atf_running_start(void) { return 0; }
static inline void atf_running_push(uint32_t depth) { (void)depth; }
static inline void atf_running_clear(void) {}
static inline uint32_t atf_running_depth(void) { return 0; }
static inline int atf_running_has_room(void) { return 1; }
static inline int atf_running_is_top(uint32_t depth) { return depth == 0; }
static inline void atf_running_add(uint32_t depth) { (void)depth; }
static inline void atf_running_drop(void) {}
static inline void atf_generator_entered(void) {}
static inline int atf_generator_left(void) { return 1; }
#endif
#endif
