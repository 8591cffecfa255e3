"""Programs that pass known values of every kind, and what a recording must say of each call: {function: (arguments, result)}."""

KEEP = "#define KEEP __attribute__((noinline, noclone, used))\n"

C = KEEP + r"""
#include <complex.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
enum colour { RED, GREEN = 7, BLUE = -2 };
typedef unsigned long size;
typedef int (*callback)(int);
struct two { double x, y; };
struct floats { float a, b, c; };
struct mixed { long i; double d; };
struct big { long a[5]; };
struct small { char c; short s; float f; };
struct bits { unsigned a : 3, b : 29; };
union either { double d; long i; };
KEEP int ints(int8_t a, uint8_t b, int16_t c, uint16_t d, int32_t e, uint32_t f, int64_t g, uint64_t h, short i) { __asm__ volatile(""); return (int)(a + b + c + d + e + f + g + h + i); }
KEEP float halves(float a, double b, int n, long double l, double c, float *p) { return (float)(a + b + n + (double)l + c + *p); }
KEEP double nine(double a, double b, double c, double d, double e, double f, double g, double h, double i, float j, int k) { return a + b + c + d + e + f + g + h + i + j + k; }
KEEP bool flags(bool yes, bool no, enum colour k, const char *text, void *null) { return yes && !no && k == BLUE && text && !null; }
KEEP enum colour choose(unsigned char n) { return n ? GREEN : BLUE; }
KEEP struct two pair(double x) { return (struct two){x, -x}; }
KEEP struct mixed mix(struct mixed m, struct two t, struct small s, int n) { m.i += s.s + n; m.d += t.x; return m; }
KEEP struct big huge(long k, struct big b, long after) { b.a[0] = k + after; return b; }
KEEP int tiny(struct bits b, union either u, struct floats f, int last) { return (int)(b.b + u.i + f.a + last); }
KEEP float _Complex turn(float _Complex z, double _Complex w) { return z * 1.0if + (float _Complex)w; }
KEEP __int128 wide(__int128 a, int b) { return a * b; }
KEEP long double longer(long double v) { return v * 2; }
KEEP int many(int n, ...) { va_list l; va_start(l, n); int s = 0; while (n--) s += va_arg(l, int); va_end(l); return s; }
KEEP size login(const char *user_password, size id) { return id + user_password[0]; }
KEEP int apply(callback f, int v) { int r = f(v); __asm__ volatile(""); return r; }
KEEP int fact(int n) { return n < 2 ? 1 : n * fact(n - 1); }
static volatile int sink;
KEEP void nothing(void) { sink++; }
int main(void) {
    float half = 0.5f;
    int s = ints(-1, 200, -300, 60000, -70000, 4000000000u, -5000000000, 18000000000000000000ull, -9);
    s += halves(1.5f, -2.25, 3, 4.5L, 1e30, &half) > 0;
    s += (int)nine(1, 2, 3, 4, 5, 6, 7, 8, 9.5, 10.25f, -11);
    s += flags(true, false, BLUE, "text", (void *)0) + choose(1) + (int)pair(2.5).y;
    s += (int)mix((struct mixed){5, 6.5}, (struct two){1.25, 2}, (struct small){'a', -3, 0.5f}, 1).i;
    s += (int)huge(9, (struct big){{1, 2, 3, 4, 5}}, 3).a[1];
    s += tiny((struct bits){5, 6}, (union either){.i = 7}, (struct floats){1, 2, 3}, 77);
    s += (int)crealf(turn(1 + 2.0if, 3 - 4.0i)) + (wide((__int128)-7 << 70, 2) < 0) + (int)longer(-1.25L) + many(3, 10, 20, 30);
    nothing();
    s += (int)login("geheim", 42) + fact(5) + apply(fact, 3);
    printf("%d\n", s);
    return 0;
}
"""
HALF, EVERY = "0x", None  # a pointer; anything
C_SAYS = {
    "ints": ({"a": -1, "b": 200, "c": -300, "d": 60000, "e": -70000, "f": 4000000000, "g": -5000000000, "h": 18000000000000000000, "i": -9}, EVERY),
    "halves": ({"a": 1.5, "b": -2.25, "n": 3, "l": 4.5, "c": 1e30, "p": HALF}, 1.0000000150474662e30),
    "nine": ({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 5.0, "f": 6.0, "g": 7.0, "h": 8.0, "i": 9.5, "j": 10.25, "k": -11}, 44.75),
    "flags": ({"yes": True, "no": False, "k": "BLUE", "text": HALF, "null": "0x0"}, True),
    "choose": ({"n": 1}, "GREEN"),
    "pair": ({"x": 2.5}, "0x4004000000000000 0xc004000000000000"),
    "mix": ({"m": "0x5 0x401a000000000000", "t": "0x3ff4000000000000 0x4000000000000000", "s": EVERY, "n": 1}, "0x3 0x401f000000000000"),
    "huge": ({"k": 9, "b": "0x1 0x2 0x3 0x4 0x5", "after": 3}, "at 0x"),
    "tiny": ({"b": EVERY, "u": "0x7", "f": EVERY, "last": 77}, EVERY),
    "turn": ({"z": [1.0, 2.0], "w": [3.0, -4.0]}, [1.0, -3.0]),
    "wide": ({"a": -7 << 70, "b": 2}, -7 << 71),
    "longer": ({"v": -1.25}, "…"),
    "many": ({"n": 3, "…": EVERY}, 60),
    "login": ({"user_password": "***", "id": 42}, 42 + ord("g")),
    "apply": ({"f": HALF, "v": 3}, 6),
    "nothing": ({}, None),
    "main": ({}, 0),
}

CXX = KEEP + r"""
#include <cstdio>
#include <stdexcept>
#include <string>
namespace shop {
enum class Kind : unsigned char { small = 3, large = 200 };
struct Point { int x, y; };
struct Named { std::string name; int n; };
struct Empty {};
class Basket {
public:
    explicit KEEP Basket(int first) : total(first) {}
    KEEP int add(int price, Kind kind) { if (price < 0) throw std::runtime_error("price"); total += price + int(kind); return total; }
    KEEP static long sum(const Point &p, Point &&q, Point by_value) { return p.x + q.y + by_value.y; }
    KEEP virtual double scaled(double by) const { return total * by; }
    virtual ~Basket() = default;
private:
    int total;
};
KEEP int named(Named value, int after) { return value.n + after; }
KEEP Named make(int n) { return {"name", n}; }
KEEP int with_empty(Empty, int after) { volatile int kept = after; return kept; }
template <typename T> KEEP T twice(T value) { return value + value; }
KEEP int guarded(Basket &b, int price) { try { return b.add(price, Kind::small); } catch (const std::exception &) { return -1; } }
KEEP int pointed(int (Basket::*member)(int, Kind), int Basket::*, std::nullptr_t, char16_t letter) { return letter + (member != nullptr); }
}
int main() {
    using namespace shop;
    Basket b(5);
    long s = b.add(10, Kind::large) + guarded(b, -4);
    Point p{1, 2};
    s += Basket::sum(p, {3, 4}, {5, 6}) + long(b.scaled(0.5)) + named(make(8), 9) + with_empty({}, 11) + twice(21L) + long(twice(1.5f));
    s += pointed(&Basket::add, nullptr, nullptr, u'x');
    std::printf("%ld\n", s);
}
"""
CXX_SAYS = {
    "shop::Basket::add": ({"this": HALF, "price": 10, "kind": "large"}, 215),
    "shop::guarded": ({"b": HALF, "price": -4}, -1),
    "shop::Basket::sum": ({"p": HALF, "q": HALF, "by_value": "0x600000005"}, 11),
    "shop::Basket::scaled": ({"this": HALF, "by": 0.5}, 107.5),
    "shop::named": ({"value": "at 0x", "after": 9}, 17),
    "shop::make": ({"n": 8}, "at 0x"),
    "shop::with_empty": ({"arg0": EVERY, "after": 11}, 11),
    "shop::twice<long>": ({"value": 21}, 42),
    "shop::twice<float>": ({"value": 1.5}, 3.0),
    "shop::pointed": ({"member": EVERY, "arg1": EVERY, "arg2": EVERY, "letter": ord("x")}, ord("x") + 1),
}

# Functions called where almost nothing of a stack is above them: on the last bytes before a page that may not be touched.
EDGE = KEEP + r"""
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
KEEP long edge(long a, long b) { __asm__ volatile(""); return a + b; }
KEEP long inner(long a) { long r = edge(a, 2); __asm__ volatile(""); return r; }
KEEP long outer(long a) { long r = inner(a); __asm__ volatile(""); return r; }
__attribute__((naked)) long on(void *top, long (*function)(long), long a) {
    __asm__("push %rbx\n mov %rsp, %rbx\n mov %rdi, %rsp\n mov %rdx, %rdi\n call *%rsi\n mov %rbx, %rsp\n pop %rbx\n ret");
}
int main(void) {
    char *low = mmap(0, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *hole = mmap(0, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(low + 4 * 4096, 4096, PROT_NONE);
    memset(low, 0x5A, 4 * 4096);
    munmap(hole + 4 * 4096, 4096);
    long s = 0;
    for (int at = 512; at >= 0; at -= 16) s += on(low + 4 * 4096 - at, outer, at) + on(hole + 4 * 4096 - at, outer, at);
    printf("%ld\n", s);
    return 0;
}
"""

# Texts, and pointers that are none.
TEXTS = KEEP + r"""
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
KEEP long say(int n, const char *text, char *const password, void *none, const unsigned char *raw) { volatile long k = n; return k + (text != 0); }
int main(void) {
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), long_one[101];
    munmap(page + 4096, 4096);
    memset(page, 'e', 4096);
    memset(long_one, 'l', 100);
    long_one[100] = 0;
    const char *all[] = {"h\xc3\xa4llo", "", long_one, page + 4090, (char *)8, 0, (char *)0x4141414141414141};
    long s = 0;
    for (int i = 0; i < 7; i++) s += say(i, all[i], "geheim", "x", (const unsigned char *)"y");
    printf("%ld\n", s);
    return 0;
}
"""

# batch sleeps every tenth time; what is left by an exception has slept before.
SLEEPS = KEEP + r"""
#include <cstdio>
#include <unistd.h>
KEEP long quick(long n) { __asm__ volatile(""); return n + 1; }
KEEP void slow() { usleep(30000); __asm__ volatile(""); }
KEEP long batch(int k) { long s = 0; for (int i = 0; i < 1000; i++) s = quick(s); if (k % 10 == 0) slow(); return s; }
KEEP void thrower(int k) { if (k % 2) slow(); throw k; }
KEEP int tries(int k) { try { thrower(k); } catch (int n) { return n; } return -1; }
int main() { long s = 0; for (int i = 0; i < 50; i++) s += batch(i); for (int i = 0; i < 4; i++) s += tries(i); std::printf("%ld\n", s); }
"""

# One line of its own for each call, that the recording is compared with.
ORACLE = KEEP + r"""
#include <stdio.h>
KEEP long step(int a, double b, char c, float d, unsigned short e, long f, long g, long h, long i) {
    long r = (long)(a * 3 + b + c + d + e + f + g + h + i);
    printf("%d %.17g %d %.9g %u %ld %ld %ld %ld %ld\n", a, b, c, d, e, f, g, h, i, r);
    return r;
}
int main(void) {
    unsigned long x = 88172645463325252ull;
    for (int k = 0; k < 300; k++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; step((int)x, (double)(long)x / 7, (char)x, (float)(int)x / 3, (unsigned short)x, (long)x % 1000003, -(long)(x >> 9), k, -k); }
    return 0;
}
"""
