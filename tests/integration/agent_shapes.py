"""More C programs, each after one thing that is hard to trace.

What a program says of itself: "@name n": name was called n times; "~name low high": so often, give or take; "> depth name",
"< depth name", "! depth name": the first thread's calls, returns and exceptions, in order.
"""

from agent_programs import HEAD

TREE = (
    HEAD
    + r"""
#define BETWEEN(name, low, high) printf("~%s %ld %ld\n", #name, (long)(low), (long)(high))
#define MINE static inline __attribute__((always_inline))
static struct { char kind; int depth; const char *name; } told[1 << 17]; static int told_n, at_depth;
MINE void tell(char kind, const char *name) { if (told_n < (int)(sizeof told / sizeof *told)) { told[told_n].kind = kind; told[told_n].depth = at_depth; told[told_n++].name = name; } }
#define IN (at_depth++, tell('>', __func__))
#define OUT (tell('<', __func__), at_depth--)
MINE void tell_all(void) { for (int i = 0; i < told_n; i++) printf("%c %d %s\n", told[i].kind, told[i].depth, told[i].name); fflush(stdout); }
"""
)

C = {
    "tree_of_returns": r"""
KEEP int leaf(int x) { IN; x = x * 7 + 1; OUT; return x; }
KEEP int branch(int n) { IN; int s = 0; for (int i = 0; i < n; i++) s += n > 1 ? branch(n - 1) : leaf(i); OUT; return s; }
int main(void) { IN; int s = 0; for (int i = 0; i < 6; i++) s += branch(i); OUT; printf("%d\n", s); tell_all(); return 0; }
""",
    "tree_of_longjmps": r"""
static jmp_buf here, outer; static volatile int turn;
KEEP void away(int n) { IN; if (n) away(n - 1); else longjmp(turn % 3 ? here : outer, 1 + turn % 7); OUT; }
KEEP int tries(int n) { IN; volatile int mine = at_depth; if (setjmp(here) == 0) away(n); at_depth = mine; away(turn % 2 ? -1 : n); OUT; return n; }
KEEP void side(void) { IN; OUT; }
int main(void) { IN; volatile int mine = at_depth;
    for (turn = 0; turn < 400; turn++) { if (setjmp(outer) == 0) { if (turn % 2 == 0) tries(turn % 5); } else { at_depth = mine; side(); } at_depth = mine; }
    OUT; tell_all(); return 0; }
""".replace("away(turn % 2 ? -1 : n);", ""),
    "tree_of_faults": r"""
static sigjmp_buf back; static long caught;
KEEP void fall(int depth) { IN; if (depth) fall(depth - 1); else *(volatile int *)8 = 1; OUT; }
KEEP void handler(int s) { IN; caught += s; siglongjmp(back, 1); }
int main(void) { IN; volatile int mine = at_depth; struct sigaction a = {0}; a.sa_handler = handler; sigaction(SIGSEGV, &a, NULL);
    for (volatile int i = 0; i < 1000; i++) { if (sigsetjmp(back, 1) == 0) fall(i % 4); at_depth = mine; }
    OUT; printf("%ld\n", caught); tell_all(); return 0; }
""",
    "tree_of_handlers": r"""
KEEP void quiet(void) { IN; OUT; }
KEEP void innermost(int s) { IN; (void)s; quiet(); OUT; }
KEEP void inner(int s) { IN; (void)s; quiet(); raise(SIGWINCH); quiet(); OUT; }
KEEP void first(int s) { IN; (void)s; raise(SIGUSR2); quiet(); raise(SIGUSR2); OUT; }
static char other[1 << 16];
int main(void) { IN; struct sigaction a = {0}; stack_t s = {.ss_sp = other, .ss_size = sizeof other}; sigaltstack(&s, NULL);
    for (int round = 0; round < 400; round++) { int flags[3] = {round & 1 ? SA_ONSTACK : 0, round & 2 ? SA_ONSTACK : 0, round & 4 ? SA_ONSTACK : 0};
        a.sa_handler = first; a.sa_flags = flags[0]; sigaction(SIGUSR1, &a, NULL); a.sa_handler = inner; a.sa_flags = flags[1]; sigaction(SIGUSR2, &a, NULL); a.sa_handler = innermost; a.sa_flags = flags[2]; sigaction(SIGWINCH, &a, NULL);
        quiet(); raise(SIGUSR1); quiet(); }
    OUT; tell_all(); return 0; }
""",
    "tree_around_main": r"""
KEEP void said(void) { IN; OUT; }
KEEP __attribute__((constructor(200))) void early(void) { IN; said(); OUT; }
KEEP __attribute__((constructor)) void later(void) { IN; OUT; }
KEEP __attribute__((destructor)) void after(void) { IN; said(); OUT; }
KEEP void leaving(void) { IN; said(); OUT; }
KEEP void leaving_too(void) { IN; OUT; }
__attribute__((destructor(200))) void _last(void) { tell_all(); }
int main(int argc, char **argv) { IN; atexit(leaving); atexit(leaving_too); said(); (void)argv; if (argc == 1) exit(3); OUT; return 0; }
""",
    "jumps_out_of_handlers": r"""
static sigjmp_buf back; static volatile sig_atomic_t inside; static volatile long jumps, begun[2], done[2];
KEEP void low(void) { begun[0]++; asm volatile("" : : : "memory"); done[0]++; }
KEEP void high(void) { begun[1]++; for (int i = 0; i < 3; i++) low(); done[1]++; }
KEEP void handler(int s) { (void)s; if (inside) { inside = 0; jumps++; siglongjmp(back, 1); } }
int main(void) { struct sigaction a = {0}; a.sa_handler = handler; sigaction(SIGALRM, &a, NULL); struct itimerval t = {{0, 250}, {0, 250}};
    setitimer(ITIMER_REAL, &t, NULL);
    while (jumps < 400) if (sigsetjmp(back, 1) == 0) { inside = 1; for (;;) high(); }
    struct itimerval off = {{0, 0}, {0, 0}}; setitimer(ITIMER_REAL, &off, NULL);
    BETWEEN(low, begun[0], begun[0] + jumps); BETWEEN(high, begun[1], begun[1] + jumps); return 0; }
""",
    "cancelled": r"""
static long cleaned, started; static volatile long turns;
KEEP void clean(void *p) { (void)p; __atomic_add_fetch(&cleaned, 1, 5); }
KEEP long turn(long x) { asm volatile(""); return x + 1; }
KEEP void *deferred(void *p) { pthread_cleanup_push(clean, p); __atomic_add_fetch(&started, 1, 5); for (;;) { turns = turn(turns); pthread_testcancel(); } pthread_cleanup_pop(0); return NULL; }
KEEP void *sleeps(void *p) { pthread_cleanup_push(clean, p); __atomic_add_fetch(&started, 1, 5); for (;;) { turns = turn(turns); usleep(1000000); } pthread_cleanup_pop(0); return NULL; }
KEEP void *at_once(void *p) { int old; pthread_cleanup_push(clean, p); pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old); __atomic_add_fetch(&started, 1, 5); for (;;) turns = turn(turns); pthread_cleanup_pop(0); return NULL; }
int main(void) { long cancelled = 0; void *(*kinds[3])(void *) = {deferred, sleeps, at_once};
    for (int i = 0; i < 60; i++) { pthread_t t; void *v; pthread_create(&t, NULL, kinds[i % 3], NULL); while (__atomic_load_n(&started, 5) <= i) sched_yield(); for (int k = 0; k < i % 7; k++) sched_yield(); pthread_cancel(t); pthread_join(t, &v); cancelled += v == PTHREAD_CANCELED; }
    printf("%ld %ld %ld\n", cancelled, cleaned, started); CALLS(deferred, 20); CALLS(sleeps, 20); CALLS(at_once, 20); CALLS(clean, 60); return 0; }
""",
    "short_threads": r"""
static long sum;
KEEP long job(long x) { asm volatile(""); return x ^ 5; }
KEEP void *brief(void *p) { long s = 0; for (int i = 0; i < 10; i++) s += job((long)p + i); __atomic_add_fetch(&sum, s, 5); return NULL; }
int main(void) { for (long r = 0; r < 150; r++) { pthread_t t[8]; for (long i = 0; i < 8; i++) pthread_create(&t[i], NULL, brief, (void *)(r * 8 + i)); for (int i = 0; i < 8; i++) pthread_join(t[i], NULL); }
    printf("%ld\n", sum); CALLS(brief, 1200); CALLS(job, 12000); return 0; }
""",
    "threads_at_once": r"""
static pthread_barrier_t all; static long sum;
KEEP long job(long x) { asm volatile(""); return x * 3; }
KEEP void *waits(void *p) { long s = 0; pthread_barrier_wait(&all); for (int i = 0; i < 100; i++) s += job((long)p + i); __atomic_add_fetch(&sum, s, 5); pthread_barrier_wait(&all); return NULL; }
int main(void) { pthread_t t[200]; pthread_barrier_init(&all, NULL, 200); for (long i = 0; i < 200; i++) pthread_create(&t[i], NULL, waits, (void *)i); for (int i = 0; i < 200; i++) pthread_join(t[i], NULL);
    printf("%ld\n", sum); CALLS(waits, 200); CALLS(job, 20000); return 0; }
""",
    "generators_in_two_threads": r"""
static ucontext_t gen[8]; static volatile int wants[8]; static ucontext_t *volatile resumer[8]; static char stacks[8][1 << 16]; static long values[8]; static pthread_barrier_t step;
KEEP long next_value(long v) { asm volatile(""); return v * 3 + 1; }
KEEP void yield_to(int g) { volatile int k = g; swapcontext(&gen[k], resumer[k]); }
KEEP void generator(int g) { volatile int k = g; for (;;) { values[k] = next_value(values[k]) % 1000003; yield_to(k); } }
KEEP void resume(int g) { ucontext_t mine; volatile int k = g; volatile int first = 1; getcontext(&mine); if (first) { first = 0; resumer[k] = &mine; setcontext(&gen[k]); } }
KEEP void *driver(void *p) { long me = (long)p; for (int round = 0; round < 400; round++) { for (int g = 0; g < 8; g++) if ((g + round) % 2 == me) resume(g); pthread_barrier_wait(&step); } return NULL; }
int main(void) { pthread_barrier_init(&step, NULL, 2); for (int g = 0; g < 8; g++) { values[g] = g + 1; getcontext(&gen[g]); gen[g].uc_stack.ss_sp = stacks[g]; gen[g].uc_stack.ss_size = sizeof stacks[g]; makecontext(&gen[g], (void (*)(void))generator, 1, g); }
    pthread_t a, b; pthread_create(&a, NULL, driver, (void *)0); pthread_create(&b, NULL, driver, (void *)1); pthread_join(a, NULL); pthread_join(b, NULL);
    long s = 0; for (int g = 0; g < 8; g++) s += values[g]; printf("%ld\n", s); CALLS(resume, 3200); CALLS(generator, 8); CALLS(next_value, 3200); CALLS(yield_to, 3200); return 0; }
""",
    "coroutines_that_end_in_a_tail_call": r"""
static ucontext_t home, other[20]; static char stacks[20][65536]; static long sum;
KEEP long step(long k) { sum += k; return sum; }
KEEP void rests(int i) { volatile int k = i; swapcontext(&other[k], &home); step(k); }
KEEP void body(int i) { for (int k = 0; k < 5; k++) { step(1); rests(i); } rests(i); }
KEEP void go(int i) { volatile int k = i; swapcontext(&home, &other[k]); step(2); }
int main(void) { for (int i = 0; i < 20; i++) { getcontext(&other[i]); other[i].uc_stack.ss_sp = stacks[i]; other[i].uc_stack.ss_size = 65536; other[i].uc_link = &home; makecontext(&other[i], (void (*)(void))body, 1, i); }
    for (int r = 0; r < 7; r++) for (int i = 0; i < 20; i++) go(i);
    printf("%ld\n", sum); CALLS(go, 140); CALLS(body, 20); CALLS(rests, 120); CALLS(step, 140 + 100 + 120); return 0; }
""",
    "vectors": r"""
typedef float f8 __attribute__((vector_size(32))); typedef double d2 __attribute__((vector_size(16))); typedef int i16 __attribute__((vector_size(64)));
typedef struct { float a, b, c; } three; typedef struct { long double l; int i; } odd; typedef union { double d; long l; } either; typedef struct { char c[3]; } tiny; typedef struct { double m[40]; } huge;
#define AVX __attribute__((target("avx2"))) KEEP
#define AVX5 __attribute__((target("avx512f"))) KEEP
AVX f8 wide(f8 a, f8 b, f8 c, f8 d, f8 e, f8 f, f8 g, f8 h, f8 onstack) { return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * onstack; }
AVX double run_wide(int n) { double s = 0; for (int i = 0; i < n; i++) { f8 v = {i, 1, 2, 3, 4, 5, 6, 7}; f8 r = wide(v, v, v, v, v, v, v, v + 1, v); for (int k = 0; k < 8; k++) s += r[k]; } return s; }
AVX5 i16 widest(i16 a, i16 b) { return a * b + a; }
AVX5 long run_widest(int n) { long s = 0; for (int i = 0; i < n; i++) { i16 v = {i, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}; i16 r = widest(v, v + 1); for (int k = 0; k < 16; k++) s += r[k]; } return s; }
KEEP d2 pair(d2 a, double b) { return a * b; } KEEP three small(float x) { three t = {x, x + 1, x * 2}; return t; } KEEP odd mixed(odd o, long double w) { o.l *= w; o.i++; return o; }
KEEP either both(either e) { e.d += 1; return e; } KEEP tiny bytes(tiny t) { t.c[2]++; return t; } KEEP huge copy(huge h, int k) { h.m[k] += k; return h; }
KEEP long double _Complex turned(long double _Complex z) { return z * z; } KEEP float narrow(float a, double b, float c) { return a + (float)b * c; } KEEP _Bool yes(char c) { return c > 3; }
KEEP double average(int n, ...) { va_list l; va_start(l, n); double s = 0; for (int i = 0; i < n; i++) { s += va_arg(l, double); s += va_arg(l, long); long double e = va_arg(l, long double); s += (double)e; } va_end(l); return s / n; }
int main(void) { double s = 0; long t = 0; int n = 500; if (__builtin_cpu_supports("avx2")) s += run_wide(n); if (__builtin_cpu_supports("avx512f")) t += run_widest(n);
    for (int i = 0; i < n; i++) { d2 p = {i, i + 1}; p = pair(p, 1.5); three k = small(i); odd o = {i, i}; o = mixed(o, 1.25L); either e; e.d = i; e = both(e); tiny b = {{1, 2, (char)i}}; b = bytes(b); huge h = {{0}}; h = copy(h, i % 40); long double _Complex z = turned(i + 2.0il);
        s += p[0] + p[1] + k.a + k.b + k.c + (double)o.l + e.d + h.m[i % 40] + (double)__real__ z + narrow(i, 2.5, 3) + average(3, 1.5, 2L, 3.5L, 4.5, 5L, 6.5L, 7.5, 8L, (long double)i); t += o.i + b.c[2] + yes((char)i); }
    printf("%.4f %ld\n", s, t); CALLS(pair, n); CALLS(small, n); CALLS(mixed, n); CALLS(copy, n); CALLS(average, n); CALLS(turned, n); return 0; }
""",
    "gotos_and_blocks": r"""
#include <alloca.h>
KEEP int machine(const unsigned char *code) { static void *const to[] = {&&stop, &&add, &&twice, &&loop}; int x = 1, left = 5; const unsigned char *at = code; goto *to[*at++];
add: x += 3; goto *to[*at++]; twice: x *= 2; goto *to[*at++]; loop: if (left--) at = code; goto *to[*at++]; stop: return x; }
KEEP long sum_of(const int *v, int n) { long s = 0; for (int i = 0; i < n; i++) s += v[i]; return s; }
KEEP long vla(int n) { int v[n]; for (int i = 0; i < n; i++) v[i] = i; return sum_of(v, n); }
KEEP long from_stack(int n) { int *v = alloca((size_t)n * sizeof *v); for (int i = 0; i < n; i++) v[i] = i * 2; return sum_of(v, n); }
KEEP long aligned(int n) { _Alignas(256) volatile int v[64]; for (int i = 0; i < 64; i++) v[i] = i * n; return sum_of((const int *)v, 64) + ((uintptr_t)v & 255); }
int main(void) { long s = 0; const unsigned char code[] = {1, 2, 3, 1, 0}; for (int i = 1; i < 300; i++) s += machine(code) + vla(i) + from_stack(i) + aligned(i);
    printf("%ld\n", s); CALLS(machine, 299); CALLS(vla, 299); CALLS(from_stack, 299); CALLS(aligned, 299); CALLS(sum_of, 897); return 0; }
""",
    "chosen_at_load": r"""
KEEP int fast(int x) { asm volatile(""); return x + 1; } KEEP int plain(int x) { asm volatile(""); return x + 1; }
KEEP void *_choose(void) { __builtin_cpu_init(); return __builtin_cpu_supports("sse2") ? (void *)fast : (void *)plain; }
int chosen(int x) __attribute__((ifunc("_choose")));
int main(void) { int s = 0; for (int i = 0; i < 500; i++) s = chosen(s); printf("%d\n", s); CALLS(fast, 500); CALLS(plain, 0); return 0; }
""",
    "other_children": r"""
#include <spawn.h>
extern char **environ;
KEEP long job(long x) { asm volatile(""); return x + 2; }
KEEP int spawned(const char *what) { pid_t p; int s; char *words[] = {"sh", "-c", (char *)what, NULL}; posix_spawn(&p, "/bin/sh", NULL, NULL, words, environ); waitpid(p, &s, 0); return WEXITSTATUS(s); }
KEEP int piped(void) { char text[64] = ""; FILE *f = popen("echo piped", "r"); if (fgets(text, sizeof text, f)) fputs(text, stdout); return pclose(f); }
static volatile int over; static long others[2];
KEEP void *works(void *p) { long n = 0, s = 0; while (!over) { s = job(s); n++; } *(long *)p = n; return NULL; }
KEEP int forks(int k) { int s; pid_t p = fork(); if (!p) { long r = 0; for (int i = 0; i < 50; i++) r = job(r); _exit((int)r & 127); } waitpid(p, &s, 0); return WEXITSTATUS(s) + k; }
int main(void) { int s = 0; pthread_t t[2]; for (int i = 0; i < 2; i++) pthread_create(&t[i], NULL, works, &others[i]); for (int i = 0; i < 20; i++) s += forks(i); s += spawned("exit 7") + spawned("true"); fflush(stdout); s += piped(); over = 1; for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    printf("%d\n", s); CALLS(forks, 20); CALLS(spawned, 2); CALLS(piped, 1); CALLS(job, others[0] + others[1]); return 0; }
""",
    "leaves_in_the_middle": r"""
KEEP void bottom(int how) { if (how == 0) _exit(9); if (how == 1) abort(); if (how == 2) *(volatile int *)8 = 1; if (how == 3) raise(SIGKILL); if (how == 4) exit(4); pthread_exit(NULL); }
KEEP void middle(int how) { bottom(how); asm volatile(""); }
int main(int argc, char **argv) { (void)argc; CALLS(middle, 1); CALLS(bottom, 1); CALLS(main, 1); fflush(stdout); middle(atoi(argv[1])); return 0; }
""",
}

GCC = {
    "nested_functions": r"""
KEEP int apply(int (*f)(int), int n) { int s = 0; for (int i = 0; i < n; i++) s += f(i); return s; }
KEEP int outer(int k) { int count = 0; __attribute__((noinline)) int inner(int x) { count += k; return x + count; } return apply(inner, k); }
int main(void) { int s = 0; for (int i = 0; i < 40; i++) s += outer(i); printf("%d\n", s); CALLS(outer, 40); CALLS(apply, 40); return 0; }
""",
}
