/* Numbers that name an event for ever: a hash of the boot, the pid namespace, the start of the process and the moment of its first event; its
 * pid; and a count. No random numbers, no system call for each. As a UUID of version 8: 48 bits of the hash; then 22 of the pid, 52 of the
 * count, around the fixed ones. A forked child has another pid, so it never repeats its parent. Never includes Python.h. */
#ifndef ATF_IDENTITY_H
#define ATF_IDENTITY_H
#include "atomics.h"
#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t atf_identity_high, atf_identity_low; /* 0: not known yet, or of a parent */
static uint64_t atf_identity_count;
static _Thread_local uint32_t atf_identity_tid;

static inline void atf_identity_forked(void)
{
    atf_identity_high = 0;
    atf_identity_tid = 0;
}

static inline int atf_identity_known(void) { return atf_identity_high != 0; }

/* hash: of what tells this process from others that had its pid. Under the GIL. */
static inline void atf_identity_set(uint64_t hash, uint32_t pid)
{
    static int once;
    if (!once) pthread_atfork(NULL, NULL, atf_identity_forked);
    once = 1;
    atf_identity_low = 2ull << 62 | (uint64_t)(pid & 0x3FF) << 52;
    atf_identity_high = hash << 16 | 8u << 12 | (pid >> 10 & 0xFFF);
}

static inline uint64_t atf_identity_next(void)
{
    return atf_identity_low | (atf_add_relaxed64(&atf_identity_count, 1) & ((1ull << 52) - 1));
}

static inline uint32_t atf_thread_id(void)
{
    if (ATF_UNLIKELY(!atf_identity_tid)) {
#ifdef SYS_gettid
        atf_identity_tid = (uint32_t)syscall(SYS_gettid);
#else
        uint64_t id;
        pthread_threadid_np(NULL, &id);
        atf_identity_tid = (uint32_t)id;
#endif
    }
    return atf_identity_tid;
}

/* 36 characters. */
static inline void atf_identity_text(uint64_t high, uint64_t low, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        unsigned byte = (unsigned)((i < 8 ? high >> (56 - 8 * i) : low >> (120 - 8 * i)) & 0xFF);
        if (i == 4 || i == 6 || i == 8 || i == 10) *out++ = '-';
        *out++ = digits[byte >> 4];
        *out++ = digits[byte & 15];
    }
}
#endif
