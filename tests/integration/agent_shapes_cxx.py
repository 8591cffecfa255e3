"""More C++ programs, each after one thing that is hard to trace. What they say of themselves: see agent_shapes."""

from agent_shapes import TREE

GUARDS = (
    "#include <exception>\n"
    + TREE
    + r"""
struct told_guard { const char *name; int before = std::uncaught_exceptions(); MINE2 told_guard(const char *n) : name(n) { at_depth++; tell('>', n); } MINE2 ~told_guard() { tell(std::uncaught_exceptions() > before ? '!' : '<', name); at_depth--; } };
#define IN_CXX told_guard guard_of_this_call(__func__)
#define C extern "C" KEEP
""".replace("MINE2", "__attribute__((always_inline)) inline")
)

CXX = {
    "tree_of_exceptions": r"""
#include <stdexcept>
C int thrower(int n) { IN_CXX; if (n % 3 == 0) throw std::runtime_error("three"); if (n % 3 == 1) throw n; return n; }
C int through(int n) { IN_CXX; int r = n % 5 ? thrower(n) : through(n + 1); return r + 1; }
C int catches(int n) { IN_CXX; try { return through(n); } catch (int k) { return thrower(2) + k; } catch (const std::exception &) { try { return thrower(1); } catch (...) { return thrower(5); } } }
C int passes_on(int n) { IN_CXX; try { return through(n); } catch (...) { if (n & 1) throw; return thrower(2); } }
C int last(int n) { IN_CXX; try { return passes_on(n); } catch (int) { return 1; } catch (...) { return 2; } }
int main() { long s = 0; { IN_CXX; for (int i = 0; i < 400; i++) s += catches(i) + last(i); } printf("%ld\n", s); tell_all(); }
""",
    "tree_of_cleanups": r"""
#include <stdexcept>
C void note(int n) { IN_CXX; asm volatile("" : : "r"(n)); }
C void risky(int n) { IN_CXX; if (n & 1) throw n; }
struct cleaner { int n; ~cleaner() { note(n); try { risky(n); } catch (int) { note(0); } } };
C void holds(int n) { IN_CXX; cleaner c{n}; risky(n); note(n); }
C void holds_more(int n) { IN_CXX; cleaner c{n + 1}; holds(n); cleaner d{n}; note(n); }
int main() { { IN_CXX; for (int i = 0; i < 200; i++) try { holds_more(i); } catch (int) { note(i); } } tell_all(); }
""",
    "deep_exceptions": r"""
struct counted { static long dead; ~counted() { dead++; } }; long counted::dead;
KEEP long deep(long n) { counted c; if (!n) throw 7L; volatile long r = deep(n - 1); return r + 1; }
KEEP long shield(long n) { try { return deep(n); } catch (long k) { return k; } }
int main() { long s = 0; for (int i = 0; i < 20; i++) s += shield(i * 300); printf("%ld %ld\n", s, counted::dead); CALLS(_Z4deepl, 57020); CALLS(_Z6shieldl, 20); }
""",
    "coroutines20": r"""
#include <coroutine>
#include <vector>
KEEP long made(long x) { asm volatile(""); return x * x; } KEEP long used(long x) { asm volatile(""); return x + 1; }
struct generator { struct promise_type { long value; generator get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; } std::suspend_always initial_suspend() { return {}; } std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always yield_value(long v) { value = v; return {}; } void return_void() {} void unhandled_exception() { throw; } }; std::coroutine_handle<promise_type> h; };
generator squares(long n) { for (long i = 0; i < n; i++) co_yield made(i); if (n == 7) throw 7; }
KEEP long drive(long n) { generator g = squares(n); long s = 0; try { for (g.h.resume(); !g.h.done(); g.h.resume()) s += used(g.h.promise().value); } catch (int k) { s += k; } g.h.destroy(); return s; }
KEEP long weave(int n) { std::vector<generator> all; for (int i = 0; i < n; i++) all.push_back(squares(20)); long s = 0; for (int r = 0; r < 20; r++) for (auto &g : all) { g.h.resume(); s += used(g.h.promise().value); } for (auto &g : all) g.h.destroy(); return s; }
int main() { long s = 0; for (int i = 0; i < 20; i++) s += drive(i); s += weave(10); printf("%ld\n", s); CALLS(_Z5drivel, 20); CALLS(_Z5weavei, 1); CALLS(_Z4madel, 190 + 200); CALLS(_Z4usedl, 190 + 200); }
""",
    "threads_of_the_library": r"""
#include <future>
#include <mutex>
#include <thread>
#include <vector>
#include <stdexcept>
static std::atomic<long> ended{0}; static std::once_flag once;
KEEP void last_words(long n) { ended += n; }
struct words { long n = 0; ~words() { last_words(n); } }; static thread_local words mine;
KEEP long job(long x) { mine.n++; asm volatile(""); if (x % 10 == 9) throw std::runtime_error("nine"); return x; }
KEEP void only_once() { ended += 1000; }
int main() { long s = 0, failed = 0; std::vector<std::thread> all; for (int i = 0; i < 20; i++) all.emplace_back([i] { std::call_once(once, only_once); for (int k = 0; k < 9; k++) job(i * 10 + k); }); for (auto &t : all) t.join();
    for (int i = 0; i < 60; i++) { auto f = std::async(std::launch::async, job, i); try { s += f.get(); } catch (const std::exception &) { failed++; } }
    std::packaged_task<long(long)> task(job); auto f = task.get_future(); std::thread t(std::move(task), 19); t.join(); try { s += f.get(); } catch (const std::exception &) { failed++; }
    printf("%ld %ld %ld\n", s, failed, ended.load()); CALLS(_Z3jobl, 20 * 9 + 61); CALLS(_Z10last_wordsl, 81); CALLS(_Z9only_oncev, 1); }
""".replace("#include <future>", "#include <atomic>\n#include <future>"),
    "statics": r"""
C void born(int n) { IN_CXX; asm volatile("" : : "r"(n)); } C void dead(int n) { IN_CXX; asm volatile("" : : "r"(n)); }
struct thing { int n; thing(int k) : n(k) { born(n); } ~thing() { dead(n); if (n == 0) tell_all(); } };
static thing zero(0), one(1); C int local(int n) { IN_CXX; static thing two(2); return two.n + n; }
int main() { int s = 0; { IN_CXX; for (int i = 0; i < 5; i++) s += local(i); thing stays(3); } printf("%d\n", s); fflush(stdout); return s - 20; }
""",
    "virtual_calls": r"""
struct a { virtual long f(long x) { return x + 1; } virtual ~a() {} long pad = 1; }; struct b { virtual long g(long x) { return x + 2; } virtual ~b() {} long pad = 2; };
struct c : a, b { KEEP long f(long x) override { return x * 2 + a::pad; } KEEP long g(long x) override { return x * 3 + b::pad; } KEEP c *self() { return this; } };
struct v { virtual long h(long x) { return x; } virtual ~v() {} long pad = 3; }; struct w : virtual v { KEEP long h(long x) override { return x + pad; } };
KEEP long by_b(b *p, long x) { long r = p->g(x); asm volatile(""); return r; } KEEP long by_v(v *p, long x) { long r = p->h(x); asm volatile(""); return r; }
int main() { c one; w two; long s = 0; for (int i = 0; i < 500; i++) s += by_b(&one, i) + by_v(&two, i) + one.f(i); printf("%ld\n", s); CALLS(_ZN1c1gEl, 500); CALLS(_ZN1w1hEl, 500); CALLS(_ZN1c1fEl, 500); CALLS(_Z4by_bP1bl, 500); }
""",
    "names_of_frames": r"""
#include <dlfcn.h>
#include <execinfo.h>
C void where() { void *at[32]; int n = backtrace(at, 32); for (int i = 0; i < n; i++) { Dl_info d; if (dladdr(at[i], &d) && d.dli_sname) printf("%s ", d.dli_sname); } puts(""); }
C void second(int n) { if (n) second(n - 1); else where(); asm volatile(""); } C void first(int n) { second(n); asm volatile(""); }
int main() { for (int i = 0; i < 10; i++) first(i); CALLS(where, 10); CALLS(first, 10); CALLS(second, 55); }
""",
    "terminates": r"""
struct bad { ~bad() noexcept(false) { throw 2; } };
KEEP void throws() { bad b; throw 1; } KEEP void unseen() { throw 5; }
int main(int argc, char **argv) { std::set_terminate([] { puts("terminated"); fflush(stdout); _exit(6); }); CALLS(main, 1); (void)argv; if (argc > 1) unseen(); try { throws(); } catch (...) { puts("caught"); } }
""",
}
