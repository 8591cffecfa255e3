"""What another process takes out of the rings of one that was killed, hangs, or goes on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import atf
from atf import runtime
from atf._core.errors import SegmentError, SessionError, UsageError
from atf.cli import main
from atf.recovery import recover
from atf.slices import salvage

PROGRAM = """
import os, signal, sys, threading, time
from atf.slices import Slices
slices = Slices(None, {"level": "args", "include": ["__main__"], "ring_size": "256K"})
slices.begin()

def step(number):
    return number

def inner(what):
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)
    if what == "hang":
        hanging()
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while what == "flood":
        step(1)

def hanging():
    sys.stdin.read()

def outer(what):
    for number in range(20):
        step(number)
    inner(what)

def beside():
    step(-1)
    time.sleep(60)

threading.Thread(target=beside, daemon=True, name="beside").start()
time.sleep(0.05)
outer(sys.argv[1])
print("over", slices.now_ns() > 0, flush=True)
slices.end()
"""


def segments_of(session):
    ids = {part for process in session["processes"] for part in process["segments"].split(",")}
    rows = [line.split() for line in pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return ids & {row[1] for row in rows}


@pytest.fixture
def start(tmp_path, monkeypatch):
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    running = []

    def begin(what):
        program = subprocess.Popen([sys.executable, "-c", PROGRAM, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(program)
        if what != "kill":
            assert program.stdout.readline() == "ready\n"
            time.sleep(0.05)
        else:
            assert program.wait(30) == -signal.SIGKILL
        return program

    yield begin
    for program in running:
        if program.poll() is None:
            program.send_signal(signal.SIGCONT)
            program.kill()
        program.communicate(timeout=30)
    main(["doctor", "--clean"])
    assert runtime.sessions() == []


def calls(path):
    """{thread: [name of each call]}, the arguments of the last one."""
    with atf.open(path) as trace:
        assert trace.check() == [] and trace.status == "recovered"
        found = {}
        for event in trace.events(kind="call"):
            found.setdefault(str(event.thread), []).append(event.function.name)
        last = list(trace.spans(function="inner"))
        assert all(span.status == "open" for span in last)
        return found


def test_a_killed_process(start, tmp_path):
    program = start("kill")
    (session,) = runtime.sessions()
    assert len(segments_of(session)) == 3
    kept = salvage(program.pid, tmp_path / "t", note={"worker": "gw0"})
    assert calls(kept.path) == {"MainThread": ["<module>", "outer"] + 20 * ["step"] + ["inner"], "beside": ["beside", "step"]}
    assert kept.overwritten == 0 and kept.lost == {}
    manifest = json.loads((tmp_path / "t/manifest.json").read_text())
    assert manifest["test"] == {"worker": "gw0"} and manifest["slice"]["salvaged"] == "dead" and manifest["argv"][-1] == "kill"
    with atf.open(kept.path) as trace:
        inner = list(trace.events(function="inner"))[-1]
        assert inner.detail["args"] == {"what": "kill"}
    assert not segments_of(session) and runtime.sessions() == [], "whoever salvages a dead process removes its rings"
    with pytest.raises(SessionError, match="salvaged already"):
        salvage(program.pid, tmp_path / "again")


@pytest.mark.parametrize("what", ["hang", "stop"])
def test_a_process_that_hangs(start, tmp_path, what):
    program = start(what)
    kept = salvage(program.pid, tmp_path / "t")
    last = ["hanging"] if what == "hang" else []
    assert calls(kept.path)["MainThread"] == ["<module>", "outer"] + 20 * ["step"] + ["inner"] + last
    assert json.loads((tmp_path / "t/manifest.json").read_text())["slice"]["salvaged"] == "alive"
    assert calls(salvage(program.pid, tmp_path / "again").path) == calls(kept.path), "nothing was taken out"
    (session,) = runtime.sessions()
    assert len(segments_of(session)) == 3
    program.send_signal(signal.SIGCONT)
    assert program.communicate("", timeout=30)[0] == "over True\n" and program.returncode == 0
    assert runtime.sessions() == [] and not segments_of(session)


def test_a_process_that_goes_on(start, tmp_path):
    """FORBIDDEN: a salvaged trace with a hole that no GAP tells, or a producer that had to drop its newest records meanwhile."""
    program = start("flood")
    for turn in range(10):
        kept = salvage(program.pid, tmp_path / str(turn), 200_000 if turn % 2 else None)
        with atf.open(kept.path) as trace:
            assert trace.check() == []
            main_thread = next(thread for thread in trace.threads if thread.name == "MainThread")
            assert set(main_thread.events["event_kind"][1:-1].tolist()) <= {1, 2, 8} and len(main_thread.events) > 2
            if turn % 2:
                times = main_thread.events["timestamp_ns"]
                assert times[-1] - times[0] <= 200_000
    (session,) = runtime.sessions()
    from atf._core import segment

    ids = [int(part) for part in session["processes"][0]["segments"].split(",")]
    attached = segment.SegmentSet.attach(tuple(ids))
    rows = attached.segments.slots()
    attached.detach()
    assert [(row["lost_newest"], row["details_lost"]) for row in rows] == [(0, 0)] * len(rows)
    assert program.poll() is None


def test_the_last_of_each_thread(start, tmp_path):
    """A thread that hangs for long has its own last events; beside it others go on."""
    program = start("flood")
    kept = salvage(program.pid, tmp_path / "t", 1_000_000)
    assert calls(kept.path)["beside"] == ["beside", "step"]
    with pytest.raises(UsageError, match="more than 0"):
        salvage(program.pid, tmp_path / "u", 0)


def test_doctor_knows_them(start, tmp_path, capsys, monkeypatch):
    program = start("kill")
    (session,) = runtime.sessions()
    main(["doctor"])
    said = capsys.readouterr().out
    assert "memory only" in said and f"salvage({program.pid}, DIRECTORY)" in said and "atf recover" not in said
    monkeypatch.chdir(tmp_path)
    found = recover()
    assert found["processes"] == [] and "memory only" in found["notes"][0]
    assert len(segments_of(session)) == 3 and not list(tmp_path.glob("pid_*"))
    main(["doctor", "--clean"])
    assert "3 segments" in capsys.readouterr().out and not segments_of(session)


def test_a_running_one_is_left_alone(start, capsys):
    start("hang")
    main(["doctor", "--clean"])
    (session,) = runtime.sessions()
    assert len(segments_of(session)) == 3 and "stale session " not in capsys.readouterr().out.replace("stale sessions", "")


def test_who_has_no_rings(start, tmp_path):
    with pytest.raises(SessionError, match="no rings"):
        salvage(os.getpid(), tmp_path / "t")
    program = start("kill")
    from atf._core import segment

    ids = runtime.sessions()[0]["processes"][0]["segments"].split(",")
    attached = segment.SegmentSet.attach(tuple(int(part) for part in ids))
    attached.remove()
    attached.detach()
    with pytest.raises(SegmentError, match="segments"):
        salvage(program.pid, tmp_path / "t")
