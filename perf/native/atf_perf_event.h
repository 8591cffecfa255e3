/* One event of LTTng-UST without fields: what a call that is only counted costs there. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER atf_perf
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "./atf_perf_event.h"

#if !defined(ATF_PERF_TRACEPOINT_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define ATF_PERF_TRACEPOINT_H
#include <lttng/tracepoint.h>
LTTNG_UST_TRACEPOINT_EVENT(atf_perf, call, LTTNG_UST_TP_ARGS(), LTTNG_UST_TP_FIELDS())
#endif
#include <lttng/tracepoint-event.h>
