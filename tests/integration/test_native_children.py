"""Children of natively recorded programs: each has a lane of its own, and none behaves otherwise than without a recorder."""

import json
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
from live import Ran, wait_for
from native_bench import needs_agent, needs_gcc
from native_family import build, recorded, said

import atf

pytestmark = [needs_gcc, needs_agent]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    built = {}

    def get(name, *flags):
        if (name, flags) not in built:
            built[name, flags] = build(directory, name, *flags)
        return built[name, flags]

    return get


def same(bench, *words, options=("-q",), names=("task",)):
    """Run with and without: the same output, and in every process the calls that it told of."""
    plain, ran = bench.plain(*words), bench.record(*words, options=options)
    assert (ran.status, ran.err if "-q" in options else "") == (plain.status, plain.err)
    told, lines = said(ran.out)
    assert lines == said(plain.out)[1]
    assert sorted(told.values()) == sorted(said(plain.out)[0].values()) or "leaf" in names
    assert recorded(ran, *names) == told
    return ran


def manifests(ran):
    return [json.loads(path.read_text()) for path in sorted(ran.path.glob("pid_*/manifest.json"))]


def test_a_tree_of_forks(bench, programs):
    ran = same(bench, programs("tree"))
    found = manifests(ran)
    assert len(found) == 31
    parents = {one["pid"]: one["parent_pid"] for one in found}
    assert sum(parent in parents for parent in parents.values()) == 30
    assert all(one["argv"] == [programs("tree")] for one in found)
    with ran.trace() as trace:
        assert {span.status for span in trace.spans(function="task")} == {"ok"}
    pytest.importorskip("elftools")  # lines are DWARF's
    lines = {symbol["name"]: symbol.get("line") for one in found for symbol in one["symbols"]}
    assert lines["task"] is not None and lines["grow"] is not None


def test_frames_that_were_entered_before_the_fork(bench, programs):
    """The child returns through them: its lane begins with their calls."""
    ran = bench.record(programs("returns"))
    assert ran.out == "0\n"
    with ran.trace() as trace:
        assert trace.check() == []
        entered = {process.manifest.data["threads"][0]["entered"]: process for process in trace.processes}
        (thread,) = entered[3].threads
        told = [(event.kind, event.function.name, event.depth) for event in trace.events(thread=thread)]
    calls = [("call", "main", 1), ("call", "inner", 2), ("call", "born", 3)]
    rest = [("return", "born", 3), ("call", "task", 3), ("return", "task", 3), ("return", "inner", 2), ("return", "main", 1)]
    assert told == calls + rest


@pytest.mark.parametrize("children", [40, pytest.param(200, marks=pytest.mark.stress)])
def test_short_children_leave_their_records(bench, programs, children):
    """Some are killed right after their last call; most are over before anybody can have adopted them."""
    ran = same(bench, programs("short"), str(children))
    assert len(list(ran.path.glob("pid_*"))) == children + 1


def test_forks_beside_calling_threads(bench, programs):
    """FORBIDDEN: a child that waits for a lock of a thread that it does not have, or one that writes into its parent's lane."""
    same(bench, programs("threads"), names=("task", "leaf"))


@pytest.mark.parametrize("level", ["calls", "returns"])
def test_executed_programs(bench, programs, level):
    ran = same(bench, programs("executes"), options=("-q", "--level", level))
    words = [tuple(one["argv"][1:]) for one in manifests(ran)]
    wanted = [(), ("3",), ("4",), ("5",), ("6",), ("7",), ("8",), ("9",), ("10", "11", "12"), ("11", "12"), ("12",)]
    assert sorted(words) == sorted(wanted)


def test_a_program_that_cannot_be_executed(bench, programs, tmp_path):
    broken, orphan, closed = tmp_path / "broken", tmp_path / "orphan", tmp_path / "closed"
    broken.write_bytes(b"\x7fELF nothing more")
    content = bytearray(pathlib.Path(programs("runs")).read_bytes())
    at = content.find(b"/lib64/ld-linux")
    content[at : at + 4] = b"/nix"
    orphan.write_bytes(content)
    for file in (broken, orphan):
        file.chmod(0o755)
    shutil.copyfile(programs("runs"), closed)  # all is well with it, but it may not be executed
    ran = same(bench, programs("refused"), str(broken), str(orphan), str(closed))
    assert said(ran.out)[1] == ["7"]
    assert len(list(ran.path.glob("pid_*"))) == 2


def test_a_library_that_a_child_loads(bench, programs):
    """What a child's agent finds out of its modules is the child's alone: FORBIDDEN is a parent that believes it."""
    library = programs("plugged", "-shared", "-fPIC")
    same(bench, programs("plugins"), library, options=("-q", "--module", "main", "--module", library), names=("plugged",))


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="musl-gcc is not installed")
def test_a_program_of_another_loader_runs_as_it_is(bench, programs, tmp_path):
    (tmp_path / "other.c").write_text("#include <stdio.h>\nint main(void) { puts(\"other\"); return 3; }\n")
    subprocess.run(["musl-gcc", str(tmp_path / "other.c"), "-o", str(tmp_path / "other")], check=True)
    ran = bench.record(programs("runs"), str(tmp_path / "other"))
    assert (said(ran.out)[1], ran.err) == (["other", "3"], "")


def test_a_program_that_bears_no_preloaded_library_runs_as_it_is(bench, programs):
    try:
        sanitized = programs("executes", "-fsanitize=address")
    except subprocess.CalledProcessError:
        pytest.skip("no address sanitizer here")
    ran = bench.record(programs("runs"), sanitized, "5")
    assert (said(ran.out)[1], ran.err) == (["5 - - 3", "5"], "")


def test_no_children(bench, programs):
    for name, words in (("tree", ()), ("executes", ())):
        plain, ran = bench.plain(programs(name), *words), bench.record(programs(name), *words, options=("-q", "--no-children", "--out", str(bench.root / name)))
        assert said(ran.out)[1] == said(plain.out)[1]
        assert len(list((bench.root / name).glob("session_*/pid_*"))) == 1


def test_programs_that_the_loader_would_refuse_run_as_they_are(bench, programs):
    static = programs("executes", "-static")
    ran = bench.record(programs("runs"), static, "5", options=("--json",))
    plain = bench.plain(programs("runs"), static, "5")
    assert said(ran.out)[1] == said(plain.out)[1] == ["5 - - 3", "5"]
    assert ran.summary["native"]["children"]["untouched"] == 1
    # Recorded until it executed the other one, if at all.
    assert all(one["argv"][0] == programs("runs") for one in manifests(ran))


def test_python_below_a_native_program(bench, programs):
    script = bench.write("import os, sys\ndef f(n): return n and f(n - 1)\nf(9)\nprint(sys.argv[1:], 'LD_PRELOAD' in os.environ)\n")
    ran = bench.record(programs("runs"), sys.executable, script, "a", "")
    assert said(ran.out)[1] == ["['a', ''] False", "0"]
    with ran.trace() as trace:
        assert len(trace.events(function="__main__.f", kind="call")) == 10
    assert sorted(bool(one["python"]) for one in manifests(ran)) == [False, True]


def test_a_shell_between(bench, programs):
    """The shell itself is not recorded; what it starts is."""
    line = f"{programs('executes')} 3; {programs('executes')} 4 | cat; exec {programs('executes')} 5"
    ran = bench.record(programs("runs"), "/bin/sh", "-c", line)
    plain = bench.plain(programs("runs"), "/bin/sh", "-c", line)
    assert said(ran.out)[1] == said(plain.out)[1]
    words = [one["argv"] for one in manifests(ran)]
    assert sorted(one[1:] for one in words if one[0] == programs("executes")) == [["3"], ["4"], ["5"]]
    assert not [one for one in words if one[0] == "/bin/sh"]


def test_programs_below_a_launcher(bench, programs):
    """A shell starts one, and a Python that starts another; without the option only the Python is recorded."""
    script = bench.write(f"import subprocess\ndef g(): return subprocess.run([{programs('executes')!r}, '4']).returncode\nprint(g(), flush=True)\n")
    line = f"{programs('executes')} 3; {sys.executable} {script}; exit 7"
    plain, without = bench.plain("/bin/sh", "-c", line), bench.record("/bin/sh", "-c", line, options=("-q", "--out", str(bench.root / "without")))
    ran = bench.record("/bin/sh", "-c", line, options=("-q", "--programs"))
    assert ran.status == without.status == plain.status == 7
    assert said(ran.out)[1] == said(without.out)[1] == said(plain.out)[1]
    assert len(list((bench.root / "without").glob("session_*/pid_*"))) == 1
    words = [(bool(one["python"]), one["argv"][1:]) for one in manifests(Ran(0, "", "", bench.root))]
    assert sorted(words) == [(False, ["3"]), (False, ["4"]), (True, [script])]
    refused = bench.record("/bin/sh", "-c", line, options=("--programs", "--no-children"))
    assert refused.status == 2 and "leave one of them out" in refused.err


def with_limits(bench, limits, *words, options=("--json",)):
    """`atf record` with other limits of the family than its own."""
    arguments = bench.command(*words, options=options)[3:]
    program = f"import sys; from atf.native import family; family.{limits}; from atf.cli import main; sys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=bench.path, env=bench.environment, capture_output=True, text=True, timeout=60)
    return Ran(done.returncode, done.stdout, done.stderr, bench.root)


def test_more_children_than_are_recorded_at_a_time(bench, programs):
    ran = with_limits(bench, "MOST = 10", programs("storm"), "60")
    counts = ran.summary["native"]["children"]
    assert (ran.status, ran.out) == (0, "60\n")
    assert counts["recorded"] + counts["unrecorded"] == 60
    assert 10 <= counts["recorded"] < 60
    assert f"not recorded: {counts['unrecorded']} forked children" in ran.summary["errors"]
    assert len(list(ran.path.glob("pid_*"))) == counts["recorded"] + 1


def test_under_block_children_wait_for_room(bench, programs):
    ran = with_limits(bench, "MOST = 3", programs("short"), "30", options=("--json", "--policy", "block"))
    assert ran.summary["native"]["children"] == {"recorded": 30, "unrecorded": 0, "untouched": 0, "late": 0}
    assert recorded(ran, "task") == said(ran.out)[0]


def test_a_program_does_not_wait_long_for_its_plan(bench, programs):
    """FORBIDDEN: a program that stands because nobody answers."""
    ran = with_limits(bench, "WAIT_MS = 100; import atf.native.follow as f; f.Follower.look = lambda self: None", programs("runs"), programs("executes"), "5")
    assert said(ran.out)[1] == ["5 - - 3", "5"]
    assert ran.summary["native"]["children"]["late"] == 1
    assert len(list(ran.path.glob("pid_*"))) == 1


def test_children_go_on_when_the_recorder_is_killed(bench, programs, tmp_path):
    over = tmp_path / "over"
    process = subprocess.Popen(
        bench.command(programs("lasting"), str(over), options=["-q"]), cwd=bench.path, env=bench.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: len(list(bench.root.glob("session_*/pid_*"))) >= 6)
        process.kill()
        process.wait()
        time.sleep(0.3)
        before = set(bench.runtime.glob("atf/*/*.process"))
        time.sleep(0.3)
        assert set(bench.runtime.glob("atf/*/*.process")) == before, "nobody begins to record when nobody drains"
    finally:
        over.touch()
        out = process.stdout.read()  # until the last of them has ended
        process.stdout.close()
    assert out == "0\n"
    done = bench.atf("recover")
    assert done.status == 0, done.err
    (session,) = bench.root.glob("session_*")
    with atf.open(session) as trace:
        assert trace.check() == []
        assert {row.name for row in trace.top(None)} <= {"main", "task"}, "every function has its name"
        assert len(trace.events(function="*task", kind="call")) > 100


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_and_what_it_starts(bench):
    bench.environment.update(HOME=str(bench.path), GIT_CONFIG_GLOBAL="/dev/null", GIT_EDITOR="true")
    for name in ("AUTHOR", "COMMITTER"):
        bench.environment.update({f"GIT_{name}_NAME": "A", f"GIT_{name}_EMAIL": "a@b", f"GIT_{name}_DATE": "2024-01-01T00:00:00Z"})
    tree = bench.path / "tree"
    subprocess.run(["git", "init", "-q", str(tree)], env=bench.environment, check=True)
    (tree / "a").write_text("1\n")
    hook = tree / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\ngit status --short\n")
    hook.chmod(0o755)
    subprocess.run(["git", "-C", str(tree), "add", "a"], env=bench.environment, check=True)
    ran = bench.record("git", "-C", str(tree), "commit", "-m", "one")
    assert ran.status == 0 and "A  a" in ran.out + ran.err
    words = [one["argv"][1:3] for one in manifests(ran)]
    assert ["status", "--short"] in words
