"""Programs built with -pg, -mfentry, -fpatchable-function-entry and -finstrument-functions: traced through what that put into them, and
as correct as untraced."""

import pytest
from agent_bench import ENTRY_ONLY, LIBRARY
from agent_programs import CXX, C

import atf
from atf.native import instrumented
from atf.native.elf import ElfFile
from instrumented_bench import BUILDS, InstrumentedBench, arcs, have, module_of, plain_lines, same, told, ways
from instrumented_programs import CALLER, HOOKS, INLINED, LINKED, LOADS, OWN, PLUGIN, PROFILED
from live import benched
from native_bench import attach_words, needs_frida, running

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not have("gcc", "g++", "nm"), reason="no compiler"),
]
CLANG = pytest.param("clang", marks=pytest.mark.skipif(not have("clang", "clang++"), reason="clang is not installed"))


@pytest.fixture
def bench(tmp_path):
    return InstrumentedBench(tmp_path)


@pytest.mark.parametrize("build", [build for build in BUILDS if "cyg" not in build and build != "nops before"])
def test_profilers_and_nops(bench, build):
    """FORBIDDEN: another gmon.out than untraced."""
    program = bench.build(PROFILED, flags=BUILDS[build])
    profile = bench.path / "gmon.out"
    bench.plain(program)
    untraced = arcs(profile) if profile.exists() else None
    profile.unlink(missing_ok=True)
    ran = same(bench, program)
    assert (arcs(profile) if profile.exists() else None) == untraced
    assert (untraced is not None) == ("-pg" in BUILDS[build])
    assert bool(untraced) == ("-pg" in BUILDS[build] and "nops" not in build)
    found, refused = ways(ran)
    way = "nops" if "nops" in build else build.partition(",")[0]
    assert set(found) <= {way, "jump"} and found[way] >= 8 and not refused, "main and hand-written code may have no nops"
    with ran.trace() as trace:
        assert not trace.check()
        assert {span.name.partition(".")[2]: span.status for span in trace.spans(function="*leave")} == {"leave": "unwound"}
        assert {span.parent.name for span in trace.spans(function="*middle")} == {"program.main"}


LOOP = r"""
KEEP void upto(volatile int *p) { do { (*p)++; } while (*p < 5); }
KEEP int leaf(int x) { __asm__ volatile(""); return x + 1; }
int main(void) { int s = 0; for (int i = 0; i < 10; i++) { int k = i & 1; upto(&k); s += leaf(k); } printf("%d\n", s); CALLS(upto, 10); CALLS(leaf, 10); return 0; }
"""


def test_a_loop_behind_the_call_of_the_profiler_is_no_call(bench):
    """FORBIDDEN: a record for every round."""
    ran = same(bench, bench.build(LOOP, flags=(*BUILDS["fentry"], "-fno-align-loops")))
    assert ways(ran)[1] == {"upto": "a loop begins behind the call of its profiler, where the hook would stand"}


@pytest.mark.parametrize("compiler", ["gcc", CLANG])
@pytest.mark.parametrize(("name", "build"), [("coroutines", "mcount"), ("values", "mcount"), ("values", "fentry"), ("coroutines", "cyg"), ("values", "cyg")])
def test_behaviour(bench, compiler, build, name):
    bench.compiler = compiler
    found, refused = ways(same(bench, bench.build(C[name], flags=BUILDS[build])))
    assert found[build] >= 5 and not refused


@pytest.mark.parametrize("build", ["mcount", "cyg", "cyg, bound at once"])
def test_exceptions(bench, build):
    ran = same(bench, bench.build(CXX["throw"], cxx=True, flags=BUILDS[build]))
    with ran.trace() as trace:
        spans = [span for span in trace.spans(status="exception") if span.function.name != "guard::~guard"]
        assert {span.name for span in spans} == {"program._Z7throweri", "program._Z7throughiRl"} and len(spans) == 4000
        assert {span.status for span in trace.spans(function="*_Z5outer*")} == {"ok"}
    assert ways(ran)[0].keys() <= {build.partition(",")[0], "jump"}


@pytest.mark.parametrize("name", ["recursion", "tail_calls", "longjmp_in_a_loop", "thread_ends", "children"])
def test_reported_calls(bench, name):
    assert ways(same(bench, bench.build(C[name], flags=BUILDS["cyg"])))[0].keys() == {"cyg"}


def test_reports_of_signal_handlers(bench):
    source = C["signals"].replace("ticks < 800", "ticks < 300")
    same(bench, bench.build(source, flags=BUILDS["cyg"]), "altstack")


def parents_of(events):
    """``{(name, name of its caller)}`` by the depths recorded, of one thread."""
    path, found = [None], set()
    for event in events:
        if event.kind == "call":
            del path[event.depth :]
            assert len(path) == event.depth, "no depth is left out"
            found.add((event.function.name, path[-1]))
            path.append(event.function.name)
    return found


@pytest.mark.parametrize("compiler", ["gcc", CLANG])
def test_inlined_functions_report_too(bench, compiler):
    """FORBIDDEN: a function that was left by longjmp as the parent of what is called later from the same stack pointer."""
    bench.compiler = compiler
    ran = same(bench, bench.build(INLINED, flags=BUILDS["cyg"], inline=True))
    found, refused = ways(ran)
    assert found["jump"] == 1 and found["cyg"] >= 13 and not refused, "silent is hooked by a jump"
    with ran.trace() as trace:
        assert not trace.check()
        status = {span.function.name: set() for span in trace.spans()}
        for span in trace.spans():
            status[span.function.name].add(span.status)
        parents = parents_of(trace.events())
    assert parents == {
        ("main", None), *((name, "main") for name in ("uses", "attempt", "sized", "silent", "looped", "called")),
        ("around", "uses"), ("inner", "around"), ("inner", "silent"), ("leaf", "inner"), ("leaf", "uses"), ("leaf", "sized"),
        ("soft", "attempt"), ("soft", "looped"), ("leave", "soft"), ("leave", "one"), ("one", "called"), ("two", "called"), ("nothing", "two"),
    }  # fmt: skip
    assert {name for name, how in status.items() if "unwound" in how} == {"soft", "leave", "one"}


@pytest.mark.parametrize("compiler", ["gcc", CLANG])
def test_hooks_of_the_program_are_called_as_ever(bench, compiler):
    bench.compiler = compiler
    program = bench.build(OWN, flags=(*BUILDS["cyg"], "-rdynamic"))
    ran = same(bench, program)
    assert plain_lines(ran.out)[0].split()[1:] == ["300", "300", "0"]
    assert ways(ran)[0] == {"cyg": 2, "jump": 2 if "mine" in module_of(program, 1).functions else 1}


def test_hooks_of_a_library_are_called_as_ever(bench):
    library = bench.build(HOOKS, "hooks.so", flags=("-shared", "-fPIC"))
    ran = same(bench, bench.build(CALLER, flags=(*BUILDS["cyg"], str(library))))
    assert plain_lines(ran.out)[-1] == "301 301" and ways(ran)[0] == {"cyg": 3}


@pytest.mark.parametrize("build", ["mcount", "cyg"])
def test_libraries_linked_and_loaded_later(bench, build):
    plugin = bench.build(PLUGIN, "plugin.so", flags=("-shared", "-fPIC", *BUILDS[build]), head=False)
    named = module_of(plugin, 2, {"inside", "again"})
    program = bench.build(LINKED, "linked", flags=(str(plugin),))
    ran = same(bench, program, modules=[*bench.modules(program, {"main"}), named])
    assert ways(ran)[0] == {build: 2, "jump": 1}
    program = bench.build(LOADS, "loads")
    ran = same(bench, program, plugin, modules=[*bench.modules(program, {"main"}), named])
    assert ways(ran)[0] == ({"jump": 3} if build == "cyg" else {build: 2, "jump": 1}), "the loader relocates it later"


@pytest.mark.parametrize("build", ["mcount", "fentry", "cyg"])
def test_entries_only(bench, build):
    ran = same(bench, bench.build(PROFILED, flags=BUILDS[build]), flags=ENTRY_ONLY)
    with ran.trace() as trace:
        assert {event.kind for event in trace.events()} == {"call"}
    assert told(ran.out)


def test_what_is_not_asked_for_is_not_recorded(bench):
    program = bench.build(CALLER, flags=BUILDS["cyg"])
    ran = bench.run(program, only={"leaf"})
    assert ran.out == bench.plain(program)[1] and ran.calls() == {"leaf": 200}


SPIN = r"""
static volatile int over; static volatile long rounds[2];
KEEP long step(long x) { __asm__ volatile(""); return x + 1; }
KEEP long twice(long x) { return step(step(x)); }
KEEP void *spin(void *p) { long n = 0; while (!over) { n = twice(n); if (n % 4000 == 0) usleep(100); } rounds[(long)p] = n; return NULL; }
int main(void) { pthread_t t[2]; for (long i = 0; i < 2; i++) pthread_create(&t[i], NULL, spin, (void *)i); puts("ready"); fflush(stdout); getchar(); over = 1;
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL); puts(rounds[0] && rounds[1] ? "whole" : "broken"); return 0; }
"""


def state_of(pid, program):
    """The bytes of a program's own mappings that are executed, and what its slots lead to."""
    found, base = {}, None
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, mode, _, _, _, *path = line.split()
            if path == [str(program)]:
                begin, end = (int(part, 16) for part in span.split("-"))
                base = begin if base is None else base
                if "x" in mode:
                    memory.seek(begin)
                    found[begin] = memory.read(end - begin)
        for _, slot in instrumented.hook_slots(ElfFile(str(program))):
            memory.seek(base + slot)
            found[slot] = memory.read(8)
    return found


@needs_frida
@pytest.mark.parametrize("build", ["mcount", "cyg, bound at once"])
def test_attached_and_left_under_load(tmp_path, monkeypatch, build):
    """FORBIDDEN: a byte of code, or a slot, that is not as it was."""
    monkeypatch.setenv("GMON_OUT_PREFIX", str(tmp_path / "gmon"))
    program = InstrumentedBench(tmp_path).build(SPIN, flags=BUILDS[build])
    with benched(tmp_path) as bench, running(str(program)) as process:
        assert process.stdout.readline() == "ready\n"
        before = state_of(process.pid, program)
        for times in range(2):
            out = ("--out", str(tmp_path / f"trace{times}"))
            ran = bench.plain(*attach_words(bench, process.pid, "--duration", "100ms", "--json", *out))
            assert ran.status == 0 and ran.summary["errors"] == [], ran.err
            assert state_of(process.pid, program) == before
            way = build.partition(",")[0]
            assert ran.summary["native"]["ways"][way] >= 3
            with atf.open(tmp_path / f"trace{times}") as trace:
                counts = {row.name: row.count for row in trace.top(None)}
                assert counts["step"] > 100 and abs(counts["step"] - 2 * counts["twice"]) <= 8
        assert process.communicate("\n", timeout=20)[0] == "whole\n"
