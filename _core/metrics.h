/* What the drain counts for those who watch a recording. Counted a ring, a pass or a loss at a time, never by a producer.
 *
 *   events:  written + lost + filtered + held = expected     at every moment between two passes
 *   details: written + lost + unkept + held   = seen         of the events that were read
 *
 * written: w.events - gaps. The terms are counted where things happen and the right sides are the producer's own numbers, so the
 * sums check each other. Never includes Python.h. */
#ifndef ATF_METRICS_H
#define ATF_METRICS_H
#include <stdint.h>

#define ATF_RATE_NS 1000000000u /* rates and the lag are those of the last whole second */

typedef struct atf_thread_metrics {
    uint64_t gaps;                         /* GAP records in the file */
    uint64_t filtered;                     /* events that were forgotten: no window covers them */
    uint64_t held, details_held;           /* in the history: not decided yet */
    uint64_t details_seen;                 /* events that were read and refer to one */
    uint64_t swaps, detail_swaps;          /* full rings that were read to their end */
    uint64_t taken_back, details_refused, blocked_ns; /* the slot's, copied: it is another thread's afterwards */
    uint64_t rate, rate_from;              /* records a second; `expected` when this second began */
    uint32_t most_full;                    /* index rings that were full at once, as seen by passes */
} atf_thread_metrics;

typedef struct atf_source_metrics {
    uint64_t passes, write_ns;
    uint64_t lag_ns, lag_most_ns;          /* age of the oldest record when its ring was read */
    uint64_t lag_second_ns, second_from;   /* of the second in progress; its begin */
    uint64_t gone;                         /* records of threads that ended with a part: there is no row of these any more */
} atf_source_metrics;
#endif
