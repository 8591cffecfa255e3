"""Programs built with -pg, -mfentry, -fpatchable-function-entry and -finstrument-functions: traced through what that put into them, and
as correct as untraced."""

import pytest
from agent_bench import ENTRY_ONLY, LIBRARY
from agent_programs import CXX, C
from instrumented_bench import BUILDS, InstrumentedBench, arcs, have, module_of, plain_lines, same, told, ways
from instrumented_programs import CALLER, HOOKS, INLINED, LINKED, LOADS, OWN, PLUGIN, PROFILED

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not have("gcc", "g++", "nm"), reason="no compiler"),
]
CLANG = pytest.param("clang", marks=pytest.mark.skipif(not have("clang", "clang++"), reason="clang is not installed"))


@pytest.fixture
def bench(tmp_path):
    return InstrumentedBench(tmp_path)


@pytest.mark.parametrize("build", [build for build in BUILDS if "cyg" not in build])
def test_profilers_and_nops(bench, build):
    """FORBIDDEN: another gmon.out than untraced."""
    program = bench.build(PROFILED, flags=BUILDS[build])
    profile = bench.path / "gmon.out"
    same(bench, program)
    traced = arcs(profile) if profile.exists() else None
    profile.unlink(missing_ok=True)
    bench.plain(program)
    untraced = arcs(profile) if profile.exists() else None
    ran = same(bench, program)
    assert traced == untraced
    assert (untraced is not None) == ("-pg" in BUILDS[build])
    assert bool(untraced) == ("-pg" in BUILDS[build] and "nops" not in build)
    found, refused = ways(ran)
    way = "nops" if "nops" in build else build.partition(",")[0]
    assert set(found) <= {way, "jump"} and found[way] >= 8 and not refused, "main and hand-written code may have no nops"
    with ran.trace() as trace:
        assert not trace.check()
        assert {span.name.partition(".")[2]: span.status for span in trace.spans(function="*leave")} == {"leave": "unwound"}
        assert {span.parent.name for span in trace.spans(function="*middle")} == {"program.main"}


@pytest.mark.parametrize("compiler", ["gcc", CLANG])
@pytest.mark.parametrize("build", ["mcount", "fentry", "cyg"])
@pytest.mark.parametrize("name", ["coroutines", "values"])
def test_behaviour(bench, compiler, build, name):
    bench.compiler = compiler
    found, refused = ways(same(bench, bench.build(C[name], flags=BUILDS[build])))
    assert found[build] >= 5 and not refused


@pytest.mark.parametrize("build", ["mcount", "fentry", "cyg", "cyg, bound at once"])
def test_exceptions(bench, build):
    ran = same(bench, bench.build(CXX["throw"], cxx=True, flags=BUILDS[build]))
    with ran.trace() as trace:
        spans = [span for span in trace.spans(status="exception") if span.function.name != "guard::~guard"]
        assert {span.name for span in spans} == {"program._Z7throweri", "program._Z7throughiRl"} and len(spans) == 4000
        assert {span.status for span in trace.spans(function="*_Z5outer*")} == {"ok"}
    assert ways(ran)[0].keys() <= {build.partition(",")[0], "jump"}


@pytest.mark.parametrize("name", ["recursion", "tail_calls", "longjmp_in_a_loop", "threads", "thread_ends", "children"])
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
        ("around", "uses"), ("inner", "around"), ("inner", "silent"), ("leaf", "inner"), ("leaf", "uses"), ("leaf", "sized"), ("leaf", "looped"),
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


@pytest.mark.parametrize("build", ["mcount", "fentry", "nops", "cyg"])
def test_libraries_linked_and_loaded_later(bench, build):
    plugin = bench.build(PLUGIN, "plugin.so", flags=("-shared", "-fPIC", *BUILDS[build]), head=False)
    named = module_of(plugin, 2, {"inside", "again"})
    program = bench.build(LINKED, "linked", flags=(str(plugin),))
    ran = same(bench, program, modules=[*bench.modules(program, {"main"}), named])
    assert ways(ran)[0] == {build: 2, "jump": 1}
    program = bench.build(LOADS, "loads")
    ran = same(bench, program, plugin, modules=[*bench.modules(program, {"main"}), named])
    assert ways(ran)[0] == ({"jump": 3} if build == "cyg" else {build: 2, "jump": 1}), "the loader relocates it later"


@pytest.mark.parametrize("build", ["mcount", "fentry", "nops", "cyg"])
def test_entries_only(bench, build):
    ran = same(bench, bench.build(PROFILED, flags=BUILDS[build]), flags=ENTRY_ONLY)
    with ran.trace() as trace:
        assert {event.kind for event in trace.events()} == {"call"}
    assert told(ran.out)


def test_what_is_not_asked_for_is_not_recorded(bench):
    program = bench.build(CALLER, flags=BUILDS["cyg"])
    ran = bench.run(program, only={"leaf"})
    assert ran.out == bench.plain(program)[1] and ran.calls() == {"leaf": 200}
