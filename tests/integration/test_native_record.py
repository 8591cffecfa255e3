"""``atf record`` of compiled programs: they behave as without it, and the trace is what they did."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from native_bench import calls_of, compile_program, manifest_of, needs_agent, needs_gcc, needs_gxx

pytestmark = [needs_gcc, needs_agent]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    return lambda name, *flags: compile_program(directory, name, *flags)


def test_calls_and_returns_of_a_program(bench, programs):
    loop = programs("loop")
    plain = bench.plain(loop, "7")
    ran = bench.record(loop, "7")
    assert (ran.status, ran.out, ran.err) == (0, plain.out, "")
    assert calls_of(ran.trace()) == {"main": 1, "middle": 7, "leaf": 70}
    trace = ran.trace()
    assert trace.check() == []
    (middle, *_) = trace.spans(function="middle")
    assert middle.status == "ok"
    assert middle.parent.function.name == "main"
    assert [child.function.name for child in middle.children] == ["leaf"] * 10


def test_names_lines_and_build_in_the_manifest(bench, programs):
    loop = programs("loop")
    ran = bench.record(loop, "1", options=("--json",))
    manifest = manifest_of(ran)
    (module,) = manifest["modules"]
    assert (module["name"], module["path"]) == ("loop", loop)
    noted = subprocess.run(["readelf", "-n", loop], capture_output=True, text=True).stdout
    assert module["uuid"] in noted
    assert int(module["base_address"], 16) % 4096 == 0 != int(module["base_address"], 16)
    places = {symbol["name"]: (symbol.get("file"), symbol.get("line")) for symbol in manifest["symbols"]}
    source = pathlib.Path(loop + ".c").read_text().splitlines()
    assert set(places) == {"main", "middle", "leaf"}, "only what occurs"
    for name, (file, line) in places.items():
        assert file == loop + ".c"
        assert f" {name}(" in source[line - 1]
    native = ran.summary["native"]
    assert native["hooked"] == 3
    assert {name for _, name, why in native["not_hooked"] if why == "startup code"} >= {"_start"}
    assert all(why for _, _, why in native["not_hooked"])


@needs_gxx
def test_cpp_names_and_exceptions(bench, programs):
    shapes = programs("shapes.cpp")
    plain = bench.plain(shapes)
    ran = bench.record(shapes, options=("--quiet", "--include", "shop::*", "--include", "main"))
    assert (ran.status, ran.out) == (0, plain.out)
    calls = calls_of(ran.trace())
    assert calls == {"main": 1, "shop::Basket::add": 2, "shop::Basket::operator()": 1, "shop::twice<int>": 1}
    assert [span.status for span in ran.trace().spans(function="*add")] == ["ok", "exception"]
    names = {symbol["name"]: symbol.get("linkage_name") for symbol in manifest_of(ran)["symbols"]}
    assert names["shop::Basket::add"] == "_ZN4shop6Basket3addERKNS_4ItemE"


def test_filters(bench, programs):
    loop = programs("loop")
    assert calls_of(bench.record(loop, "2", options=("-q", "--include", "loop::m*")).trace()) == {"main": 1, "middle": 2}
    ran = bench.record(loop, "2", options=("--json", "--exclude", "leaf", "--out", str(bench.path / "second")))
    assert ran.summary["native"]["hooked"] == 2


def test_entries_only(bench, programs):
    ran = bench.record(programs("loop"), "2", options=("-q", "--level", "calls"))
    kinds = [event.kind for event in ran.trace().events()]
    assert len(kinds) == 1 + 2 + 20
    assert set(kinds) == {"call"}


def test_surroundings_are_unchanged(bench, programs):
    around = programs("around")
    bench.environment.update(LD_PRELOAD="", EMPTY="", WITH_NEWLINE="a\nb=c")
    plain = bench.plain(around, "one", "", "zw ei", stdin=subprocess.DEVNULL)
    ran = bench.record(around, "one", "", "zw ei", stdin=subprocess.DEVNULL)
    assert "WITH_NEWLINE=a\nb=c" in plain.out

    def normal(text):
        head, _, tail = text.partition("zw ei\n")
        return head, sorted(tail.splitlines())

    assert normal(ran.out) == normal(plain.out)


def test_another_preload_stays_and_may_take_its_time(bench, programs, tmp_path):
    """The recorder looks at the process many times before the agent is in it."""
    (tmp_path / "slow.c").write_text(
        '#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n'
        '__attribute__((constructor)) static void begin(void) { usleep(60000); fprintf(stderr, "%s\\n", getenv("LD_PRELOAD")); }\n'
        '__attribute__((destructor)) static void end(void) { fprintf(stderr, "%s\\n", getenv("LD_PRELOAD")); }\n'
    )  # fmt: skip
    library = str(tmp_path / "slow.so")
    subprocess.run(["gcc", "-shared", "-fPIC", str(tmp_path / "slow.c"), "-o", library], check=True)
    ran = bench.plain(
        "/bin/sh", "-c", f'LD_PRELOAD={library} exec {" ".join(bench.command(programs("loop"), "3", options=["-q", "--out", str(bench.path / "two")]))}'
    )
    assert ran.status == 0
    assert ran.err.splitlines()[-1] == library, "the program's own preload is as it was"
    import atf

    assert calls_of(atf.open(bench.path / "two"))["middle"] == 3


def test_exit_status_and_output_are_the_programs(bench, programs):
    ran = bench.record(programs("loop"), "1", "0", "42", options=())
    assert ran.status == 42
    assert "functions hooked" in ran.err
    assert manifest_of(ran)["exit"] == 42


@pytest.mark.parametrize("number", [0, signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_killed_program_is_told_with_its_last_calls(bench, programs, number):
    ran = bench.record(programs("crash"), str(int(number)))
    killer = number or signal.SIGSEGV
    assert ran.status == 128 + killer
    assert f"killed by {signal.Signals(killer).name}" in ran.err
    assert "main > outer > inner" in ran.err
    assert manifest_of(ran)["exit"] == -killer
    assert calls_of(ran.trace()) == {"main": 1, "outer": 1, "inner": 1}
    assert {span.status for span in ran.trace().spans()} == {"open"}


def test_signals_reach_the_program(bench, programs):
    process = subprocess.Popen(
        bench.command(programs("loop"), "1000000", "1000", options=["-q"]), cwd=bench.path, env=bench.environment, stderr=subprocess.PIPE, text=True
    )
    bench.program_pid()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert "killed by SIGTERM" in err
    assert not bench.segments()


def test_duration_ends_the_recording_not_the_program(bench, programs):
    ran = bench.record(programs("loop"), "400", "2000", options=("--json", "--duration", "300ms"))
    assert ran.status == 0
    assert ran.out == bench.plain(programs("loop"), "400").out
    assert ran.summary["ended"] == "duration"
    assert 0 < calls_of(ran.trace())["middle"] < 400


def test_threads_have_their_names(bench, programs):
    process = subprocess.Popen(
        bench.command(programs("busy"), options=["-q", "--include", "step", "--ring-size", "256K"]),
        cwd=bench.path, env=bench.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(1.0)
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("whole\n", 0)
    (session,) = bench.root.glob("session_*")
    import atf

    assert {thread.name for thread in atf.open(session).threads} == {"worker-one", "worker-two"}


def test_a_program_that_starts_others_is_recorded_as_before(bench):
    ran = bench.record("/bin/sh", "-c", f"{sys.executable} -c 'print(1)'; exit 4", options=["--json"])
    assert (ran.status, ran.out) == (4, "1\n")
    assert ran.summary["processes"] == 1
    assert "native" not in ran.summary


def refused(bench, *words, options=()):
    ran = bench.record(*words, options=options)
    assert not list(bench.root.glob("session_*")), "nothing is left behind"
    assert not list(bench.runtime.glob("atf/*")), "nothing is left behind"
    assert len(ran.err.splitlines()) == 1, ran.err
    return ran


def test_what_cannot_be_traced_is_refused_with_a_reason(bench, programs):
    assert "statically" in refused(bench, programs("loop", "-static"), "1").err
    assert "no function fits --include nothing*" in refused(bench, programs("loop"), "1", options=["--include", "nothing*"]).err
    assert "there are loop, libc.so.6" in refused(bench, programs("loop"), "1", options=["--module", "libnone*"]).err
    assert "calls, returns or args" in refused(bench, programs("loop"), "1", options=["--level", "c"]).err
    assert "not found" in refused(bench, "no-such-program", options=["--module", "main"]).err
    assert "with Python add --native" in refused(bench, os.path.realpath(sys.executable), options=["--all-modules"]).err


def test_foreign_programs_are_refused(bench, programs, tmp_path):
    content = bytearray(pathlib.Path(programs("loop")).read_bytes())
    for name, at, value, said in (("small", 4, 1, "32-bit"), ("other", 18, 183, "aarch64"), ("big", 5, 2, "big-endian")):
        file = tmp_path / name
        file.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
        file.chmod(0o755)
        assert said in refused(bench, str(file)).err


def test_a_program_that_cannot_be_executed_leaves_nothing(bench, programs, tmp_path):
    content = bytearray(pathlib.Path(programs("loop")).read_bytes())
    content[16] = 1  # an object file, says its head: only the kernel looks
    file = tmp_path / "orphan"
    file.write_bytes(content)
    file.chmod(0o755)
    assert "cannot be started" in refused(bench, str(file)).err
    assert not bench.segments()


def test_libraries_can_be_traced_too(bench, programs):
    ran = bench.record(programs("loop"), "3", options=("-q", "--module", "main", "--module", "libc.so*"))
    assert ran.out == bench.plain(programs("loop"), "3").out
    modules = {span.function.module for span in ran.trace().spans()}
    assert modules == {"loop", "libc.so.6"}
