"""Each trigger on real programs: the window is where it should be, and what lies in the files is what the manifest says."""

import itertools
import json
import signal
import subprocess
import time

import pytest

import atf
from atf._core.reader import DetailFile, IndexFile
from live import wait_for
from native_bench import attach_words, compile_program, needs_agent, needs_frida, needs_gcc, running

NONE = 0xFFFFFFFF
GAP = 8
ROLL = ("--pre-roll-sec", "0.02", "--post-roll-sec", "0.02")

# Noise for 60 ms, the thing, noise for 60 ms.
PROGRAM = """
    import sys, time, atf
    from errors import Refused
    def noise(n): return n
    def around(seconds=0.06):
        until = time.monotonic() + seconds
        n = 0
        while time.monotonic() < until:
            noise(n)
            n += 1
            time.sleep(0.001)
    def thing(): return 1
    class Store:
        def put(self, key): return key
    def napping(seconds): time.sleep(seconds)
    def failing(error): raise error
    def attempt(error):
        try: failing(error)
        except Exception: pass
    def main():
        around()
        napping(0.001)
        attempt(LookupError("other"))
        {thing}
        around()
    main()
"""
ERRORS = "class Refused(Exception): pass\n"


def shown(path):
    """Windows of every process, after a look at whether files and manifests agree."""
    found = {}
    for process in sorted(path.glob("pid_*")):
        manifest = json.loads((process / "manifest.json").read_text())
        windows = [(w["startNs"], w["endNs"]) for w in manifest["windows"]]
        assert all(a <= b for a, b in windows) and all(one[1] < two[0] for one, two in itertools.pairwise(windows))
        assert all(w["complete"] and w["startNs"] <= w["markNs"] <= w["endNs"] for w in manifest["windows"])
        for thread in process.glob("thread_*"):
            index = IndexFile(thread / "index.atf")
            linked = index.events["detail_seq"] != NONE
            assert (thread / "detail.atf").exists() == bool(linked.any()), "no mark, no detail.atf"
            times = index.events["timestamp_ns"]
            assert all(any(a <= at <= b for a, b in windows) for at in times[linked].tolist()), "a detail outside of every window"
            if linked.any():
                assert not len(DetailFile(thread / "detail.atf").broken_links(index.events)), "links in both directions"
            if manifest["flight"]["keep"] == "windows":
                real = times[index.events["event_kind"] != GAP].tolist()
                assert all(any(a <= at <= b for a, b in windows) for at in real), "an event outside of every window"
        found[manifest["pid"]] = manifest
    return found


def only_window(path):
    (manifest,) = shown(path).values()
    (window,) = manifest["windows"]
    return window


def noise_has_details(path, window):
    """Calls that carry a detail everywhere: inside of the window, and not outside."""
    with atf.open(path) as trace:
        calls = list(trace.events(function="noise", kind="call"))
        assert {call.has_detail for call in calls if not window["startNs"] <= call.timestamp_ns <= window["endNs"]} == {False}
        inside = [call for call in calls if window["startNs"] <= call.timestamp_ns <= window["endNs"]]
        assert inside and all(call.has_detail for call in inside)


@pytest.mark.parametrize(
    "trigger, thing, function, kind",
    [
        ("symbol=nowhere,thing", "thing()", "thing", "call"),
        ("symbol=__main__::thing", "thing()", "thing", "call"),
        ("symbol=Store.put", "Store().put(1)", "Store.put", "call"),
        ("symbol=checkout", "with atf.span('checkout', n=1): pass", "checkout", "call"),
        ("symbol~=::th.ng$", "thing()", "thing", "call"),
        ("exception=Refused", "attempt(Refused('no'))", "failing", "exception"),
        ("exception=errors.Refused", "attempt(Refused('no'))", "failing", "exception"),
        ("duration=napping>15ms", "napping(0.02)", "napping", "return"),
        ("atf.mark()", "atf.mark('here', n=1)", "here", "instant"),
        ("python=name == 'napping' and kind == 'return' and duration_ns > 15e6", "napping(0.02)", "napping", "return"),
        ("python=module == 'user' and depth == 1", "atf.event('point', n=1)", "point", "instant"),
    ],
)
def test_a_window_around_it(bench, trigger, thing, function, kind):
    bench.write(ERRORS, "errors.py")
    asked = () if trigger == "atf.mark()" else ("--trigger", trigger)
    ran = bench.python(PROGRAM.replace("{thing}", thing), options=("-q", "--level", "args", *asked, *ROLL))
    assert (ran.status, ran.err) == (0, "")
    window = only_window(ran.path)
    assert window["trigger"] == trigger
    with ran.trace() as trace:
        events = [event.timestamp_ns for event in trace.events(function=function, kind=kind)]
        exceptional = [at for at in events if window["markNs"] == at]
        assert exceptional, (window, events)
    last = events[-1]  # an exception leaves several functions
    assert (window["startNs"], window["markNs"]) == (window["markNs"] - 20_000_000, exceptional[0]) and window["endNs"] >= exceptional[0] + 20_000_000
    assert window["endNs"] <= last + 20_000_000
    noise_has_details(ran.path, window)


def test_nothing_marks(bench):
    bench.write(ERRORS, "errors.py")
    ran = bench.python(PROGRAM.replace("{thing}", "thing()"), options=("-q", "--level", "args", "--trigger", "symbol=nowhere", "--trigger", "crash"))
    assert ran.status == 0 and not list(ran.path.rglob("detail.atf"))
    ((_, manifest),) = shown(ran.path).items()
    assert manifest["windows"] == [] and manifest["lost"] == {}


def test_an_expression_that_raises_is_told_once(bench):
    bench.write(ERRORS, "errors.py")
    ran = bench.python(PROGRAM.replace("{thing}", "thing()"), options=("--level", "args", "--trigger", "python=1 / depth > 5"))
    assert ran.status == 0 and ran.err.count("ZeroDivisionError") == 1
    ((_, manifest),) = shown(ran.path).items()
    conditions = manifest["flight"]["conditions"]
    assert conditions["raised"] > 0 and conditions["missed"] == 0 and conditions["seen"] == sum(one["events"] for one in manifest["threads"])


@pytest.mark.parametrize("how, status", [("os.kill(os.getpid(), signal.SIGKILL)", 137), ("os.abort()", 134)])
def test_a_crash_keeps_the_end(bench, how, status):
    bench.write(ERRORS, "errors.py")
    ran = bench.python("\n    import os, signal" + PROGRAM.replace("{thing}", how), options=("-q", "--level", "args", "--flight", "2s", "--trigger", "crash"))
    assert ran.status == status
    window = only_window(ran.path)
    assert window["trigger"] == "crash"
    with ran.trace() as trace:
        assert len(list(trace.events(function="noise", kind="call"))) > 10 and trace.info["lost"] == {}


LIVING = """
    import sys, time
    def noise(n): return n
    print("ready", flush=True)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        noise(1)
        time.sleep(0.001)
"""


def test_a_signal_to_the_recorder(bench):
    program = bench.begin(LIVING, options=("-q", "--level", "args", "--trigger", "signal=SIGUSR1", *ROLL))
    assert program.stdout.readline() == "ready\n"
    bench.program_pid()
    time.sleep(0.1)
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    program.send_signal(signal.SIGUSR1)
    wait_for(lambda: list(bench.root.rglob("detail.atf")))
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    time.sleep(0.05)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=20)
    assert program.returncode == 143
    (path,) = bench.root.glob("session_*")
    window = only_window(path)
    assert before < window["markNs"] < after and window["trigger"] == "signal=SIGUSR1"
    noise_has_details(path, window)


def test_a_moment_after_the_beginning(bench):
    bench.write(ERRORS, "errors.py")
    ran = bench.python(
        PROGRAM.replace("{thing}", "around(0.3)"), options=("-q", "--level", "args", "--trigger", "time=+250ms", "--trigger", "time=+300ms-+320ms", *ROLL)
    )
    ((_, manifest),) = shown(ran.path).items()
    spans = [(w["trigger"], round((w["endNs"] - w["startNs"]) / 1e6)) for w in manifest["windows"]]
    assert spans in ([("time=+250ms", 40), ("time=+300ms-+320ms", 60)], [("time=+250ms", 110)])  # they touch
    assert all("marks" in w for w in manifest["windows"])


CHILDREN = """
    import multiprocessing, time, atf
    def noise(n): return n
    def around(seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            noise(1)
            time.sleep(0.001)
    def child(marks):
        around(0.15)
        if marks: atf.mark("there")
        around(0.15)
    if __name__ == "__main__":
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=child, args=(n == 1,)) for n in range(3)]
        for one in workers: one.start()
        around(0.4)
        for one in workers: one.join()
"""


@pytest.mark.parametrize("ring_only", [False, True])
def test_a_mark_in_one_process_keeps_the_window_in_all(bench, ring_only):
    options = ("--flight", "20ms", "--post-roll-sec", "0.02") if ring_only else ROLL
    ran = bench.python(CHILDREN, options=("-q", "--level", "args", *options))
    assert (ran.status, ran.err) == (0, "")
    found = shown(ran.path)
    assert len(found) == 4
    bounds = {(w["startNs"], w["endNs"], w["markNs"]) for manifest in found.values() for w in manifest["windows"]}
    assert len(bounds) == 1, "one window, the same in all"
    (window,) = next(iter(found.values()))["windows"]
    with ran.trace() as trace:
        where = {event.thread.process.pid for event in trace.events(function="noise", kind="call") if event.has_detail}
        assert where == set(found)
        assert trace.info["lost"] == {} and trace.check() == []
    if not ring_only:
        noise_has_details(ran.path, window)


@pytest.mark.parametrize("size", ["2s", "8M"])
def test_a_trace_of_windows_opens_everywhere_and_nothing_is_called_lost(bench, size):
    bench.write(ERRORS, "errors.py")
    thing = "atf.mark('one'); around(); atf.mark('two')"
    options = ("--flight", size, "--post-roll-sec", "0.01") if size != "2s" else ("--flight", "10ms", "--post-roll-sec", "0.01")
    ran = bench.python(PROGRAM.replace("{thing}", thing), options=("--level", "args", "--json", *options))
    assert ran.status == 0 and ran.summary["lost"] == {} and ran.summary["errors"] == []
    ((_, manifest),) = shown(ran.path).items()
    assert manifest["lost"] == {} and len(manifest["windows"]) == (1 if size == "8M" else 2)
    with ran.trace() as trace:
        gaps = list(trace.events(kind="gap"))
        assert trace.info["lost"] == {} and trace.check() == []
        assert all((gap.lost, gap.reason) == (0, "not kept") and gap.unkept > 0 for gap in gaps)
        assert len(gaps) == 0 if size == "8M" else 1 <= len(gaps) <= 2
    for words in (["info"], ["tree"], ["top"], ["events"], ["spans"], ["query", "trace.info"], ["query", "trace.summary"]):
        told = bench.atf(words[0], str(ran.path), *words[1:])
        assert told.status == 0 and told.err == "" and told.out
        assert " lost (" not in told.out and "events lost" not in told.out, told.out
        if words == ["events"] and gaps:
            assert f"{gaps[0].unkept} events not kept" in told.out.replace(",", "").replace("\u202f", "")
        if words == ["info"]:
            assert "nothing" in told.out


@needs_gcc
@needs_agent
@pytest.mark.parametrize("trigger", ["symbol=middle", "symbol~=mid"])
def test_a_native_function(bench, tmp_path, trigger):
    program = compile_program(tmp_path, "loop")
    ran = bench.record(program, "1", "0", options=("-q", "--trigger", trigger, "--pre-roll-sec", "1", "--post-roll-sec", "1"))
    assert ran.status == 0
    window = only_window(ran.path)
    with ran.trace() as trace:
        (call,) = trace.events(function="middle", kind="call")
        assert window["markNs"] == call.timestamp_ns and window["trigger"] == trigger


@needs_gcc
@needs_agent
@needs_frida
def test_attached_with_a_trigger(bench, tmp_path):
    with running(compile_program(tmp_path, "busy")) as program:
        assert program.stdout.readline() == "ready\n"
        words = attach_words(bench, program.pid, "--trigger", "signal=SIGUSR1", "--flight", "50ms", "--post-roll-sec", "0.05")
        recorder = subprocess.Popen(words, cwd=bench.path, env=bench.environment, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: list(bench.root.rglob("manifest.json")))
        time.sleep(0.5)
        assert not list(bench.root.rglob("index.atf"))
        recorder.send_signal(signal.SIGUSR1)
        wait_for(lambda: list(bench.root.rglob("index.atf")))
        time.sleep(0.1)
        recorder.send_signal(signal.SIGTERM)
        _, err = recorder.communicate(timeout=30)
        assert recorder.returncode == 0, err
        assert program.communicate(timeout=20)[0] == "whole\n"
    (path,) = bench.root.glob("session_*")
    window = only_window(path)
    assert window["trigger"] == "signal=SIGUSR1" and window["endNs"] - window["startNs"] == 100_000_000
    with atf.open(path) as trace:
        assert len(list(trace.events(function="step", kind="call"))) > 100 and trace.info["lost"] == {}


WINDOWS = """
    import atf, os, time
    def step(n): return n
    for n in range(20): step(n)
    atf.mark("first"); atf.mark("again")
    time.sleep(0.15)
    child = os.fork()
    if child == 0:
        step(-1)
        os._exit(0)
    os.waitpid(child, 0)
    step(100)
"""


def test_trace_info_lists_the_windows(bench):
    from atf.query import connect

    options = ("-q", "--trigger", "symbol=step", "--level", "args", "--pre-roll-sec", "0.02", "--post-roll-sec", "0.03")
    path = bench.python(WINDOWS, options=options).path
    manifests = [json.loads(file.read_text()) for file in path.glob("pid_*/manifest.json")]
    assert len(manifests) == 2
    whole = max((manifest["windows"] for manifest in manifests), key=len)
    with connect(bench.root) as client:
        found = client.trace_info(trace_id=path.name).windows
        (place,) = (file.parent for file in path.glob("pid_*/manifest.json") if json.loads(file.read_text())["windows"] == whole)
        assert [one.start_ns for one in client.trace_info(trace_id=f"{path.name}/{place.name}").windows] == [one["startNs"] for one in whole]
    assert [(one.start_ns, one.mark_ns, one.trigger, one.trigger_kind) for one in found] == [
        (one["startNs"], one["markNs"], one["trigger"], one["triggerKind"]) for one in whole
    ], "each once, though both processes list them"
    assert len(found) == 2 and all(one.start_ns <= one.mark_ns <= one.end_ns and one.complete for one in found)
    assert found[0].trigger == "symbol=step" and found[0].marks == 22 and found[0].end_ns - found[0].mark_ns >= 30_000_000
    assert found[0].pre_roll_sec == 0.02 and found[0].post_roll_sec == 0.03 and found[0].policy_version == 1
    broken = manifests[0]
    broken["windows"] = [7, {"startNs": "soon"}, *whole]
    (path / f"pid_{broken['pid']}" / "manifest.json").write_text(json.dumps(broken))
    with connect(bench.root) as client:
        assert len(client.trace_info(trace_id=path.name).windows) == 2, "a manifest may hold anything"
