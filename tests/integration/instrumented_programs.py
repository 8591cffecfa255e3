"""What is hard about functions that report their own calls. A line "@name n" says: name was called n times."""

INLINED = r"""
#include <alloca.h>
static jmp_buf place; static volatile long n;
#define ALWAYS static inline __attribute__((always_inline))
KEEP int leaf(int x) { __asm__ volatile(""); return x + 1; }
KEEP void leave(void) { longjmp(place, 1); }
ALWAYS int inner(int x) { return x * 3 + leaf(x); }
ALWAYS int around(int x) { return inner(x) + inner(x + 1); }
KEEP int uses(int x) { return around(x) + leaf(x); }
ALWAYS void soft(int k) { n++; if (k & 1) leave(); n++; }
KEEP int attempt(int k) { if (setjmp(place)) return 1; soft(k); return 0; }
KEEP long looped(int times) { volatile int i = 0; setjmp(place); while (i < times) { i++; soft(1); } return i; }
KEEP long sized(int bytes) { char *p = alloca(bytes); p[0] = 1; __asm__ volatile("" : : "r"(p) : "memory"); return leaf(bytes) + p[0]; }
KEEP void nothing(void) { __asm__ volatile(""); }
__attribute__((noinline, no_instrument_function)) int silent(int x) { return inner(x); }
/* Two functions of the same frame size, called from the same place, the first left by longjmp. */
KEEP void one(void) { leave(); n++; }
KEEP void two(void) { n++; nothing(); n++; }
KEEP void called(void (*f)(void)) { if (setjmp(place)) return; f(); }
int main(void) {
    long s = 0;
    for (int i = 0; i < 100; i++) s += uses(i) + attempt(i) + sized(i * 16 + 1) + silent(i);
    s += looped(50);
    for (int i = 0; i < 30; i++) called(i & 1 ? two : one);
    printf("%ld %ld\n", s, n);
    CALLS(leaf, 100 * 3 + 100 + 100); CALLS(inner, 300); CALLS(around, 100); CALLS(uses, 100); CALLS(soft, 150); CALLS(leave, 50 + 50 + 15);
    CALLS(attempt, 100); CALLS(looped, 1); CALLS(sized, 100); CALLS(silent, 100); CALLS(one, 15); CALLS(two, 15); CALLS(nothing, 15); CALLS(called, 30);
    return 0; }
"""

# Hooks of the program's own, called directly; they say what they were told.
OWN = r"""
#include <dlfcn.h>
static __thread long entered, left, strange;
#define QUIET __attribute__((no_instrument_function))
QUIET static int mine(void *p) { Dl_info i; return dladdr(p, &i) && (strstr(i.dli_fname, "program") || strstr(i.dli_fname, "libc")); }
QUIET void __cyg_profile_func_enter(void *f, void *site) { entered++; strange += !mine(f) || !mine(site); }
QUIET void __cyg_profile_func_exit(void *f, void *site) { left++; strange += !mine(f) || !mine(site); }
KEEP int leaf(int x) { __asm__ volatile(""); return x + 1; }
KEEP int middle(int x) { return leaf(x) + leaf(x + 1); }
QUIET int main(void) { long s = 0; for (int i = 0; i < 100; i++) s += middle(i); printf("%ld %ld %ld %ld\n", s, entered, left, strange); CALLS(leaf, 200); CALLS(middle, 100); CALLS(main, 1); return 0; }
"""

# The same hooks in a library.
HOOKS = r"""
#include <stdio.h>
static long entered, left;
void __cyg_profile_func_enter(void *f, void *site) { entered++; (void)f, (void)site; }
void __cyg_profile_func_exit(void *f, void *site) { left++; (void)f, (void)site; }
__attribute__((destructor)) static void told(void) { printf("%ld %ld\n", entered, left); fflush(stdout); }
"""
CALLER = r"""
KEEP int leaf(int x) { __asm__ volatile(""); return x + 1; }
KEEP int middle(int x) { return leaf(x) + leaf(x + 1); }
int main(void) { long s = 0; for (int i = 0; i < 100; i++) s += middle(i); printf("%ld\n", s); CALLS(leaf, 200); CALLS(middle, 100); CALLS(main, 1); return 0; }
"""

# Profiled by one thread, so that the counts in gmon.out are exact.
PROFILED = r"""
static jmp_buf place;
KEEP int leaf(int x) { __asm__ volatile(""); return x + 1; }
KEEP int middle(int x) { return leaf(x) + leaf(x + 1); }
KEEP int last(int x) { return leaf(x * 2); }
KEEP int deep(int k) { return k ? deep(k - 1) + leaf(k) : 0; }
KEEP void leave(int k) { if (!k) longjmp(place, 1); leave(k - 1); __asm__ volatile(""); }
KEEP int attempt(int k) { if (setjmp(place)) return 1; leave(k); return 0; }
KEEP double many(int k, ...) { va_list l; va_start(l, k); double s = 0; for (int i = 0; i < k; i++) s += i & 1 ? va_arg(l, double) : va_arg(l, int); va_end(l); return s; }
int main(void) { double s = 0; for (int i = 0; i < 100; i++) s += middle(i) + last(i) + attempt(i % 4) + many(3, 1, 2.5, i); s += deep(50); printf("%.1f\n", s);
    CALLS(leaf, 350); CALLS(middle, 100); CALLS(last, 100); CALLS(deep, 51); CALLS(leave, 250); CALLS(attempt, 100); CALLS(many, 100); return 0; }
"""

PLUGIN = r"""
int inside(int x) { __asm__ volatile(""); return x + 7; }
int again(int x) { __asm__ volatile(""); return inside(x) * 2; }
"""
LOADS = r"""
#include <dlfcn.h>
int main(int argc, char **argv) { long s = 0; (void)argc;
    for (int r = 0; r < 5; r++) { void *h = dlopen(argv[1], RTLD_NOW); if (!h) return 2; int (*f)(int) = (int (*)(int))dlsym(h, "again"); for (int i = 0; i < 10; i++) s += f(i); dlclose(h); }
    printf("%ld\n", s); CALLS(again, 50); CALLS(inside, 50); return 0; }
"""
LINKED = r"""
int again(int x);
int main(void) { long s = 0; for (int i = 0; i < 50; i++) s += again(i); printf("%ld\n", s); CALLS(again, 50); CALLS(inside, 50); return 0; }
"""
