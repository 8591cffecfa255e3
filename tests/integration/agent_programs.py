"""Small C and C++ programs, each after one thing that is hard to trace. A line "@name n" on their output says: name was called n times."""

HEAD = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pthread.h>
#include <signal.h>
#include <setjmp.h>
#include <errno.h>
#include <stdint.h>
#include <stdarg.h>
#include <ucontext.h>
#include <sys/wait.h>
#include <sys/time.h>
#define CALLS(name, n) printf("@%s %ld\n", #name, (long)(n))
#define KEEP __attribute__((noinline, noclone, used))
"""

C = {
    "recursion": r"""
KEEP long deep(long n) { volatile char pad[16]; pad[0] = 1; return n ? deep(n - 1) + pad[0] : 0; }
KEEP int even(unsigned n); KEEP int odd(unsigned n);
volatile int sink;
KEEP int even(unsigned n) { if (!n) return 1; int r = odd(n - 1); sink = r; return r; }
KEEP int odd(unsigned n) { if (!n) return 0; int r = even(n - 1); sink = r; return r; }
int main(void) { printf("%ld %d\n", deep(100000), even(30001)); CALLS(deep, 100001); CALLS(even, 15001); CALLS(odd, 15001); return 0; }
""",
    "values": r"""
typedef struct { long a[9]; double d; } big; typedef struct { double x, y; } two; typedef struct { long i; double d; } mixed;
KEEP big make_big(long k) { big b; for (int i = 0; i < 9; i++) b.a[i] = k * i; b.d = k / 3.0; return b; }
KEEP double sum_big(big b, double w) { double s = b.d * w; for (int i = 0; i < 9; i++) s += b.a[i]; return s; }
KEEP two make_two(double x) { two t = {x, -x}; return t; }
KEEP mixed make_mixed(long i, double d) { mixed m = {i + 1, d + 1}; return m; }
KEEP double nine(double a, double b, double c, double d, double e, double f, double g, double h, double i, long j) { return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + j; }
KEEP long ints(long a, long b, long c, long d, long e, long f, long g, long h, char i, short j) { return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j; }
KEEP long double extended(long double v) { return v * 3; }
KEEP double many(int n, ...) { va_list l; va_start(l, n); double s = 0; for (int i = 0; i < n; i++) s += i & 1 ? va_arg(l, double) : va_arg(l, int); va_end(l); return s; }
KEEP __int128 wide(__int128 a) { return a * a; }
KEEP float _Complex turned(float _Complex z) { return z * 1.0if; }
typedef int v8 __attribute__((vector_size(32)));
int main(void) {
    double s = 0; long t = 0; long double e = 0;
    for (int i = 0; i < 1000; i++) {
        big b = make_big(i); two w = make_two(i); mixed m = make_mixed(i, i / 7.0);
        s += sum_big(b, 1.5) + w.x - w.y + m.i + m.d + nine(1, 2, 3, 4, 5, 6, 7, 8, 9, i) + many(5, 1, 2.5, 3, 4.5, i);
        t += ints(1, 2, 3, 4, 5, 6, 7, 8, 9, (short)i) + (long)wide(i); e += extended(i); s += __real__ turned(i + 2.0if);
    }
    printf("%.6f %ld %.3Lf\n", s, t, e); CALLS(make_big, 1000); CALLS(many, 1000); CALLS(turned, 1000); CALLS(ints, 1000); return 0; }
""",
    "longjmp": r"""
static jmp_buf place; static long done;
KEEP void inner(int n) { volatile int k = n; if (k == 0) longjmp(place, 1); inner(k - 1); done = -1; }
KEEP int attempt(int n) { if (setjmp(place) == 0) { inner(n); return 0; } return 1; }
KEEP long after(long x) { return x + 1; }
int main(void) { for (int i = 0; i < 100000; i++) done = after(done) * attempt(i % 5); printf("%ld\n", done); CALLS(attempt, 100000); CALLS(inner, 300000); CALLS(after, 100000); return 0; }
""",
    "longjmp_in_a_loop": r"""
static jmp_buf place; static volatile long n;
KEEP void leave(void) { n++; longjmp(place, 1); }
KEEP void outer(void) { leave(); sleep(9); }
int main(void) { setjmp(place); if (n < 100000) outer(); printf("%ld\n", (long)n); CALLS(leave, 100000); CALLS(outer, 100000); return 0; }
""",
    "coroutines": r"""
static ucontext_t home, other[50]; static char stacks[50][65536]; static long sum;
KEEP long step(long k) { sum += k; return sum; }
KEEP void pause_in(int i) { volatile int k = i; swapcontext(&other[k], &home); step(k); }
KEEP void body(int i) { for (int k = 0; k < 20; k++) { step(1); pause_in(i); } }
KEEP void go(int i) { volatile int k = i; swapcontext(&home, &other[k]); step(2); }
int main(void) {
    for (int i = 0; i < 50; i++) { getcontext(&other[i]); other[i].uc_stack.ss_sp = stacks[i]; other[i].uc_stack.ss_size = 65536; other[i].uc_link = &home; makecontext(&other[i], (void (*)(void))body, 1, i); }
    for (int r = 0; r < 21; r++) for (int i = 0; i < 50; i++) go(i);
    printf("%ld\n", sum); CALLS(go, 1050); CALLS(body, 50); CALLS(pause_in, 1000); CALLS(step, 3050); return 0; }
""",
    "coroutines_that_call_last": r"""
static ucontext_t home, other[20]; static char stacks[20][65536]; static long sum;
KEEP long step(long k) { sum += k; return sum; }
KEEP void pause_in(int i) { volatile int k = i; swapcontext(&other[k], &home); step(k); }
KEEP void body(int i) { step(1); pause_in(i); step(3); pause_in(i); }
KEEP void go(int i) { volatile int k = i; swapcontext(&home, &other[k]); step(2); }
int main(void) {
    for (int i = 0; i < 20; i++) { getcontext(&other[i]); other[i].uc_stack.ss_sp = stacks[i]; other[i].uc_stack.ss_size = 65536; other[i].uc_link = &home; makecontext(&other[i], (void (*)(void))body, 1, i); }
    for (int r = 0; r < 3; r++) for (int i = 0; i < 20; i++) go(i);
    printf("%ld\n", sum); CALLS(go, 60); CALLS(body, 20); CALLS(pause_in, 40); CALLS(step, 140); return 0; }
""",
    "signals": r"""
static volatile long ticks;
KEEP int spin(int x) { return x + 1; }
KEEP void tick(void) { ticks++; }
KEEP void handler(int s) { int e = errno; tick(); errno = e; (void)s; }
static char other[65536];
int main(int argc, char **argv) {
    struct sigaction a = {0}; a.sa_handler = handler; a.sa_flags = SA_RESTART | (argc > 1 ? SA_ONSTACK : 0); sigaction(SIGALRM, &a, NULL); (void)argv;
    stack_t s = {.ss_sp = other, .ss_size = sizeof other}; if (argc > 1) sigaltstack(&s, NULL);
    struct itimerval t = {{0, 200}, {0, 200}}; setitimer(ITIMER_REAL, &t, NULL);
    long n = 0; while (ticks < 800) { n += spin(0); if (errno) abort(); }
    struct itimerval off = {{0, 0}, {0, 0}}; setitimer(ITIMER_REAL, &off, NULL);
    CALLS(handler, ticks); CALLS(tick, ticks); CALLS(spin, n); return 0; }
""",
    "threads": r"""
KEEP long job(long x) { long s = 0; for (int i = 0; i < 50; i++) s += x ^ i; return s; }
KEEP void *thread(void *p) { long s = 0; for (int i = 0; i < 500; i++) s += job((long)p + i); return (void *)s; }
int main(void) { long total = 0; for (int r = 0; r < 20; r++) { pthread_t t[10]; for (long i = 0; i < 10; i++) pthread_create(&t[i], NULL, thread, (void *)i); for (int i = 0; i < 10; i++) { void *v; pthread_join(t[i], &v); total += (long)v; } }
    printf("%ld\n", total); CALLS(thread, 200); CALLS(job, 100000); return 0; }
""",
    "thread_ends": r"""
static long cleaned, ended; static pthread_key_t key;
KEEP void clean(void *p) { (void)p; __atomic_add_fetch(&cleaned, 1, 5); }
KEEP void destroy(void *p) { (void)p; __atomic_add_fetch(&ended, 1, 5); }
KEEP void quit(int deep) { if (deep) { quit(deep - 1); asm volatile(""); return; } pthread_exit((void *)7L); }
KEEP void *exits(void *p) { pthread_setspecific(key, p); pthread_cleanup_push(clean, NULL); quit(3); pthread_cleanup_pop(0); return NULL; }
KEEP void wait_long(void) { for (;;) pause(); }
KEEP void *waits(void *p) { pthread_setspecific(key, p); pthread_cleanup_push(clean, NULL); wait_long(); pthread_cleanup_pop(0); return NULL; }
int main(void) { pthread_key_create(&key, destroy); long sum = 0;
    for (int i = 0; i < 50; i++) { pthread_t a, b; void *v; pthread_create(&a, NULL, exits, &key); pthread_create(&b, NULL, waits, &key); pthread_join(a, &v); sum += (long)v; pthread_cancel(b); pthread_join(b, &v); sum += v == PTHREAD_CANCELED; }
    printf("%ld %ld %ld\n", sum, cleaned, ended); CALLS(exits, 50); CALLS(quit, 200); CALLS(destroy, 100); return 0; }
""",
    "children": r"""
KEEP int task(int x) { return x * 2 + 1; }
KEEP int child(int x) { int s = 0; for (int i = 0; i < 100; i++) s += task(x + i); return s & 63; }
KEEP int parent(int i) { int s; pid_t p = fork(); if (p == 0) { s = child(i); _exit(s); } waitpid(p, &s, 0); return WEXITSTATUS(s); }
KEEP int spawn(void) { int s; pid_t p = vfork(); if (p == 0) { execl("/bin/true", "true", (char *)0); _exit(1); } waitpid(p, &s, 0); return WEXITSTATUS(s); }
int main(void) { int s = 0; for (int i = 0; i < 10; i++) s += parent(i) + task(i); for (int i = 0; i < 5; i++) s += spawn(); s += system("exit 4") >> 8; char *e = getenv("LD_PRELOAD"), *a = getenv("ATF_AGENT"); printf("%d %s %s\n", s, e ? e : "-", a ? a : "-");
    CALLS(task, 10); CALLS(parent, 10); CALLS(spawn, 5); return 0; }
""",
    "tail_calls": r"""
static long n;
KEEP void b(long k); KEEP void c(long k);
KEEP void a(long k) { n++; if (k) b(k - 1); }
KEEP void b(long k) { n++; if (k) c(k - 1); }
KEEP void c(long k) { n++; if (k) a(k - 1); }
int main(void) { a(300000); printf("%ld\n", n); CALLS(a, 100001); CALLS(b, 100000); CALLS(c, 100000); return 0; }
""",
    "flags": r"""
long plain_flags(void); long with_carry(long); asm(".globl with_carry\n.type with_carry,@function\nwith_carry: adc $0, %rdi\n mov %rdi, %rax\n cmp $5, %rax\n ret\n.size with_carry,.-with_carry");
KEEP long all(void) { long bad = 0; for (long i = 0; i < 1000; i++) { long r, z; unsigned long k10 = 0x1010, k11 = 0x1111;
    asm volatile("mov %4, %%rdi\n mov $0x1010, %%r10\n mov $0x1111, %%r11\n mov $0x22, %%rcx\n mov $0x33, %%rdx\n mov $0x44, %%rsi\n mov $0x55, %%r8\n mov $0x66, %%r9\n stc\n call with_carry\n setz %%dil\n movzbl %%dil, %%edi\n mov %%rdi, %1\n mov %%r10, %2\n mov %%r11, %3\n add %%rcx, %%r10\n cmp $0x22, %%rcx\n jne 1f\n cmp $0x33, %%rdx\n jne 1f\n cmp $0x44, %%rsi\n jne 1f\n cmp $0x55, %%r8\n jne 1f\n cmp $0x66, %%r9\n je 2f\n1: mov $-1, %%rax\n2: mov %%rax, %0" : "=&m"(r), "=&m"(z), "=&m"(k10), "=&m"(k11) : "r"(i) : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory");
    bad += r != i + 1 || z != (i == 4) || k10 != 0x1010 || k11 != 0x1111; } return bad; }
int main(void) { printf("%ld\n", all()); CALLS(with_carry, 1000); return 0; }
""",
}

CXX = {
    "throw": r"""
#include <stdexcept>
struct guard { long &n; ~guard() { n++; } };
KEEP int thrower(int n) { if (n % 3 == 0) throw std::runtime_error("three"); if (n % 3 == 1) throw n; return n; }
KEEP int through(int n, long &dead) { guard g{dead}; return thrower(n) + 1; }
KEEP long catcher(int n, long &dead) { try { return through(n, dead); } catch (int k) { return k * 2; } catch (const std::exception &) { return -1; } }
KEEP long outer(int n, long &dead) { long r = catcher(n, dead); return r + 1; }
int main() { long s = 0, dead = 0; for (int i = 0; i < 3000; i++) s += outer(i, dead); printf("%ld %ld\n", s, dead); CALLS(_Z7throweri, 3000); CALLS(_Z7throughiRl, 3000); CALLS(_Z5outeriRl, 3000); return 0; }
""",
    "rethrow": r"""
#include <exception>
#include <string>
KEEP void bottom(int n) { throw std::string("x") + std::to_string(n); }
KEEP void middle(int n) { try { bottom(n); } catch (...) { if (n & 1) throw; throw n; } }
KEEP int top(int n) { std::exception_ptr p; try { middle(n); } catch (...) { p = std::current_exception(); } try { std::rethrow_exception(p); } catch (int k) { return k; } catch (const std::string &s) { return (int)s.size(); } }
struct nested { ~nested() { try { bottom(1); } catch (const std::string &) { } } };
KEEP void with_nested(int n) { nested x; if (n) middle(n); }
KEEP int cleanup(int n) { try { with_nested(n); } catch (...) { return 1; } return 0; }
int main() { long s = 0; for (int i = 1; i <= 2000; i++) s += top(i) + cleanup(i); printf("%ld\n", s); CALLS(_Z3topi, 2000); CALLS(_Z6middlei, 4000); CALLS(_Z6bottomi, 6000); return 0; }
""",
    "noexcept": r"""
#include <exception>
KEEP void boom(int n) { if (n > 2) throw n; }
KEEP void never(int n) noexcept { boom(n); }
int main() { std::set_terminate([] { puts("terminated"); fflush(stdout); _exit(5); }); for (int i = 0; i < 10; i++) never(i); return 0; }
""",
    "backtrace": r"""
#include <execinfo.h>
KEEP int frames(int depth) { void *at[64]; if (depth) { int n = frames(depth - 1); asm volatile(""); return n; } return backtrace(at, 64); }
KEEP int ask(int d) { int n = frames(d); asm volatile(""); return n; }
int main() { int base = ask(0); for (int i = 0; i < 20; i++) printf("%d ", ask(i) - base); puts(""); CALLS(_Z3aski, 21); return 0; }
""",
}
