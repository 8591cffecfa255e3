"""The native agent, long: every small program as different compilers and options make it, kills, and coming and going under load.

FORBIDDEN: another output or status than without the agent; a record too many or too few; a call that was over before a kill and
is neither in the files nor in a gap; a byte of code that is not what it was after the agent left; a crash.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from agent_bench import LIBRARY, LIVE, Bench, Module, symbols  # noqa: E402
from agent_check import check  # noqa: E402
from agent_kill import kill_once, moments  # noqa: E402
from agent_launch import COUNTS  # noqa: E402
from agent_programs import CXX as FIRST_CXX  # noqa: E402
from agent_programs import C as FIRST_C  # noqa: E402
from agent_programs import HEAD  # noqa: E402
from agent_shapes import GCC, TREE, C  # noqa: E402
from agent_shapes_cxx import CXX, GUARDS  # noqa: E402

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++") and shutil.which("nm")), reason="no compiler"),
]

WAYS = {
    "gcc -O0": ["-O0"],
    "gcc -O2": ["-O2"],
    "gcc -O3, no frame pointer": ["-O3", "-fomit-frame-pointer"],
    "gcc, frame pointer": ["-O2", "-fno-omit-frame-pointer"],
    "gcc, CET": ["-O2", "-fcf-protection=full"],
    "gcc, not PIE": ["-O2", "-no-pie", "-fno-pie"],
    "gcc, no PLT": ["-O2", "-fno-plt"],
    "gcc, lazy PLT": ["-O2", "-Wl,-z,lazy"],
    "gcc -Os": ["-Os"],
    "clang -O0": ["-O0"],
    "clang -O2": ["-O2"],
    "clang -O3": ["-O3"],
}
PROGRAMS = {name: (HEAD + text, False) for name, text in FIRST_C.items()}
PROGRAMS |= {name: (TREE + text, False) for name, text in {**C, **GCC}.items() if name != "leaves_in_the_middle"}
PROGRAMS |= {name: (HEAD + text, True) for name, text in FIRST_CXX.items()} | {name: (GUARDS + text, True) for name, text in CXX.items()}


@pytest.fixture
def bench(tmp_path):
    yield Bench(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)  # millions of records


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_compiled_every_way(bench, name, way):
    text, cxx = PROGRAMS[name]
    compiler = {False: "gcc", True: "g++"}[cxx]
    if way.startswith("clang"):
        if name in GCC or name in ("flags", "values"):
            pytest.skip("nested functions and some of the assembly are gcc's own")
        compiler = "clang++" if cxx else "clang"
        if not shutil.which(compiler):
            pytest.skip("there is no clang")
    if way.endswith("-O0") and name == "tail_calls":
        pytest.skip("without optimization its calls are no tail calls, and too deep for the stack")
    standard = ["-std=c++20"] if cxx and not (way.startswith("clang") and name == "coroutines20") else ["-std=c++20", "-fcoroutines-ts"] if cxx else []
    own = ["-mno-red-zone"] if name == "flags" else []  # it calls from assembly, of which the compiler does not know
    program = bench.build(text, compiler=compiler, cxx=cxx, flags=[*WAYS[way], *standard, *own, "-rdynamic", "-w"])
    check(bench, program, refused={"short", "jump back", "instruction"})  # as the compiler made them, some cannot be hooked


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_killed_at_random_points(bench, threads):
    """34 times: together with the others a hundred."""
    program = bench.build(COUNTS)
    modules = bench.modules(program, only={"work", "counts"})
    total = sum(kill_once(bench, program, modules, n, threads, after)[0] for n, after in enumerate(moments(100 + threads, 34)))
    print(f"{threads} threads: {total} calls were over before 34 kills")


def test_killed_at_random_points_while_the_drain_lags(bench):
    program = bench.build(COUNTS)
    modules = bench.modules(program, only={"work", "counts"})
    found = [kill_once(bench, program, modules, n, 3, after, lagging=True) for n, after in enumerate(moments(200, 30, 0, 0.3))]
    print(f"{sum(calls for calls, _ in found)} calls, {sum(lost for _, lost in found)} records in gaps")


# ---------------------------------------------------------------- coming and going under load
MANY = 1000
PLUGIN = "int plugin(int x) { asm volatile(\"\"); return x + 7; }\nint again(int x) { asm volatile(\"\"); return plugin(x) * 2; }\n"
BUSY = (
    HEAD
    + "#include <dlfcn.h>\n"
    + "".join(f"KEEP long f{i}(long x) {{ long s = x; for (int i = 0; i < {i % 7}; i++) s += i ^ x; return s + {i}; }}\n" for i in range(MANY))
    + "static long (*const all[])(long) = {"
    + ", ".join(f"f{i}" for i in range(MANY))
    + "};"
    + r"""
static volatile int over; static volatile long rounds[8]; static const char *library;
KEEP long sweep(long x) { long s = 0; for (int i = 0; i < (int)(sizeof all / sizeof *all); i++) s += all[i](x); return s; }
static void *worker(void *p) { long k = (long)p, s = 0, want = 0; while (!over) { s = sweep(k); if (!want) want = s; if (s != want) abort(); rounds[k]++; } return NULL; }
static void *brief(void *p) { return (void *)sweep((long)p); }
static void *starter(void *p) { while (!over) { pthread_t t; void *v; pthread_create(&t, NULL, brief, p); pthread_join(t, &v); rounds[4]++; } return NULL; }
static void *loader(void *p) { (void)p; while (!over) { void *h = dlopen(library, RTLD_NOW); int (*f)(int) = (int (*)(int))dlsym(h, "again"); for (int i = 0; i < 100; i++) if (f(i) != (i + 7) * 2) abort(); dlclose(h); rounds[5]++; } return NULL; }
int main(int argc, char **argv) { (void)argc; library = argv[1];
    pthread_t t[5]; for (long i = 0; i < 3; i++) pthread_create(&t[i], NULL, worker, (void *)i); pthread_create(&t[3], NULL, starter, (void *)3L); pthread_create(&t[4], NULL, loader, NULL);
    int (*start)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "atf_agent_start"); int (*stop)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "atf_agent_stop");
    static char line[4096]; setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) { line[strcspn(line, "\n")] = 0; if (!strncmp(line, "start ", 6)) printf("%d\n", start(line + 6)); else if (!strcmp(line, "stop")) printf("%d\n", stop()); else break; }
    over = 1; for (int i = 0; i < 5; i++) pthread_join(t[i], NULL);
    printf("%d\n", rounds[0] > 0 && rounds[4] > 0 && rounds[5] > 0); return 0; }
"""
)


def code_in_memory(pid, path):
    """The executable mappings of a file in a process: {offset in the file: bytes}."""
    found = {}
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, mode, offset, _, _, *rest = line.split()
            if "x" in mode and rest == [str(path)]:
                begin, end = (int(part, 16) for part in span.split("-"))
                memory.seek(begin)
                found[int(offset, 16)] = memory.read(end - begin)
    return found


def test_attach_and_detach_a_hundred_times(bench):
    """1,000 functions, three busy threads, threads and a traced library that come and go: every byte is the file's again."""
    plugin = bench.build(PLUGIN, "plugin.so", flags=["-shared", "-fPIC"])
    program = bench.build(BUSY)
    content = pathlib.Path(program).read_bytes()
    modules = bench.modules(program, only={"sweep", *(f"f{i}" for i in range(MANY))})
    modules.append(Module(str(plugin), {name: where for name, where in symbols(plugin).items() if name in ("plugin", "again")}, 2))
    process = subprocess.Popen([program, plugin], env={**os.environ, "LD_PRELOAD": str(LIBRARY)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(order):
        timer = threading.Timer(30, process.kill)
        timer.start()
        process.stdin.write(order + "\n")
        process.stdin.flush()
        answer = process.stdout.readline().strip()
        timer.cancel()
        assert answer, f"no answer to {order!r}: the program ended with {process.wait(10)}"
        return answer

    stops, events = [], 0
    for _ in range(100):
        with bench.session(modules, LIVE, policy="drop-oldest", index_bytes=65536, slots=16) as (segments, plan, take_in, gatherer):
            take_in(process.pid)
            assert ask(f"start {plan.path}") == "0"
            header = plan.header()
            assert header["state"] == "active"
            assert header["hooked"] > MANY * 0.95
            stops.append(header["stop_ns"] / 1e6)
            time.sleep(0.01)
            segments.segments.stop()
            assert ask("stop") == "0"
            assert plan.header()["state"] == "detached"
            for offset, code in code_in_memory(process.pid, program).items():
                assert code.startswith(content[offset : offset + len(code)]), f"code at {offset:#x} is not what it was"
            gatherer.stop()
            events += bench.taken.source.totals["events"]
    assert process.communicate("end\n", timeout=30)[0].strip() == "1"
    assert process.returncode == 0
    stops.sort()
    print(f"100 times: stopped {stops[50]:.1f} ms (median), {stops[-1]:.1f} ms (worst); {events} events")
