/* Native threads that drive the record path for measurements: a pair through a ring pool, the cost of a record, and
 * producers for the drain. They write to atf_current of the module that holds them. Never includes Python.h. */
#ifndef ATF_BENCH_H
#define ATF_BENCH_H
#include "producer.h"

typedef struct atf_bench_result {
    uint64_t records;          /* that arrived */
    uint64_t elapsed_ns;       /* from the first record to the last that arrived */
    uint64_t producer_cpu_ns, consumer_cpu_ns;
    uint32_t in_order;         /* every record as it was written, none twice, none out of order */
} atf_bench_result;

/* One producer writes `records`, the calling thread consumes full rings. with_clock: each record with its own time.
 * 0 or an errno. A session with one slot must be open. */
int atf_bench_pair(uint64_t records, int with_clock, atf_bench_result *r);

/* `threads` producers write `records` each, and end. Only elapsed_ns and producer_cpu_ns are filled in. 0 or an errno. */
int atf_bench_produce(uint64_t records, uint32_t threads, atf_bench_result *r);
#endif
