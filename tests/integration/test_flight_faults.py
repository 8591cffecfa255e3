"""The flight recorder when something goes wrong: a crash, a stopped drain, a killed target, a full disk. Long versions: tests/stress."""

import contextlib
import json
import os
import signal
import subprocess
import time

import msgspec
import pytest
from live import produced, wait_for

import atf
from atf._core.reader import DetailFile, IndexFile

CRASH = ["-q", "--trigger", "crash", "--pre-roll-sec", "0.2", "--post-roll-sec", "0.1"]
NUMBERED = """
    import atf, sys, os, signal
    number = 0
    for line in sys.stdin:
        word, _, count = line.strip().partition(" ")
        if word == "mark": atf.mark("here", number=number)
        if word == "write":
            for number in range(number, number + int(count)):
                atf.event("numbered", number=number)
            number += 1
        if word == "die": os.kill(os.getpid(), int(count))
        print("ok", flush=True)
"""


def manifest(bench):
    (found,) = bench.root.glob("session_*/pid_*/manifest.json")
    return json.loads(found.read_text())


def numbers(bench):
    """{position in index.atf: number} of the main thread's numbered events that have their detail."""
    (place,) = bench.root.glob("session_*/pid_*/thread_0")
    index = IndexFile(place / "index.atf")
    if not (place / "detail.atf").exists():
        return {}, index
    details = DetailFile(place / "detail.atf")
    assert len(details.broken_links(index.events)) == 0
    linked = {seq: details.of_event(seq, link) for seq, link in enumerate(index.events["detail_seq"].tolist()) if link != 0xFFFFFFFF}
    said = {seq: msgspec.msgpack.decode(bytes(record.payload))["attributes"] for seq, record in linked.items()}
    return {seq: one["number"] for seq, one in said.items() if "mark" not in one}, index


class Talk:
    """A recorded program that does what it is told, line by line."""

    def __init__(self, bench, *options):
        self.bench = bench
        self.recorder = bench.begin(NUMBERED, options=["-q", "--include", "nothing", *options])

    def tell(self, words, answers=True):
        print(words, file=self.recorder.stdin, flush=True)
        assert not answers or self.recorder.stdout.readline() == "ok\n"

    def end(self):
        self.recorder.communicate(timeout=30)
        return self.recorder.returncode


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# ---------------------------------------------------------------- crashes
def test_an_exception_that_nobody_caught_keeps_its_window(bench):
    source = """
        import atf, time
        atf.event("early", number=0)
        time.sleep(0.5)
        for number in range(1, 50): atf.event("numbered", number=number)
        def deep(): raise LookupError("gone")
        deep()
    """
    ran = bench.python(source, options=CRASH)
    assert ran.status == 1 and "LookupError: gone" in ran.err
    (window,) = manifest(bench)["windows"]
    assert window["triggerKind"] == "crash" and window["complete"]
    with ran.trace() as trace:
        (event,) = trace.events(function="crash")
        assert event.timestamp_ns == window["markNs"] and event.detail["attributes"] == {"crash": True, "type": "builtins.LookupError"}
    assert sorted(numbers_of(trace_path=ran.path)) == list(range(1, 50))


def numbers_of(trace_path):
    with atf.open(trace_path) as trace:
        return [event.detail["attributes"]["number"] for event in trace.events(function="numbered") if event.detail]


def test_an_end_that_is_no_crash(bench):
    source = """
        import atf, sys
        def runner():
            try: raise ValueError("caught")
            except ValueError as error: return error
        def shell():
            try: runner(), 1 / 0
            except ZeroDivisionError as error: return error
        sys.last_value = sys.last_exc = shell()  # as test runners and shells do
        atf.event("numbered", number=1)
        sys.exit(3)
    """
    assert bench.python(source, options=CRASH).status == 3
    assert manifest(bench)["windows"] == []


def test_a_death_by_a_signal_keeps_its_window(bench, number=signal.SIGSEGV):
    talk = Talk(bench, *CRASH[1:])
    talk.tell("write 100")
    time.sleep(0.4)
    talk.tell("write 200")
    talk.tell(f"die {int(number)}", answers=False)
    assert talk.end() == 128 + number
    (window,) = manifest(bench)["windows"]
    said, index = numbers(bench)
    assert window["triggerKind"] == "crash" and window["complete"] and set(range(100, 300)) <= set(said.values())
    assert set(said) == {
        seq for seq, at in enumerate(index.events["timestamp_ns"].tolist()) if at >= window["startNs"] and index.events["event_kind"][seq] == 4
    }


# ---------------------------------------------------------------- the drain stands still
def test_a_stopped_drain_costs_nothing_that_fits(bench):
    """FORBIDDEN: a record lost or twice while the rings and the lane that threads share have room for it."""
    talk = Talk(bench, "--ring-size", "64K", "--burst-size", "0")
    talk.tell("write 1000")
    wait_for(lambda: list(bench.runtime.glob("atf/*/*.process")))
    time.sleep(0.3)
    with stopped(talk.recorder.pid):
        time.sleep(0.7)  # longer than a drain's silence may be
        talk.tell("write 6000")
    time.sleep(0.3)
    talk.tell("write 1000")
    talk.tell("mark")
    assert talk.end() == 0
    found = manifest(bench)
    said, index = numbers(bench)
    kinds = index.events["event_kind"].tolist()
    names = index.events["function_id"]
    assert found["lost"] == {} and 8 not in kinds
    assert int((names == names[0]).sum()) == 8000, "each once"
    assert list(said.values()) == sorted(set(said.values()))
    assert found["counters"]["fallback_events"] > 3000 and found["counters"]["mode_transitions"] >= 2
    states = {(one["lane"], one["state"]) for one in found["overload"]["periods"]}
    assert ("index", "dropping") in states, "no ring was free"
    assert sum(one["dropped"] for one in found["overload"]["periods"] if one["lane"] == "index") == 0


def test_a_stopped_target_goes_on(bench):
    """Stopped inside a window and after it."""
    talk = Talk(bench, "--trigger", "exception=Never", "--pre-roll-sec", "0.05", "--post-roll-sec", "0.2")
    talk.tell("write 50")
    talk.tell("mark")
    talk.tell("write 50")
    pid = bench.program_pid()
    with stopped(pid):
        time.sleep(0.5)
    talk.tell("write 50")
    talk.tell("mark")
    with stopped(pid):
        time.sleep(0.1)
    talk.tell("write 50")
    assert talk.end() == 0
    windows = manifest(bench)["windows"]
    said, index = numbers(bench)
    at = index.events["timestamp_ns"].astype(int).tolist()
    kinds = index.events["event_kind"].tolist()
    inside = [seq for seq in range(len(at)) if kinds[seq] == 4 and any(w["startNs"] <= at[seq] <= w["endNs"] for w in windows)]
    marks = set(inside) - set(said)
    assert len(windows) == 2 and all(w["complete"] for w in windows) and set(said) == set(inside) - marks and len(marks) == 2


# ---------------------------------------------------------------- the disk is full
def test_a_full_disk_inside_a_window(bench, when="inside"):
    """Around a mark: what is not in the files is counted, and what follows once there is room is there."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system that gets full")
    bench.root.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(bench.root)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        talk = Talk(bench, "--trigger", "exception=Never", "--pre-roll-sec", "0.05", "--post-roll-sec", "0.1")

        def step(name, count):
            ballast = bench.root / "ballast"
            if name == when:
                with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
            talk.tell(f"write {count}")
            time.sleep(0.3)
            ballast.unlink(missing_ok=True)

        talk.tell("write 100")
        time.sleep(0.3)
        step("before", 4000)
        talk.tell("mark")
        step("inside", 4000)
        step("after", 4000)
        talk.tell("mark")
        talk.tell("write 100")
        assert talk.end() == 0
        found = manifest(bench)
        said, _ = numbers(bench)
        (session,) = bench.root.glob("session_*")
        with atf.open(session) as trace:
            assert trace.check() == []
            assert produced(trace) == 12_202, "what is missing is told"
            assert trace.info["lost"].get("disk full", 0) == found["lost"].get("disk full", 0)
        (thread,) = found["threads"]
        assert found["status"] == "complete" and set(range(12_100, 12_200)) <= set(said.values())
        marked = thread["events"], thread["details"], thread["details_lost"]
        assert (when == "inside") == (set(range(4100, 4110)) - set(said.values()) != set()), marked
        assert when != "inside" or thread["details_lost"] + found["lost"].get("disk full", 0) > 0, "said in the manifest"
    finally:
        subprocess.run(["umount", "-l", str(bench.root)], check=True)
