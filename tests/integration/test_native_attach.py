"""``atf attach``: a running process is recorded, and left as it was."""

import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from atf.errors import TargetDenied
from atf.native import preflight
from live import wait_for
from native_bench import attach_words, calls_of, compile_program, manifest_of, needs_agent, needs_frida, needs_gcc, running

pytestmark = [needs_gcc, needs_agent, needs_frida]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    return lambda name, *flags: compile_program(directory, name, *flags)


def code_of(pid, program):
    """The bytes of a program's own executable mappings, as they are now."""
    found = {}
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, mode, _, _, _, *path = line.split()
            if "x" in mode and path == [program]:
                begin, end = (int(part, 16) for part in span.split("-"))
                memory.seek(begin)
                found[begin] = memory.read(end - begin)
    return found


def test_a_running_process_is_recorded_and_restored(bench, programs):
    busy = programs("busy")
    with running(busy) as process:
        assert process.stdout.readline() == "ready\n"
        before = code_of(process.pid, busy)
        ran = bench.plain(*attach_words(bench, process.pid, "--duration", "400ms", "--json"))
        assert ran.status == 0, ran.err
        assert code_of(process.pid, busy) == before, "every byte is back"
        out, _ = process.communicate(timeout=20)
        assert (out, process.returncode) == ("whole\n", 0)
    assert ran.summary["ended"] == "duration"
    assert ran.summary["errors"] == []
    manifest = manifest_of(ran)
    assert (manifest["status"], manifest["pid"], manifest["argv"]) == ("complete", process.pid, [busy])
    assert manifest["native"]["threads_stopped"] >= 2
    trace = ran.trace()
    assert {thread.name for thread in trace.threads} == {"worker-one", "worker-two"}
    (row,) = trace.top()
    assert (row.name, row.module) == ("step", "busy")
    assert row.count > 1000
    assert not bench.segments()
    assert not list(bench.runtime.glob("atf/*"))


def test_again_and_again(bench, programs):
    busy = programs("busy")
    with running(busy) as process:
        process.stdout.readline()
        before = code_of(process.pid, busy)
        for number in range(3):
            words = attach_words(bench, process.pid, "--duration", "10ms", "-q")
            words[words.index("--out") + 1] += str(number)
            assert bench.plain(*words).status == 0
        assert code_of(process.pid, busy) == before
        out, _ = process.communicate(timeout=20)
        assert out == "whole\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_recording_alone(bench, programs, number):
    with running(programs("loop"), "100000", "500") as process:
        attached = subprocess.Popen(attach_words(bench, process.pid), cwd=bench.path, env=bench.environment, stderr=subprocess.PIPE, text=True)
        index = wait_for(lambda: next(bench.root.glob("session_*/pid_*/thread_0/index.atf"), None))
        wait_for(lambda: index.stat().st_size > 1000)
        attached.send_signal(number)
        _, err = attached.communicate(timeout=30)
        assert attached.returncode == 0, err
        assert "events" in err
        assert process.poll() is None
    (session,) = bench.root.glob("session_*")
    assert str(session) in err


def test_the_process_ends_meanwhile(bench, programs):
    with running(programs("loop"), "700", "2000", "3") as process:
        ran = bench.plain(*attach_words(bench, process.pid, "--json"))
        assert process.wait(20) == 3
    assert ran.status == 0
    assert ran.summary["ended"] == "end"
    assert calls_of(ran.trace())["middle"] > 10
    assert ran.trace().check() == []


def refused(bench, pid, *options):
    ran = bench.plain(*attach_words(bench, pid, *options))
    assert ran.status == 1
    assert not list(bench.root.glob("session_*"))
    assert not list(bench.runtime.glob("atf/*"))
    assert len(ran.err.splitlines()) == 1
    return ran.err


def test_what_cannot_be_entered_is_refused(bench, programs):
    assert "there is no process" in refused(bench, 4194304 * 2)
    ended = subprocess.Popen(["true"])
    time.sleep(0.2)
    assert "has ended" in refused(bench, ended.pid)  # a zombie
    ended.wait()
    with running(programs("loop"), "100000", "500") as process:
        assert "no function fits" in refused(bench, process.pid, "--include", "nothing")
        process.send_signal(signal.SIGSTOP)
        assert "is stopped" in refused(bench, process.pid)
    with running(programs("loop", "-static"), "100000", "500") as process:
        assert "statically" in refused(bench, process.pid)


def test_another_users_process_is_refused(bench, programs):
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with running(programs("loop"), "100000", "500") as process:
        os.seteuid(65534)
        try:
            with pytest.raises(TargetDenied, match="belongs to user 0"):
                preflight.require(process.pid)
        finally:
            os.seteuid(0)


def test_killed_while_the_agent_comes_in(bench, programs):
    """At six moments from before the injection to after it: a clear word each time, and nothing left."""
    busy, left = programs("busy"), []
    for step in range(0, 12, 2):
        with running(busy) as process:
            process.stdout.readline()
            words = attach_words(bench, process.pid, "--duration", "100ms")
            attached = subprocess.Popen(words, cwd=bench.path, env=bench.environment, stderr=subprocess.PIPE, text=True)
            deadline = time.monotonic() + 20
            while step and not list(bench.runtime.glob("atf/*/*.plan")) and attached.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(step * 0.003)
            process.kill()
            _, err = attached.communicate(timeout=40)
            assert attached.returncode in (0, 1), err
            assert "Traceback" not in err
            assert re.search(r"ended|there is no process|events", err), err
            left += list(bench.runtime.glob("atf/*"))
    assert not left
    assert not bench.segments()


def test_without_frida_the_error_says_what_to_install(bench, programs):
    (bench.path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda name, *more: None if name == 'frida' else find(name, *more)\n"
    )
    bench.environment["PYTHONPATH"] = f"{bench.path}{os.pathsep}{bench.environment['PYTHONPATH']}"
    with running(programs("loop"), "100000", "500") as process:
        assert "pip install 'atf[native]'" in refused(bench, process.pid)


def test_the_recorder_is_killed(bench, programs):
    """The program runs on, and what it did until then is saved afterwards, with names."""
    with running(programs("loop"), "20000", "1000") as process:
        attached = subprocess.Popen(attach_words(bench, process.pid, "-q"), cwd=bench.path, env=bench.environment)
        index = wait_for(lambda: next(bench.root.glob("session_*/pid_*/thread_0/index.atf"), None))
        wait_for(lambda: index.stat().st_size > 1000)
        attached.kill()
        attached.wait()
        time.sleep(0.2)
        assert process.poll() is None
        ran = bench.atf("recover")
        assert ran.status == 0, ran.err
        time.sleep(0.2)
        assert process.poll() is None
    (session,) = bench.root.glob("session_*")
    import atf

    assert set(calls_of(atf.open(session))) == {"middle", "leaf"}
    assert pathlib.Path(session).is_dir()
    assert not bench.segments()
