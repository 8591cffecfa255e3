"""The agent comes into a running program and leaves it again, under load; libraries come and go under it."""

import os
import random
import shutil
import struct
import subprocess
import time

import pytest
from agent_bench import ENTRY_ONLY, LIBRARY, LIVE, Bench, Module, symbols
from agent_programs import HEAD

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++") and shutil.which("nm")), reason="no compiler"),
]

MANY = 200
# Threads run through the functions all the time; the first thread takes orders: "start PLAN", "stop", "sum" (of the code's bytes), "end".
BUSY = (
    HEAD
    + "#include <dlfcn.h>\n"
    + "".join(f"KEEP long f{i}(long x) {{ long s = x; for (int i = 0; i < {i % 7}; i++) s += i ^ x; return s + {i}; }}\n" for i in range(MANY))
    + "static long (*const all[])(long) = {"
    + ", ".join(f"f{i}" for i in range(MANY))
    + "};"
    + r"""
extern char __executable_start, etext;
static volatile int over; static volatile long rounds[4];
KEEP long sweep(long x) { long s = 0; for (int i = 0; i < (int)(sizeof all / sizeof *all); i++) s += all[i](x); return s; }
static void *worker(void *p) { long k = (long)p, s = 0, want = 0; while (!over) { s = sweep(k); if (!want) want = s; if (s != want) abort(); rounds[k]++; } return NULL; }
static unsigned long sum(void) { unsigned long h = 14695981039346656037u; for (const unsigned char *p = (const unsigned char *)all[0], *e = (const unsigned char *)&etext; p < e; p++) h = (h ^ *p) * 1099511628211u; return h; }
static void *sleeper(void *p) { (void)p; struct timespec t = {0, 1000000}; while (!over) if (nanosleep(&t, &t) == 0) t = (struct timespec){0, 1000000}; return NULL; }
int main(void) {
    pthread_t t[4]; for (long i = 0; i < 3; i++) pthread_create(&t[i], NULL, worker, (void *)i); pthread_create(&t[3], NULL, sleeper, NULL);
    int (*start)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "atf_agent_start"); int (*stop)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "atf_agent_stop");
    static char line[4096]; setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) { line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "start ", 6)) printf("%d\n", start(line + 6)); else if (!strcmp(line, "stop")) printf("%d\n", stop()); else if (!strcmp(line, "sum")) printf("%lx\n", sum()); else break; }
    over = 1; for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    printf("%d\n", rounds[0] > 0); return 0; }
"""
)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


class Talk:
    """The busy program, which does as it is told."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], env={**os.environ, "LD_PRELOAD": str(LIBRARY)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, order):
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"no answer to {order!r}: the program ended with {self.process.wait(10)}"
        return answer


def test_attach_and_detach_under_load(bench):
    """FORBIDDEN: a crash, a wrong result, a byte of code that is not what it was, or an unfinished plan."""
    program = bench.build(BUSY)
    modules = bench.modules(program, only={"sweep", *(f"f{i}" for i in range(MANY))})
    talk = Talk(program)
    before = talk.ask("sum")
    stops = []
    for _ in range(20):
        with bench.session(modules, LIVE, policy="drop-oldest", index_bytes=65536, slots=8) as (segments, plan, take_in, gatherer):
            take_in(talk.process.pid)
            assert talk.ask(f"start {plan.path}") == "0"
            header = plan.header()
            assert header["state"] == "active" and header["hooked"] + header["refused"] == MANY + 1 and header["stopped"] == 4
            assert set(plan.refused().values()) <= {"short", "jump back"} and header["refused"] < MANY / 20
            stops.append(header["stop_ns"])
            time.sleep(0.02)
            segments.segments.stop()
            assert talk.ask("stop") == "0" and plan.header()["state"] == "detached"
            assert talk.ask("sum") == before
            gatherer.stop()
            assert bench.taken.source.totals["events"] > 1000
    talk.process.stdin.write("end\n")
    assert talk.process.communicate(timeout=20)[0].strip() == "1" and talk.process.returncode == 0


PLUGIN = "int plugin(int x) { asm volatile(\"\"); return x + 7; }\nint again(int x) { asm volatile(\"\"); return plugin(x) * 2; }\n"
LOADS = HEAD + r"""
#include <dlfcn.h>
int main(int argc, char **argv) { long s = 0; (void)argc;
    for (int r = 0; r < 20; r++) { void *h = dlopen(argv[1], RTLD_NOW); if (!h) return 2; int (*f)(int) = (int (*)(int))dlsym(h, "again"); for (int i = 0; i < 10; i++) s += f(i); dlclose(h);
        if (r % 3 == 0) mmap_something(); }
    printf("%ld\n", s); CALLS(again, 200); CALLS(plugin, 200); return 0; }
"""


def test_libraries_that_come_and_go(bench):
    plugin = bench.build(PLUGIN, "plugin.so", flags=("-shared", "-fPIC"))
    program = bench.build(LOADS.replace("int main", "#include <sys/mman.h>\nstatic void mmap_something(void) { mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }\nint main"))
    functions = {name: where for name, where in symbols(plugin).items() if name in ("plugin", "again")}
    modules = [*bench.modules(program, only={"main"}), Module(str(plugin), functions, 2)]
    plain = bench.plain(program, plugin)
    ran = bench.run(program, plugin, modules=modules)
    assert (ran.status, ran.out, ran.err) == plain
    assert {name: ran.calls()[name] for name in functions} == {"plugin": 200, "again": 200}


THROWS = """
#include <stdexcept>
__attribute__((noinline)) int thrower(int x) { if (x & 1) throw std::runtime_error("odd"); return x; }
extern "C" __attribute__((noinline)) int guarded(int x) { try { return thrower(x); } catch (const std::exception &) { return -1; } }
"""
HOSTS = HEAD + r"""
#include <dlfcn.h>
KEEP int host(int (*f)(int), int x) { return f(x) + 1; }
int main(int argc, char **argv) { long s = 0; (void)argc; void *h = dlopen(argv[1], RTLD_NOW); if (!h) return 2; int (*f)(int) = (int (*)(int))dlsym(h, "guarded");
    for (int i = 0; i < 100; i++) s += host(f, i); printf("%ld\n", s); return 0; }
"""


def test_a_program_that_has_no_exceptions_loads_a_library_that_has(bench):
    plugin = bench.build(THROWS, "throws.so", cxx=True, flags=("-shared", "-fPIC"))
    program = bench.build(HOSTS)
    functions = {name: where for name, where in symbols(plugin).items() if name in ("guarded", "_Z7throweri")}
    ran = bench.run(program, plugin, modules=[*bench.modules(program, only={"host", "main"}), Module(str(plugin), functions, 2)])
    assert (ran.status, ran.out, ran.err) == bench.plain(program, plugin)
    assert ran.calls() == {"host": 100, "guarded": 100, "_Z7throweri": 100, "main": 1}
    with ran.trace() as trace:
        assert len(list(trace.events(kind="exception"))) == 50


def test_entry_only(bench):
    source = HEAD + "KEEP int leaf(int x) { asm volatile(\"\"); return x + 1; }\nKEEP int mid(int x) { return leaf(x) + leaf(x + 1); }\nint main(void) { int s = 0; for (int i = 0; i < 50; i++) s += mid(i); printf(\"%d\\n\", s); return 0; }\n"
    program = bench.build(source)
    ran = bench.run(program, flags=ENTRY_ONLY)
    assert (ran.status, ran.out) == bench.plain(program)[:2]
    assert ran.calls() == {"leaf": 100, "mid": 50, "main": 1}
    with ran.trace() as trace:
        assert len(list(trace.events(kind="return"))) == 0


def test_a_plan_that_makes_no_sense(bench):
    program = bench.build("int main(void) { return 7; }")
    for content in (b"", b"x" * 200, b"ATFP" + bytes(300)):
        path = bench.path / "bad"
        path.write_bytes(content)
        done = subprocess.run([program], env={**os.environ, "LD_PRELOAD": str(LIBRARY), "ATF_AGENT": str(path)}, capture_output=True, timeout=20)
        assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_segments_that_are_gone(bench):
    program = bench.build("int f(int x) { asm volatile(\"\"); return x; }\nint main(void) { return f(7); }")
    modules = bench.modules(program)
    with bench.session(modules) as (segments, plan, _, gatherer):
        gatherer.stop()
        segments.remove()
        segments.detach()
        done = subprocess.run([program], env={**os.environ, "LD_PRELOAD": str(LIBRARY), "ATF_AGENT": plan.path}, capture_output=True, timeout=20)
        segments.remove = lambda: None
    assert done.returncode == 7 and plan.header()["state"] == "failed" and plan.header()["error"] == 2


COUNTS = HEAD + r"""
#include <sys/mman.h>
#include <fcntl.h>
KEEP long work(long x) { asm volatile(""); return x * 3 + 1; }
int main(int argc, char **argv) { (void)argc; int fd = open(argv[1], O_RDWR); volatile long *n = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); for (;;) { work(*n); *n = *n + 1; } }
"""


def test_killed_at_any_moment(bench):
    """FORBIDDEN: a call that was over before SIGKILL came and is not in the files."""
    program = bench.build(COUNTS)
    modules = bench.modules(program, only={"work"})
    for i in range(4):
        counter = bench.path / f"counter{i}"
        counter.write_bytes(bytes(4096))
        with bench.session(modules, slots=2) as (_, plan, take_in, gatherer):
            process = subprocess.Popen([program, counter], env={**os.environ, "LD_PRELOAD": str(LIBRARY), "ATF_AGENT": plan.path})
            take_in(process.pid)
            time.sleep(0.02 + random.random() * 0.03)
            process.kill()
            process.wait()
            while gatherer.live:
                gatherer.poll()
        (calls,) = struct.unpack("<q", counter.read_bytes()[:8])
        assert 2 * calls <= bench.taken.source.totals["events"] <= 2 * calls + 2
