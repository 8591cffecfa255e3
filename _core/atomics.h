/* Atomic access by name: the memory order is part of the name, so that it cannot be mistyped at the call.
 * Every use says in a comment which access it pairs with. Never includes Python.h. */
#ifndef ATF_ATOMICS_H
#define ATF_ATOMICS_H
#include <stdint.h>

#define ATF_LIKELY(x) __builtin_expect(!!(x), 1)
#define ATF_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ATF_BROKEN weakens every release and acquire to relaxed. It exists for one test: ThreadSanitizer must
 * catch that build, which proves that it would catch a real mistake. */
#ifdef ATF_BROKEN
#define ATF_ORDER_ACQUIRE __ATOMIC_RELAXED
#define ATF_ORDER_RELEASE __ATOMIC_RELAXED
#define ATF_ORDER_ACQ_REL __ATOMIC_RELAXED
#define ATF_ORDER_SEQ_CST __ATOMIC_RELAXED
#else
#define ATF_ORDER_ACQUIRE __ATOMIC_ACQUIRE
#define ATF_ORDER_RELEASE __ATOMIC_RELEASE
#define ATF_ORDER_ACQ_REL __ATOMIC_ACQ_REL
#define ATF_ORDER_SEQ_CST __ATOMIC_SEQ_CST
#endif

static inline uint32_t atf_load_relaxed32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint32_t atf_load_acquire32(const uint32_t *p) { return __atomic_load_n(p, ATF_ORDER_ACQUIRE); }
static inline void atf_store_relaxed32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void atf_store_release32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, ATF_ORDER_RELEASE); }
static inline uint32_t atf_add_acq_rel32(uint32_t *p, uint32_t v) { return __atomic_fetch_add(p, v, ATF_ORDER_ACQ_REL); }
static inline uint32_t atf_or_acq_rel32(uint32_t *p, uint32_t v) { return __atomic_fetch_or(p, v, ATF_ORDER_ACQ_REL); }
static inline uint32_t atf_and_acq_rel32(uint32_t *p, uint32_t v) { return __atomic_fetch_and(p, v, ATF_ORDER_ACQ_REL); }
static inline int atf_cas_acq_rel32(uint32_t *p, uint32_t expected, uint32_t wanted)
{
    return __atomic_compare_exchange_n(p, &expected, wanted, 0, ATF_ORDER_ACQ_REL, ATF_ORDER_ACQUIRE);
}

static inline uint64_t atf_load_relaxed64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint64_t atf_load_acquire64(const uint64_t *p) { return __atomic_load_n(p, ATF_ORDER_ACQUIRE); }
static inline void atf_store_relaxed64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void atf_store_release64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, ATF_ORDER_RELEASE); }
/* Adds to a counter that one thread writes and others look at. */
static inline void atf_count64(uint64_t *p, uint64_t v) { atf_store_relaxed64(p, atf_load_relaxed64(p) + v); }
static inline uint64_t atf_add_relaxed64(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
static inline uint64_t atf_add_acq_rel64(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, ATF_ORDER_ACQ_REL); }
static inline uint64_t atf_or_acq_rel64(uint64_t *p, uint64_t v) { return __atomic_fetch_or(p, v, ATF_ORDER_ACQ_REL); }
static inline uint64_t atf_and_acq_rel64(uint64_t *p, uint64_t v) { return __atomic_fetch_and(p, v, ATF_ORDER_ACQ_REL); }
static inline int atf_cas_acq_rel64(uint64_t *p, uint64_t expected, uint64_t wanted)
{
    return __atomic_compare_exchange_n(p, &expected, wanted, 0, ATF_ORDER_ACQ_REL, ATF_ORDER_ACQUIRE);
}

/* For two threads that each store one word and then look at the other's: at least one of them sees the other. */
static inline uint64_t atf_load_seq_cst64(const uint64_t *p) { return __atomic_load_n(p, ATF_ORDER_SEQ_CST); }
static inline void atf_store_seq_cst64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, ATF_ORDER_SEQ_CST); }
static inline int atf_cas_seq_cst64(uint64_t *p, uint64_t expected, uint64_t wanted)
{
    return __atomic_compare_exchange_n(p, &expected, wanted, 0, ATF_ORDER_SEQ_CST, ATF_ORDER_SEQ_CST);
}
static inline uint64_t atf_swap_acq_rel64(uint64_t *p, uint64_t v) { return __atomic_exchange_n(p, v, ATF_ORDER_ACQ_REL); }
/* What was read before is read before what is read behind it: for words that tell whether a copy is whole. ThreadSanitizer does not know
 * fences; what it checks does not rest on them. */
static inline void atf_fence_acquire(void)
{
#ifndef __SANITIZE_THREAD__
    __atomic_thread_fence(ATF_ORDER_ACQUIRE);
#endif
}

static inline void atf_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}
#endif
