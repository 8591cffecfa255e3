"""A recorder ends when it is told to, with a complete trace, whatever its program does."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

import atf
from live import wait_for
from native_bench import compile_program, needs_agent, needs_gcc

DEAF = """
    import signal, time
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
    def work(n): return n
    print("ready", flush=True)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        work(1)
        time.sleep(0.001)
"""


def gone(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return False


def ends_without_its_program(bench, recorder, signals, stopped, keeps=()):
    """The recorder is told to end; its trace is complete, and the program is as it was."""
    pid = bench.program_pid()
    try:
        time.sleep(0.1)
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        for number in signals:
            assert recorder.poll() is None
            recorder.send_signal(number)
            time.sleep(0.05)
        begun = time.monotonic()
        recorder.wait(timeout=20)
        took = time.monotonic() - begun
        assert pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T" if stopped else "SR"), "left as it was"
    finally:
        gone(pid)
        recorder.stdin.close()
        recorder.stdout.close()
        recorder.stderr.close()
    assert recorder.returncode == 128 + signals[-1] and took < 10
    (path,) = bench.root.glob("session_*")
    (manifest,) = path.glob("pid_*/manifest.json")
    said = json.loads(manifest.read_text())
    assert said["status"] == "complete" and said.get("exit") is None
    return path


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("signals", [[signal.SIGTERM] * 2, [signal.SIGINT] * 3], ids=["SIGTERM", "SIGINT"])
def test_a_program_that_does_not_end(bench, signals, stopped):
    recorder = bench.begin(DEAF)
    assert recorder.stdout.readline() == "ready\n"
    path = ends_without_its_program(bench, recorder, signals, stopped)
    with atf.open(path) as trace:
        assert trace.info["lost"] == {} and trace.check() == []
        assert len(list(trace.events(function="work", kind="call"))) > 20


def test_with_windows(bench):
    recorder = bench.begin(DEAF, options=("-q", "--flight", "10s"))
    assert recorder.stdout.readline() == "ready\n"
    pid = bench.program_pid()
    time.sleep(0.2)
    os.kill(pid, signal.SIGSTOP)
    made = bench.atf("snapshot", str(recorder.pid), "--no-wait", "--json")
    assert made.status == 0, made.err
    path = ends_without_its_program(bench, recorder, [signal.SIGTERM] * 2, True)
    with atf.open(path) as trace:
        assert len(list(trace.events(function="work", kind="call"))) > 20 and trace.info["lost"] == {}


def test_hangups_are_the_programs_business(bench):
    """They mean "read your configuration again" to some programs: any number of them is passed on, and the recording goes on."""
    source = """
        import signal, time
        got = []
        signal.signal(signal.SIGHUP, lambda number, frame: got.append(number))
        print("ready", flush=True)
        while len(got) < 3: time.sleep(0.01)
        time.sleep(0.2)
        print(len(got))
    """
    recorder = bench.begin(source)
    assert recorder.stdout.readline() == "ready\n"
    for _ in range(3):
        recorder.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    out, _ = recorder.communicate(timeout=20)
    assert (out, recorder.returncode) == ("3\n", 0)


def test_a_duration_ends_while_the_program_is_stopped(bench):
    recorder = bench.begin(DEAF, options=("-q", "--duration", "1s"))
    assert recorder.stdout.readline() == "ready\n"
    pid = bench.program_pid()
    os.kill(pid, signal.SIGSTOP)
    (manifest,) = wait_for(lambda: list(bench.root.glob("*/pid_*/manifest.json")))
    wait_for(lambda: json.loads(manifest.read_text())["status"] == "complete")
    assert recorder.poll() is None, "it waits for the program, whose exit status it passes on"
    assert not gone(pid)
    recorder.communicate(timeout=20)
    assert recorder.returncode == 137


@needs_gcc
@needs_agent
def test_a_compiled_program_that_is_stopped(bench, tmp_path):
    program = compile_program(tmp_path, "busy")
    words = bench.command(program, options=("-q", "--duration", "1s"))

    recorder = subprocess.Popen(words, cwd=bench.path, env=bench.environment, text=True, stdin=-1, stdout=-1, stderr=-1)
    assert recorder.stdout.readline() == "ready\n"
    pid = bench.program_pid()
    os.kill(pid, signal.SIGSTOP)
    (manifest,) = wait_for(lambda: list(bench.root.glob("*/pid_*/manifest.json")))
    wait_for(lambda: json.loads(manifest.read_text())["status"] == "complete")
    assert not gone(pid)
    recorder.communicate(timeout=20)
    assert recorder.returncode == 137
