"""``atf record --budget``: levels go down when recording costs more, and up again; every change is told."""

import json
import sys
import time

import pytest
from live import wait_for

import atf

FLIGHT = ["--flight", "4s", "--post-roll-sec", "0.01", "--history-size", "8M"]  # a flood is not to fill the disk
PROGRAM = """
    import atf, os, sys, threading, time
    last = time.monotonic() + 90
    def turn(n, text): return n
    def busy(until):
        while not os.path.exists(until) and time.monotonic() < last:
            for n in range(2000): turn(n, "value")
    def idle(until):
        while not os.path.exists(until) and time.monotonic() < last:
            time.sleep(0.02); turn(0, "idle")
    other = threading.Thread(target=busy, args=(sys.argv[1],)); other.start()
    busy(sys.argv[1]); other.join()
    idle(sys.argv[2])
    atf.mark("end")
"""


def stat(bench):
    time.sleep(0.3)  # asking costs the recorder something too
    ran = bench.atf("stat", "--json")
    return json.loads(ran.out) if ran.status == 0 else None


def test_levels_follow_the_load_and_everything_tells_of_it(bench):
    calm, done = bench.path / "calm", bench.path / "done"
    program = bench.begin(PROGRAM, str(calm), str(done), options=["--level", "args", "--budget", "15%", "--ring-size", "1M", *FLIGHT])
    try:
        wait_for(lambda: (now := stat(bench)) and now["level"] == "calls" and now)
        calm.touch()
        found = wait_for(lambda: (now := stat(bench)) and now["level"] == "args" and now, 60)
        assert found["budget"]["percent"] == 15 and found["budget"]["asked"] == "args" and found["budget"]["changes"] >= 4
        assert "args (asked: args" in bench.atf("stat", "--once").out
    finally:
        calm.touch()
        done.touch()
        _, err = program.communicate(timeout=60)
    assert program.returncode == 0 and "to keep the budget of 15 %" in err
    (session,) = bench.root.glob("session_*")
    (place,) = session.glob("pid_*")
    manifest = json.loads((place / "manifest.json").read_text())
    levels = manifest["levels"]
    assert [one["to"] for one in levels[:2]] == ["returns", "calls"] and [one["to"] for one in levels[-2:]] == ["returns", "args"]
    for before, after in zip([{"to": "args"}, *levels], levels):
        assert after["from"] == before["to"] and "the budget is 15 %" in after["why"]
    assert manifest["budget"]["eventNs"]["measured"] and manifest["level"] == "args"
    trace = atf.open(session)
    (*_, told) = trace.events(function="atf.level args")
    assert told.detail["attributes"] == {"from": "returns", "to": "args", "why": "budget"}
    assert 0 < told.timestamp_ns - levels[-1]["atNs"] < 1e9, "at the thread's next event"
    values = [span.args is not None for span in trace.spans(function="turn") if span.start_ns > told.timestamp_ns]
    assert values and all(values)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "much"], "per cent of one processor"),
        (["--budget", "5%", "--level", "calls"], "below --level calls"),
        (["--budget", "5%", "--native", "--all-modules"], "for Python programs"),
        (["--budget", "5%", "--programs"], "for Python programs"),
    ],
)
def test_refused_at_the_door(bench, options, said):
    ran = bench.python("print('it ran')", options=options)
    assert ran.status == 2 and said in ran.err and "it ran" not in ran.out


def test_a_native_program_has_no_budget(bench):
    ran = bench.record("/bin/true", options=["--budget", "5%"])
    assert ran.status == 2 and "for Python programs" in ran.err


def test_the_price_of_an_event_is_measured_by_the_programs_interpreter():
    from atf.cost import Measurement

    made = Measurement(sys.executable, "")
    wait_for(lambda: made.look() and made.measured)
    assert all(1 < ns < 20_000 for ns in made.ns.values())
    missing = Measurement("/nowhere/python", "")
    assert missing.look() and not missing.measured


@pytest.mark.stress
def test_a_budget_over_parts(bench):
    """FORBIDDEN: a cost below nothing, since what ended with a part is no longer among what the drain counts; a part that has lost the changes of level."""
    calm, done = bench.path / "calm", bench.path / "done"
    options = ["--level", "args", "--budget", "15%", "--ring-size", "256K", "--max-size", "256K", "--max-parts", "3"]
    program = bench.begin(PROGRAM, str(calm), str(done), options=options)
    costs = []

    def now():
        if found := stat(bench):
            costs.append(found["budget"]["costPercent"])
        return found

    try:
        wait_for(lambda: (found := now()) and found["level"] == "calls" and len(costs) > 8)
        calm.touch()
        wait_for(lambda: (found := now()) and found["level"] == "args", 60)
    finally:
        calm.touch()
        done.touch()
        _, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    assert min(costs) >= 0 and max(costs) > 15
    (session,) = bench.root.glob("session_*")
    places = sorted(session.glob("part_*/pid_*"), key=lambda place: int(place.parent.name.split("_")[1]))
    assert len(places) == 3 and places[-1].parent.name != "part_3", "parts came and went"
    levels = json.loads((places[-1] / "manifest.json").read_text())["levels"]
    assert [one["to"] for one in levels[:2]] == ["returns", "calls"] and levels[-1]["to"] == "args"
