/* One clock for all. The record path reads the processor's counter where it is constant (x86-64: the TSC if it is nonstop too,
 * 11 ns; aarch64 Linux: the generic timer, from which CLOCK_BOOTTIME is made there), else CLOCK_BOOTTIME (30 ns); anchors relate
 * ticks to CLOCK_BOOTTIME, in nanoseconds. Never includes Python.h. */
#ifndef ATF_CLOCK_H
#define ATF_CLOCK_H
#include "layout.h"
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#define ATF_GENERIC_TIMER
#endif

#ifndef CLOCK_BOOTTIME /* macOS: the clock that goes on while the machine sleeps */
#define CLOCK_BOOTTIME CLOCK_MONOTONIC_RAW
#endif

static inline uint64_t atf_clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t atf_ticks(uint32_t clock_type)
{
#if defined(__x86_64__)
    if (ATF_LIKELY(clock_type == ATF_CLOCK_TSC)) return __rdtsc();
#elif defined(ATF_GENERIC_TIMER)
    if (ATF_LIKELY(clock_type == ATF_CLOCK_TSC)) {
        uint64_t ticks;
        __asm__ __volatile__("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory"); /* isb: not before what comes before it */
        return ticks;
    }
#else
    (void)clock_type;
#endif
    return atf_clock_ns(CLOCK_BOOTTIME);
}

#ifdef ATF_GENERIC_TIMER
static inline uint64_t atf_timer_hz(void)
{
    uint64_t hz;
    __asm__("mrs %0, cntfrq_el0" : "=r"(hz));
    return hz;
}
#endif

/* Constant rate, and running in every sleep state: CPUID 80000007h, EDX bit 8. */
static inline uint32_t atf_clock_detect(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;
    if (__get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & 0x100u)) return ATF_CLOCK_TSC;
#elif defined(ATF_GENERIC_TIMER)
    if (atf_timer_hz() >= 1000000u) return ATF_CLOCK_TSC; /* what the firmware did not set is 0 */
#endif
    return ATF_CLOCK_GETTIME;
}

/* Whether the ticks of a session are ours to read: an emulated process has another counter than its recorder. */
static inline int atf_clock_readable(uint32_t clock_type, uint64_t ticks_per_second)
{
    if (clock_type == ATF_CLOCK_GETTIME) return 1;
#if defined(__x86_64__)
    (void)ticks_per_second;
    return clock_type == ATF_CLOCK_TSC;
#elif defined(ATF_GENERIC_TIMER)
    uint64_t hz = atf_timer_hz(), apart = hz > ticks_per_second ? hz - ticks_per_second : ticks_per_second - hz;
    return clock_type == ATF_CLOCK_TSC && apart < hz / 64;
#else
    (void)ticks_per_second;
    return 0;
#endif
}

/* The narrowest of several tries: BOOTTIME is read between two reads of the ticks. */
static inline atf_anchor atf_anchor_now(uint32_t clock_type)
{
    atf_anchor best = {0, 0, 0};
    uint64_t narrowest = UINT64_MAX;
    for (int i = 0; i < 7; i++) {
        uint64_t before = atf_ticks(clock_type), ns = atf_clock_ns(CLOCK_BOOTTIME), after = atf_ticks(clock_type);
        if (after - before < narrowest) {
            narrowest = after - before;
            best.ticks = clock_type == ATF_CLOCK_TSC ? before + (after - before) / 2 : ns;
            best.boottime_ns = ns;
            best.unix_ns = atf_clock_ns(CLOCK_REALTIME) - (atf_clock_ns(CLOCK_BOOTTIME) - ns);
        }
    }
    return best;
}
#endif
