/* See bench.h. */
#include "bench.h"
#include "lane.h"
#include <errno.h>
#include <pthread.h>

typedef struct job {
    uint64_t records, begin_ns, end_ns, cpu_ns;
    int with_clock;
    uint32_t ended;
    pthread_t thread;
} job;

/* The record path as every producer takes it: the gate, then the record. */
static void *produce(void *arg)
{
    job *j = arg;
    if (!atf_enter()) return NULL; /* registers, and touches the rings' pages */
    uint64_t n = j->records, cpu = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    j->begin_ns = atf_clock_ns(CLOCK_MONOTONIC);
    if (j->with_clock)
        for (uint64_t i = 0; i < n; i++) {
            atf_thread *t = atf_enter();
            if (ATF_LIKELY(t != NULL)) atf_write(t, ATF_INSTANT, i, (uint32_t)i, ATF_NO_DETAIL);
        }
    else
        for (uint64_t i = 0; i < n; i++) {
            atf_thread *t = atf_enter();
            if (ATF_LIKELY(t != NULL)) atf_write_at(t, 1, ATF_INSTANT, i, (uint32_t)i, ATF_NO_DETAIL);
        }
    j->end_ns = atf_clock_ns(CLOCK_MONOTONIC);
    j->cpu_ns = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    atf_store_release32(&j->ended, 1);
    return NULL;
}

/* What the drain does to a ring, without the files. Returns the records read. */
static uint64_t consume(const atf_lane *lane, int peek, uint64_t expected, uint32_t *in_order)
{
    int claimed;
    uint32_t i = atf_lane_oldest(lane, peek, &claimed);
    if (i == ATF_NO_RING) return 0;
    atf_ring *r = atf_lane_ring(lane, i);
    const atf_event *events = (const atf_event *)((const char *)atf_current.global + r->offset);
    uint64_t head = atf_ring_committed(r), at = r->drained, wrong = 0, last = 0;
    for (uint64_t k = at; k < head; k++, expected++) {
        wrong |= (events[k].function_id ^ expected) | (events[k].call_depth ^ (uint32_t)expected) | (events[k].event_kind ^ ATF_INSTANT);
        wrong |= events[k].timestamp_ns < last;
        last = events[k].timestamp_ns;
    }
    if (wrong) *in_order = 0;
    r->drained = head;
    if (claimed) atf_lane_free(lane, i);
    else atf_ring_unpeek(r);
    return head - at;
}

int atf_bench_pair(uint64_t records, int with_clock, atf_bench_result *r)
{
    atf_control *c = atf_current.control;
    atf_lane lane = atf_index_lane(atf_current.registry, atf_slot_at(atf_current.registry, 0));
    job j = {.records = records, .with_clock = with_clock};
    uint64_t cpu = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    *r = (atf_bench_result){.in_order = 1};
    atf_store_relaxed64(&c->drain_heartbeat_ticks, atf_ticks(c->clock_type));
    int error = pthread_create(&j.thread, NULL, produce, &j);
    if (error) return error;
    for (;;) {
        uint32_t ended = atf_load_acquire32(&j.ended);
        uint64_t got = consume(&lane, (int)ended, r->records, &r->in_order);
        r->records += got;
        atf_store_relaxed64(&c->drain_heartbeat_ticks, atf_ticks(c->clock_type));
        if (got) continue;
        if (ended) break;
        struct timespec nap = {0, 50000};
        nanosleep(&nap, NULL);
    }
    r->elapsed_ns = atf_clock_ns(CLOCK_MONOTONIC) - j.begin_ns;
    r->consumer_cpu_ns = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    pthread_join(j.thread, NULL);
    r->producer_cpu_ns = j.cpu_ns;
    return 0;
}

int atf_bench_produce(uint64_t records, uint32_t threads, atf_bench_result *r)
{
    job jobs[256];
    uint32_t started = 0;
    int error = 0;
    if (threads > 256) return EINVAL;
    for (; started < threads && !error; started++) {
        jobs[started] = (job){.records = records, .with_clock = 1};
        error = pthread_create(&jobs[started].thread, NULL, produce, &jobs[started]);
        if (error) break;
    }
    uint64_t begin = UINT64_MAX, end = 0;
    *r = (atf_bench_result){.in_order = 1};
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(jobs[i].thread, NULL);
        if (jobs[i].begin_ns < begin) begin = jobs[i].begin_ns;
        if (jobs[i].end_ns > end) end = jobs[i].end_ns;
        r->producer_cpu_ns += jobs[i].cpu_ns;
    }
    r->elapsed_ns = end - begin;
    return error;
}
