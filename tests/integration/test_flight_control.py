"""A recording that runs is asked for windows and given other triggers, by another process."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import atf
from atf import control
from atf.errors import SessionError

PROGRAM = """
import atf, sys, time
def alarm(n): return n
def calm(n): return n
end = time.monotonic() + 30
n = 0
while time.monotonic() < end:
    with atf.span("turn", n=n):
        calm(n)
        if n % 50 == 7: alarm(n)
    n += 1
    time.sleep(0.001)
"""


class Recorder:
    """``atf record`` of the program in a process of its own."""

    def __init__(self, place, *options):
        self.out = place / "out"
        (place / "program.py").write_text(PROGRAM)
        self.home = str(pathlib.Path(atf.__file__).parents[1])
        words = [sys.executable, "-m", "atf", "record", "-q", "--level", "args", "-o", str(self.out), *options, "--", sys.executable, str(place / "program.py")]
        self.process = subprocess.Popen(words, cwd=self.home, stderr=subprocess.PIPE, text=True, start_new_session=True)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = [one for one in self.sessions() if one["processes"]]
            if found:
                self.session = found[0]
                return
            time.sleep(0.01)
        raise AssertionError("nothing is recorded")

    def sessions(self):
        from atf import runtime

        return [one for one in runtime.sessions() if one["config"].get("recorder_pid") == str(self.process.pid)]

    def atf(self, *words):
        ran = subprocess.run([sys.executable, "-m", "atf", *words], cwd=self.home, capture_output=True, text=True, timeout=60)
        return ran.returncode, ran.stdout, ran.stderr

    def end(self):
        self.process.terminate()
        _, err = self.process.communicate(timeout=30)
        (session,) = self.out.iterdir()
        return session, err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


def windows(session):
    (manifest,) = session.glob("pid_*/manifest.json")
    return json.loads(manifest.read_text())["windows"]


def test_a_snapshot_of_the_last_moments(tmp_path):
    with Recorder(tmp_path, "--flight", "300ms", "--post-roll-sec", "0.1") as recorder:
        time.sleep(0.5)
        assert not list(recorder.out.rglob("index.atf")), "nothing is written before a mark"
        status, out, err = recorder.atf("snapshot", str(recorder.process.pid), "--json")
        assert (status, err) == (0, ""), err
        made = json.loads(out)
        assert made["complete"] and made["triggerKind"] == "snapshot" and made["endNs"] - made["startNs"] == 400_000_000
        assert list(recorder.out.rglob("index.atf"))
        session, err = recorder.end()
    (window,) = windows(session)
    assert (window["startNs"], window["endNs"]) == (made["startNs"], made["endNs"])
    with atf.open(session) as trace:
        times = [event.timestamp_ns for event in trace.events() if event.kind != "gap"]
        assert len(times) > 50 and all(window["startNs"] <= at <= window["endNs"] for at in times)
        assert times[0] - window["startNs"] < 50_000_000 and window["endNs"] - times[-1] < 50_000_000


def test_other_triggers_while_it_runs(tmp_path):
    with Recorder(tmp_path, "--trigger", "symbol=nowhere", "--pre-roll-sec", "0.01", "--post-roll-sec", "0.01") as recorder:
        time.sleep(0.3)
        assert not list(recorder.out.rglob("detail.atf"))
        status, out, err = recorder.atf("control", "--trigger", "symbol=alarm", "--json", str(recorder.process.pid))
        assert (status, err) == (0, "") and json.loads(out) == {"version": 2, "triggers": ["symbol=alarm", "atf.mark()"]}
        time.sleep(0.5)
        status, out, err = recorder.atf("control", str(recorder.process.pid), "--trigger", "symbol=a,,b")
        assert status == 2 and "a name is empty\n  symbol=a,,b\n           ^" in err
        session, _ = recorder.end()
    found = windows(session)
    assert len(found) >= 3 and {(w["trigger"], w["policyVersion"]) for w in found} == {("symbol=alarm", 2)}
    with atf.open(session) as trace:
        marks = [call.timestamp_ns for call in trace.events(function="alarm", kind="call")]
        late = [at for at in marks if at >= found[0]["markNs"]]
        assert {w["markNs"] for w in found} <= set(late) and sum(w["marks"] for w in found) == len(late), "every call since is marked, none before"


def test_a_recording_is_ended_by_another(tmp_path):
    with Recorder(tmp_path) as recorder:
        status, out, _ = recorder.atf("control", str(recorder.process.pid), "--stop")
        assert status == 0 and "ended" in out
        until = time.monotonic() + 10
        while not list(recorder.out.glob("*/*/manifest.json")) or '"complete"' not in next(recorder.out.glob("*/*/manifest.json")).read_text():
            assert time.monotonic() < until
            time.sleep(0.02)
        assert recorder.process.poll() is None, "the program goes on"
        status, _, err = recorder.atf("snapshot", str(recorder.process.pid))
        assert status != 0 and err


def test_who_is_meant(tmp_path):
    with pytest.raises(SessionError, match="no recording 1 is running"):
        control.find("1")
    with Recorder(tmp_path) as recorder:
        (session,) = recorder.out.iterdir()
        assert control.find(str(session))["path"] == control.find(session.name)["path"] == recorder.session["path"]
        with pytest.raises(SessionError, match="does not know|understands"):
            try:
                control.ask(recorder.session, "dance")
            except atf.errors.UsageError as error:
                raise SessionError(str(error)) from error
