"""Programs under the native agent do what they do without it; where they say so, record for record."""

import shutil

import pytest
from agent_bench import LIBRARY, Bench, Module, symbols
from agent_check import check, plainly
from agent_programs import CXX as FIRST_CXX
from agent_programs import HEAD
from agent_shapes import GCC, TREE, C
from agent_shapes_cxx import CXX, GUARDS

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++") and shutil.which("nm")), reason="no compiler"),
]


@pytest.fixture
def bench(tmp_path):
    yield Bench(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)  # millions of records


@pytest.mark.parametrize("name", [*(name for name in C if name != "leaves_in_the_middle"), *GCC])
def test_c(bench, name):
    check(bench, bench.build(TREE + {**C, **GCC}[name], flags=["-rdynamic"]))


@pytest.mark.parametrize("name", CXX)
def test_cxx(bench, name):
    check(bench, bench.build(GUARDS + CXX[name], cxx=True, flags=["-std=c++20", "-rdynamic"]))


@pytest.mark.parametrize("way", ["-O0", "-fcf-protection=full"])
def test_compiled_another_way(bench, way):
    """All of them, in many more ways: tests/stress/test_agent.py."""
    check(bench, bench.build(GUARDS + CXX["tree_of_cleanups"], cxx=True, flags=[way, "-rdynamic"]))


ROLES = ("_Unwind_RaiseException", "_Unwind_ForcedUnwind", "_Unwind_Resume_or_Rethrow", "_Unwind_Resume", "_Unwind_Backtrace", "__cxa_begin_catch", "_Unwind_SetIP")


def test_an_unwinder_linked_in(bench):
    """The plan names its functions; frames end where they do with the shared one."""
    program = bench.build(GUARDS + CXX["tree_of_exceptions"], cxx=True, flags=["-static-libgcc", "-static-libstdc++"])
    plain = bench.plain(program)
    shown = {line.split()[2] for line in plainly(plain[1]) if line.startswith((">", "<", "!"))}
    chosen = {name: where for name, where in symbols(program).items() if name in shown or name in ROLES}
    assert set(ROLES) <= set(chosen)
    module = Module(str(program), chosen, 1, {name: number << 8 for number, name in enumerate(ROLES, 1)})
    check(bench, program, plain=plain, modules=[module])


BARE = "int bare(int (*f)(int), int x) { int r = f(x); __asm__ volatile(\"\"); return r + 1; }\n"
THROUGH = r"""
extern "C" int bare(int (*f)(int), int x);
C int throws(int n) { if (n & 1) throw n; return n; }
C int guarded(int n) { try { return bare(throws, n); } catch (int) { return -1; } }
int main(int argc, char **argv) { (void)argv; long s = 0; for (int i = 0; i < 50; i++) s += guarded(argc > 1 ? i : i * 2); printf("%ld\n", s); CALLS(guarded, 50); CALLS(throws, 50); CALLS(bare, 50); }
"""


@pytest.mark.parametrize("tables", ["-fexceptions", "-fno-asynchronous-unwind-tables"])
def test_exceptions_through_frames_of_c(bench, tables):
    """Without unwind tables the program ends there, with the agent as without it."""
    made = bench.build(BARE, "bare.o", flags=["-c", "-fno-exceptions", tables])
    program = bench.build(GUARDS + THROUGH, cxx=True, flags=[str(made)])
    check(bench, program)
    plain = bench.plain(program, "throwing")
    assert (plain[0] == 0) == (tables == "-fexceptions")
    ran = bench.run(program, "throwing")
    assert (ran.status, plainly(ran.out), ran.err) == (plain[0], plainly(plain[1]), plain[2])


RELOADS = r"""
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
int main(int argc, char **argv) { long s = 0, moved = 0; uintptr_t before = 0; (void)argc;
    for (int r = 0; r < 100; r++) { void *h = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL); if (!h) return 2; struct link_map *m; dlinfo(h, RTLD_DI_LINKMAP, &m); moved += m->l_addr != before; before = m->l_addr;
        int (*f)(int) = (int (*)(int))dlsym(h, "guarded"); for (int i = 0; i < 10; i++) s += f(i); dlclose(h); mmap((void *)before, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0); }
    printf("%ld %d\n", s, moved > 90); CALLS(guarded, 1000); CALLS(_Z7throweri, 1000); return 0; }
"""
THROWS = """
#include <stdexcept>
__attribute__((noinline)) int thrower(int x) { if (x & 1) throw std::runtime_error("odd"); return x; }
extern "C" __attribute__((noinline)) int guarded(int x) { try { return thrower(x); } catch (const std::exception &) { return -1; } }
"""


def test_a_library_loaded_a_hundred_times_elsewhere(bench):
    """With exceptions in it; the program has none of its own, and no C++ library before it."""
    plugin = bench.build(THROWS, "throws.so", cxx=True, flags=["-shared", "-fPIC"])
    program = bench.build(HEAD + RELOADS)
    functions = {name: where for name, where in symbols(plugin).items() if name in ("guarded", "_Z7throweri")}
    ran = check(bench, program, plugin, modules=[*bench.modules(program, only={"main"}), Module(str(plugin), functions, 2)])
    with ran.trace() as trace:
        assert len(trace.events(kind="exception")) == 500


def test_what_a_function_sees_of_its_caller(bench):
    """__builtin_return_address(0) is the stub's in a traced function, and the caller's in one that is not."""
    source = HEAD + r"""
extern char __executable_start, etext;
KEEP int inside(void) { char *at = __builtin_return_address(0); return at > &__executable_start && at < &etext; }
KEEP int other(void) { char *at = __builtin_return_address(0); return at > &__executable_start && at < &etext; }
int main(void) { int s = 0, t = 0; for (int i = 0; i < 10; i++) { s += inside(); t += other(); } printf("%d %d\n", s, t); CALLS(other, 10); return 0; }
"""
    program = bench.build(source)
    assert bench.plain(program)[1].startswith("10 10\n")
    assert bench.run(program, only={"other", "main"}).out.startswith("10 0\n")


def test_everything_of_the_standard_library(bench):
    """The C++ library's own functions too, personality routine included: their frames are younger than those that ended."""
    program = bench.build(HEAD + FIRST_CXX["rethrow"], cxx=True)
    found = bench.plain("ldd", program)[1].split("libstdc++.so.6 => ")[1].split()[0]
    library = str(bench.path.joinpath(found).resolve())
    functions = {name: where for name, where in symbols(library, dynamic=True).items() if where[1] >= 16 and not name.startswith("__cxa_begin_catch")}
    check_all = bench.run(program, modules=[*bench.modules(program), Module(library, functions, 2)])
    plain = bench.plain(program)
    assert (check_all.status, plainly(check_all.out), check_all.err) == (plain[0], plainly(plain[1]), plain[2])
    calls = check_all.calls()
    assert {name: calls[name] for name in ("_Z3topi", "_Z6middlei", "_Z6bottomi")} == {"_Z3topi": 2000, "_Z6middlei": 4000, "_Z6bottomi": 6000}
    assert calls["__gxx_personality_v0"] > 1000
