/* The function that is traced: three instructions. Each recorder that needs it builds this file, and only this one, its own way. */
#ifdef LTTNG
#include "atf_perf_event.h"
#endif

__attribute__((noinline)) int work(int x)
{
#ifdef LTTNG
    lttng_ust_tracepoint(atf_perf, call);
#endif
    return x * 3 + 1;
}
