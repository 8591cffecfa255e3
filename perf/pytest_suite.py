"""What a recorded test costs beside the same test unrecorded: 300 tests of 221 calls, green and kept, against other recorders in a fixture.

Each side runs the same suite by pytest in a fresh process a round; the clock runs around pytest's own loop over the tests, so that starting the
interpreter and importing counts for nobody. A test's cost is the difference to the unrecorded suite of the same round. Beside it what one slice
takes by itself: cut out of the rings, directory, files and manifest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _bench import ROOT, Report, Spread, in_turn, parse, parser, ratios

TESTS, CALLS = 300, 221
SUITE = """
import pytest

def leaf(number):
    return number + 1

def work():
    number = 0
    for _ in range(220):
        number = leaf(number)
    return number

@pytest.mark.parametrize("number", range({tests}))
def test_work(number):
    assert work() == 220
"""
CONFTEST = """
import json, os, time
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session):
    begin, used = time.perf_counter_ns(), time.process_time_ns()
    found = yield
    used, took = time.process_time_ns() - used, time.perf_counter_ns() - begin
    with open("took.json", "w") as file:
        json.dump([took, used], file)
    return found
"""
FIXTURES = {
    "viztracer, new": """
from viztracer import VizTracer

@pytest.fixture(autouse=True)
def traced(request):
    place = os.path.join("out", f"{request.node.callspec.id}.json")
    with VizTracer(output_file=place, verbose=0, ignore_c_function=True, tracer_entries=100000):
        yield
""",
    "viztracer, reused": """
from viztracer import VizTracer

tracer = VizTracer(verbose=0, ignore_c_function=True, tracer_entries=100000)

@pytest.fixture(autouse=True)
def traced(request):
    tracer.start()
    yield
    tracer.stop()
    tracer.save(os.path.join("out", f"{request.node.callspec.id}.json"))
    tracer.clear()
""",
    "kolo": """
import kolo

@pytest.fixture(autouse=True)
def traced():
    with kolo.enabled({"auto_emit": False}):
        yield
""",
}
ATF = {"atf, green": ["--atf=retain-on-failure"], "atf, kept": ["--atf=on"]}


def size_of(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) if place.exists() else 0


def empty(place: Path) -> None:
    """Give the disk its blocks back and keep the names: ext4 looks for an inode beyond all that were deleted in the last seconds, which
    would make every file that is made next cost a millisecond."""
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


def run(side: str, tests: int, scratch: Path, report: Report) -> dict:
    """The suite once: {"ns", "cpu_ns", "bytes" a test, "calls" in each kept trace}."""
    place = Path(tempfile.mkdtemp(dir=scratch))
    (place / "out").mkdir()
    (place / "test_suite.py").write_text(SUITE.format(tests=tests))
    (place / "conftest.py").write_text(CONFTEST + FIXTURES.get(side, ""))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    if side in ATF:
        command += ["-p", "atf.pytest_plugin", *ATF[side], "--atf-dir=out", "--atf-max-files=0"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.sync()  # what the side before wrote is not this one's business
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    report.check(done.returncode == 0 and f"{tests} passed" in done.stdout, f"{side}: {done.stdout[-600:]}{done.stderr[-600:]}")
    took, used = json.loads((place / "took.json").read_text())
    found = {"ns": took / tests, "cpu_ns": used / tests, "bytes": (size_of(place / "out") + size_of(place / ".kolo")) / tests}
    if side == "atf, kept":
        found["calls"] = calls_of(place / "out")
    empty(place)
    return found


def calls_of(out: Path) -> list[int]:
    """Calls of the tested functions in each kept trace."""
    import atf

    found = []
    for manifest in sorted(out.glob("[0-9]*/*/manifest.json")):  # not through the link `latest`
        with atf.open(manifest.parent) as trace:
            found.append(sum(len(list(trace.events(kind="call", function=name))) for name in ("leaf", "work")))
    return found


def slices(keeps: int, scratch: Path) -> list[float]:
    """Milliseconds of one slice of 221 calls, by itself."""
    from atf.slices import Slices

    def leaf(number: int) -> int:
        return number + 1

    recording, took = Slices(None, {"include": ["__main__"]}), []
    os.sync()
    recording.begin()
    try:
        for number in range(keeps):
            start = recording.now_ns()
            for _ in range(CALLS):
                leaf(number)
            end = recording.now_ns()
            begin = time.perf_counter_ns()
            kept = recording.keep(scratch / f"slice-{number}", start, end)
            took.append((time.perf_counter_ns() - begin) / 1e6)
            if not 2 * CALLS <= kept.events <= 2 * CALLS + 6 or kept.overwritten:
                raise SystemExit(f"a slice of {CALLS} calls has {kept.events} events, {kept.overwritten} overwritten")
    finally:
        recording.end()
    return took


def available(report: Report) -> list[str]:
    sides = ["none", *ATF]
    for name in ("viztracer", "kolo"):
        if subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0:
            sides += [side for side in FIXTURES if side.startswith(name)]
        else:
            report.lacks(f"{name}: pip install {name}")
    return sides


def main() -> int:
    made = parser(__doc__, rounds=5)
    made.add_argument("--tests", type=int, default=TESTS, help=f"tests in the suite (default {TESTS})")
    made.add_argument("--without", action="append", default=[], help=argparse.SUPPRESS)
    options = parse(made)
    tests = 6 if options.quick else options.tests
    report = Report("pytest_suite", options)
    sides = [side for side in available(report) if side not in options.without]
    with tempfile.TemporaryDirectory(prefix="atf-perf-", ignore_cleanup_errors=True) as scratch:
        results = in_turn({side: lambda side=side: run(side, tests, Path(scratch), report) for side in sides}, options.rounds)
        alone = slices(20 if options.quick else 300, Path(scratch))
    show(report, results, alone, tests)
    return report.finish()


def cost_of(rounds: list[dict], plain: list[dict], key: str) -> list[float]:
    """ms a test more than without a recorder, round by round."""
    return [max((found[key] - base[key]) / 1e6, 1e-3) for found, base in zip(rounds, plain, strict=True)]


def show(report: Report, results: dict[str, list[dict]], alone: list[float], tests: int) -> None:
    plain = results["none"]
    cost, rows = {}, []
    for side, rounds in results.items():
        size = Spread.of(found["bytes"] for found in rounds)
        if side == "none":
            took = [Spread.of(found[key] / 1e6 for found in plain).text("{:.3f}") + " in all" for key in ("ns", "cpu_ns")]
            rows.append([side, *took, "0"])
            continue
        cost[side], used = cost_of(rounds, plain, "ns"), Spread.of(cost_of(rounds, plain, "cpu_ns"))
        report.figure(f"{side}, ms a test", Spread.of(cost[side]))
        report.figure(f"{side}, CPU ms a test", used)
        report.figure(f"{side}, bytes a test", size)
        rows.append([side, Spread.of(cost[side]).text("{:.3f}"), used.text("{:.3f}"), f"{size.median:,.0f}"])
    report.figure("one slice alone, ms", Spread.of(sorted(alone)[len(alone) // 20 : -(len(alone) // 20) or None]))
    report.table([f"{tests} tests of {CALLS} calls", "ms a test more", "of CPU time", "bytes a test"], rows)
    for found in results["atf, kept"]:
        report.check(found["calls"] == [CALLS] * tests, f"kept traces of {CALLS} calls: {sorted(set(found['calls']))} in {len(found['calls'])}")
    report.goal("one slice alone", Spread.of([sorted(alone)[len(alone) // 2]]), "≤", 0.3, " ms", "{:.3f}")
    report.goal("a green test", Spread.of(cost["atf, green"]), "≤", 0.2, " ms", "{:.3f}")
    report.goal("a green test's files", Spread.of(found["bytes"] for found in results["atf, green"]), "≤", 0, " bytes", "{:.0f}")
    report.goal("a kept test", Spread.of(cost["atf, kept"]), "≤", 0.5, " ms", "{:.3f}")
    for side, least in (("viztracer, new", 10), ("viztracer, reused", 10), ("kolo", 1)):
        if side in cost:
            report.goal(f"{side} / atf, kept", ratios(cost[side], cost["atf, kept"]), "≥", least, " ×", "{:.1f}")


if __name__ == "__main__":
    sys.exit(main())
