/* memcpy and memset of the agent's own: libc's use vector registers, which belong to the function being called. The agent is
 * compiled for general registers only, so that a slow path needs to save no more than those. */
#include "arch.h"

__attribute__((visibility("hidden"))) void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    atf_arch_copy(to, from, n);
    return to;
}

__attribute__((visibility("hidden"))) void *memset(void *to, int value, size_t n)
{
    atf_arch_fill(to, value, n);
    return to;
}

__attribute__((visibility("hidden"))) int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;
    for (; n; n--, x++, y++)
        if (*x != *y) return *x - *y;
    return 0;
}
