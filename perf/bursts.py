"""Bursts under `atf record` with its defaults: what is lost, and what spare memory they took, by the pause between them.

A program calls an empty function as fast as it can, is quiet for a while, and does it again. A drain that wakes late, or whose
files take fresh memory, falls behind for milliseconds; what it has not read yet must have room. Nothing may be lost.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _bench import ROOT, Report, Spread, in_turn, parse, parser

PAUSES_MS = (0, 5, 50, 400)
CALLS, BURSTS = {"full": 300_000, "quick": 5_000}, {"full": 8, "quick": 2}
PROGRAM = """
import sys, time
def leaf(): pass
def burst(calls):
    for _ in range(calls): leaf()
calls, bursts, pause_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
busy_ns = 0
for _ in range(bursts):
    begin = time.thread_time_ns()
    burst(calls)
    busy_ns += time.thread_time_ns() - begin
    time.sleep(pause_s)
print(busy_ns)
"""


def bursts(scratch: Path, calls: int, count: int, pause_ms: int, options: list[str]) -> dict:
    """One recorded run of the program: its rate in its own CPU time, losses, and the spare rings that were in use at most."""
    import atf

    place = Path(tempfile.mkdtemp(dir=scratch))
    try:
        command = [sys.executable, "-m", "atf", "record", "--out", str(place), "--quiet", *options, "--", sys.executable, "-c", PROGRAM]
        command += [str(calls), str(count), str(pause_ms / 1000)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the recorded program ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        with atf.open(place) as trace:
            info = trace.info
            written = sum(len(thread.events) for thread in trace.threads)
        (manifest,) = place.glob("session_*/pid_*/manifest.json")
        counters = json.loads(manifest.read_text())["counters"]
        lost = sum(info["lost"].values())
        rate = (written + lost) / int(done.stdout) * 1e3
        return {"lost": lost, "written": written, "rate": rate, "spares": counters["spares_most"], "complete": info["status"] == "complete"}
    finally:
        shutil.rmtree(place)


def main() -> int:
    made = parser(__doc__, rounds=5)
    made.add_argument(
        "--record", action="append", default=[], metavar="OPTION", help="a further option of `atf record`, such as --record=--burst-size=0"
    )
    options = parse(made)
    report = Report("bursts", options)
    size = "quick" if options.quick else "full"
    calls, count = CALLS[size], BURSTS[size]
    with tempfile.TemporaryDirectory(prefix="atf-perf-") as scratch:
        cases = {pause: lambda pause=pause: bursts(Path(scratch), calls, count, pause, options.record) for pause in PAUSES_MS}
        results = in_turn({f"{pause} ms": run for pause, run in cases.items()}, options.rounds)
    rows, lost = [], 0
    for name, passes in results.items():
        rate, spares = Spread.of(done["rate"] for done in passes), Spread.of(done["spares"] for done in passes)
        lost += sum(done["lost"] for done in passes)
        rows.append([name, rate.text("{:.1f}"), sum(done["lost"] for done in passes), spares.text("{:.0f}")])
        report.figure(name, {"million_events_per_s": rate.json(), "lost": [done["lost"] for done in passes], "spare_rings": spares.json()})
        for done in passes:
            made_events = done["written"] + done["lost"]
            report.check(done["complete"] and made_events >= 2 * calls * count, f"{name}: {made_events} events for {calls * count} calls")
    report.table([f"{count} bursts of {calls} calls, pause", "M events per CPU second of the program", "lost", "spare rings at most"], rows)
    report.goal("events lost in bursts", Spread(lost, lost, lost), "≤", 0, form="{:.0f}")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
