"""The native agent for aarch64, cross-compiled and run with its targets under user emulation: programs do what they do without it, and the
trace says what they say of themselves. Nothing here was seen on such a processor."""

import shutil
import subprocess
import time

import agent_emulated
import pytest
from agent_bench import ENTRY_ONLY, LIVE, Module
from agent_check import check, plainly
from agent_emulated import MISSING, PREFIX, QEMU, Emulated, symbols
from agent_programs import CXX, HEAD, C
from agent_shapes import GCC, TREE
from agent_shapes import C as SHAPES
from agent_shapes_cxx import CXX as SHAPES_CXX
from agent_shapes_cxx import GUARDS
from test_agent_attach import BUSY, HOSTS, LOADS, MANY, PLUGIN, THROWS, Talk
from test_agent_details import ARGS, BACKTRACE, DETAILS, SWITCHED, TIMED, All

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"to compile and to emulate programs for aarch64 needs {', '.join(MISSING)}")

# Signs return addresses and begins with landing pads, or neither.
PROTECTED, BARE = "-mbranch-protection=standard", "-mbranch-protection=none"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return agent_emulated.build_agent(tmp_path_factory.mktemp("agent"))


@pytest.fixture
def bench(tmp_path, library):
    yield Emulated(tmp_path, library)
    shutil.rmtree(tmp_path, ignore_errors=True)


OF_C = ["recursion", "values", "longjmp_in_a_loop", "coroutines", "signals", "thread_ends", "children", "tail_calls"]
OF_SHAPES = ["tree_of_returns", "tree_of_longjmps", "tree_of_faults", "tree_of_handlers", "tree_around_main", "gotos_and_blocks"]
OF_CXX = ["throw", "noexcept", "backtrace"]
OF_SHAPES_CXX = ["tree_of_exceptions", "tree_of_cleanups", "coroutines20", "statics", "names_of_frames", "terminates"]


@pytest.mark.parametrize("name", OF_C)
def test_c(bench, name):
    check(bench, bench.build(HEAD + C[name], flags=[PROTECTED if len(name) % 2 else BARE]))


@pytest.mark.parametrize("name", [*OF_SHAPES, *GCC])
def test_shapes(bench, name):
    check(bench, bench.build(TREE + {**SHAPES, **GCC}[name], flags=["-rdynamic", "-Wl,-z,execstack", PROTECTED if len(name) % 2 else BARE]))


@pytest.mark.parametrize("name", OF_CXX)
@pytest.mark.parametrize("way", [PROTECTED, BARE])
def test_cxx(bench, name, way):
    check(bench, bench.build(HEAD + CXX[name], cxx=True, flags=[way]))


@pytest.mark.parametrize("name", OF_SHAPES_CXX)
def test_shapes_cxx(bench, name):
    check(bench, bench.build(GUARDS + SHAPES_CXX[name], cxx=True, flags=["-std=c++20", "-rdynamic", PROTECTED if len(name) % 2 else BARE]))


class Emulation(Talk):
    """A program that does as it is told."""

    def __init__(self, bench, program):
        words = [*bench.emulator({"LD_PRELOAD": str(bench.library)}), str(program)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def over(self):
        out = self.process.communicate("end\n", timeout=30)[0].strip()
        return self.process.returncode, out


@pytest.mark.parametrize("traps", [False, True])
def test_attach_and_detach_under_load(bench, traps):
    """FORBIDDEN: a crash, a wrong result, a byte of code that is not what it was, or an unfinished plan."""
    program = bench.build(BUSY, flags=[PROTECTED])
    modules = bench.modules(program, only={"sweep", *(f"f{i}" for i in range(MANY))}, flags=All(32) if traps else None)
    talk = Emulation(bench, program)
    before = talk.ask("sum")
    for _ in range(4):
        with bench.session(modules, LIVE | (64 if traps else 0), policy="drop-oldest", index_bytes=65536, slots=8) as (segments, plan, take_in, gatherer):
            take_in(talk.process.pid)
            assert talk.ask(f"start {plan.path}") == "0"
            header = plan.header()
            assert header["state"] == "active" and header["hooked"] == MANY + 1 and header["stopped"] == 4, (header, plan.refused())
            assert plan.traps() == (MANY + 1 if traps else 0)
            assert talk.ask("sum") != before
            time.sleep(0.05)
            segments.segments.stop()
            assert talk.ask("stop") == "0" and plan.header()["state"] == "detached"
            assert talk.ask("sum") == before
            gatherer.stop()
            assert bench.taken.source.totals["events"] > 1000
    assert talk.over() == (0, "1")


def test_entry_only(bench):
    source = HEAD + 'KEEP int leaf(int x) { asm volatile(""); return x + 1; }\nKEEP int mid(int x) { return leaf(x) + leaf(x + 1); }\nint main(void) { int s = 0; for (int i = 0; i < 50; i++) s += mid(i); printf("%d\\n", s); return 0; }\n'
    program = bench.build(source)
    ran = bench.run(program, flags=ENTRY_ONLY)
    assert (ran.status, ran.out) == bench.plain(program)[:2]
    assert ran.calls() == {"leaf": 100, "mid": 50, "main": 1}
    with ran.trace() as trace:
        assert len(list(trace.events(kind="return"))) == 0


def test_libraries_that_come_and_go(bench):
    plugin = bench.build(PLUGIN, "plugin.so", flags=("-shared", "-fPIC"))
    program = bench.build(LOADS.replace("int main", "static void mmap_something(void) {}\nint main"))
    functions = {name: where for name, where in symbols(plugin).items() if name in ("plugin", "again")}
    ran = bench.run(program, plugin, modules=[*bench.modules(program, only={"main"}), Module(str(plugin), functions, 2)])
    assert (ran.status, ran.out, ran.err) == bench.plain(program, plugin)
    assert {name: ran.calls()[name] for name in functions} == {"plugin": 200, "again": 200}


def test_a_library_with_exceptions_comes_late(bench):
    plugin = bench.build(THROWS, "throws.so", cxx=True, flags=("-shared", "-fPIC", PROTECTED))
    program = bench.build(HOSTS)
    functions = {name: where for name, where in symbols(plugin).items() if name in ("guarded", "_Z7throweri")}
    ran = bench.run(program, plugin, modules=[*bench.modules(program, only={"host", "main"}), Module(str(plugin), functions, 2)])
    assert (ran.status, ran.out, ran.err) == bench.plain(program, plugin)
    assert ran.calls() == {"host": 100, "guarded": 100, "_Z7throweri": 100, "main": 1}
    with ran.trace() as trace:
        assert len(list(trace.events(kind="exception"))) == 50
