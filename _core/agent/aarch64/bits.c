/* What the compiler's own library would count in vector registers, which belong to the function that is called. */
#include <stdint.h>

__attribute__((visibility("hidden"))) int __popcountdi2(uint64_t v);
__attribute__((visibility("hidden"))) int __popcountdi2(uint64_t v)
{
    int n = 0;
    for (; v; v &= v - 1) n++;
    return n;
}
