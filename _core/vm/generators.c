#include "generators.h"
#if PY_VERSION_HEX >= 0x030D0000
#include <pthread.h>

_Thread_local atf_running *atf_running_here __attribute__((tls_model("initial-exec"), visibility("hidden")));
static pthread_key_t key;
static int key_made;

static void destroy(void *pointer)
{
    free(((atf_running *)pointer)->depths);
    free(pointer);
}

int atf_running_start(void)
{
    if (!key_made && pthread_key_create(&key, destroy) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    key_made = 1;
    return 0;
}

void atf_running_clear(void)
{
    if (atf_running_here) atf_running_here->count = 0;
}

ATF_COLD void atf_running_push(uint32_t depth)
{
    atf_running *r = atf_running_here;
    if (!r) {
        if (!(r = calloc(1, sizeof *r))) return;
        if (pthread_setspecific(key, r) != 0) {
            free(r);
            return;
        }
        atf_running_here = r;
    }
    if (r->epoch != atf_vm.epoch) r->count = 0;
    r->epoch = atf_vm.epoch;
    if (r->count == r->capacity) {
        uint32_t capacity = r->capacity ? r->capacity * 2 : 64;
        uint32_t *depths = realloc(r->depths, capacity * sizeof *depths);
        if (!depths) return;
        r->depths = depths;
        r->capacity = capacity;
    }
    r->depths[r->count++] = depth;
}
#else
typedef int atf_generators_unused;
#endif
