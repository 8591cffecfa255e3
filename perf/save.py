"""From stop to complete files: atf against VizTracer.save, for recordings of fib.

Both record the same calls in a fresh process a round; the clock runs from the call that stops the recorder until the
files are complete. atf has written most of them by then, VizTracer begins to write when it is told to save.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _bench import ROOT, Report, Spread, in_turn, parse, parser, ratios
from programs import fib

FULL, QUICK = 25, 12


def calls_of(size: int) -> int:
    """Calls of fib(size) and of the main around it."""
    return 2 * fib.fib(size + 1)


def save_atf(size: int, place: Path) -> dict:
    import atf

    recording = atf.start(place, policy="block")  # complete: the same calls as the other's
    fib.main(size)
    begin = time.perf_counter_ns()
    recording.stop()
    took = time.perf_counter_ns() - begin
    with atf.open(place) as trace:
        info = trace.info
    return {"ns": took, "events": info["events"], "lost": sum(info["lost"].values()), "complete": info["status"] == "complete"}


def save_viztracer(size: int, place: Path) -> dict:
    from viztracer import VizTracer

    place.mkdir()
    tracer = VizTracer(ignore_c_function=True, tracer_entries=calls_of(FULL) + 1000, verbose=0, output_file=str(place / "trace.json"))
    tracer.start()
    fib.main(size)
    begin = time.perf_counter_ns()
    tracer.stop()
    tracer.save()
    took = time.perf_counter_ns() - begin
    events = json.loads((place / "trace.json").read_text())["traceEvents"]
    return {"ns": took, "events": sum(event["ph"] == "X" for event in events), "lost": 0, "complete": True}


TOOLS: dict[str, Callable[[int, Path], dict]] = {"atf": save_atf, "viztracer": save_viztracer}


def one(tool: str, size: int, scratch: Path) -> dict:
    """Runs this file in a fresh process for one recorder."""
    place = Path(tempfile.mkdtemp(dir=scratch))
    command = [sys.executable, __file__, "--one", tool, "--size", str(size), "--place", str(place / "trace")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tool} failed:\n{done.stdout}{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    found["bytes"] = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    shutil.rmtree(place)
    return found


def available(report: Report) -> list[str]:
    tools = []
    try:
        import viztracer  # noqa: F401

        tools.append("viztracer")
    except ImportError:
        report.lacks("viztracer: pip install viztracer")
    try:
        import atf

        atf.start  # noqa: B018  the live half may be missing
        tools.insert(0, "atf")
    except (ImportError, AttributeError) as error:
        report.lacks(f"atf is not built for this Python: {error}")
    return tools


def main() -> int:
    made = parser(__doc__, rounds=5)
    made.add_argument("--one", choices=TOOLS, help=argparse.SUPPRESS)
    made.add_argument("--size", type=int, default=FULL, help=f"record fib of this (default {FULL})")
    made.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parse(made)
    if options.one:
        print(json.dumps(TOOLS[options.one](options.size, options.place)))
        return 0
    size = QUICK if options.quick else options.size
    report = Report("save", options)
    tools = available(report)
    with tempfile.TemporaryDirectory(prefix="atf-perf-") as scratch:
        results = in_turn({tool: lambda tool=tool: one(tool, size, Path(scratch)) for tool in tools}, options.rounds)
    show(report, results, size)
    return report.finish()


def show(report: Report, results: dict[str, list[dict]], size: int) -> None:
    calls, rows, took = calls_of(size), [], {}
    for tool, rounds in results.items():
        took[tool] = [found["ns"] / 1e6 for found in rounds]
        report.figure(f"{tool} ms", Spread.of(took[tool]))
        report.figure(f"{tool} bytes per call", rounds[0]["bytes"] / calls)
        rows.append([tool, Spread.of(took[tool]).text("{:.2f}"), rounds[0]["events"], f"{rounds[0]['bytes'] / calls:.1f}"])
        records = 2 if tool == "atf" else 1  # entry and exit are two records, or one with a duration
        for found in rounds:
            # both may record a few calls of their own around the program
            report.check(0 <= found["events"] - records * calls <= 40, f"{tool} kept {found['events']} events of {calls} calls")
            report.check(found["lost"] == 0 and found["complete"], f"{tool}: {found['lost']} lost, complete {found['complete']}")
    report.table([f"fib({size}), {calls} calls", "stop to complete files, ms", "events", "bytes a call"], rows)
    if "atf" in took and "viztracer" in took:
        report.goal("VizTracer.save / atf stop to complete files", ratios(took["viztracer"], took["atf"]), "≥", 100, " ×", "{:.0f}")


if __name__ == "__main__":
    sys.exit(main())
