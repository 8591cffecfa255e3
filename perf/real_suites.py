"""What `pytest --atf` costs the test suites of well-known projects: each suite plain and with retain-on-failure, in turn, each run a process of
its own from start to end. CPU time of the whole run beside wall time; every test must end alike.

    python perf/real_suites.py [--project click attrs more-itertools]      needs PyPI the first time; works below build/public-suites
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from typing import Any

from _bench import ROOT, Report, Spread, in_turn, parse, parser, ratios

sys.path.insert(0, str(ROOT / "tests" / "stress"))
import public_suites as suites

MOST = 1.10


class Suite:
    def __init__(self, name: str) -> None:
        version, needs, words = suites.PROJECTS[name]
        self.place = suites.fetch(name, version)
        self.variables = suites.environment(self.place, needs)
        self.command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *words]

    def run(self, *more: str) -> dict[str, Any]:
        used, began = _used(), time.monotonic()
        status, found, _, _ = suites.outcomes([*self.command, *more], self.place, self.variables)
        done = {"seconds": time.monotonic() - began, "cpu": _used() - used, "status": status, "outcomes": found}
        shutil.rmtree(suites.WORK / "traces", ignore_errors=True)
        return done


def _used() -> float:
    of = resource.getrusage(resource.RUSAGE_CHILDREN)
    return of.ru_utime + of.ru_stime


def main() -> int:
    made = parser(__doc__, rounds=7)
    made.add_argument("--project", nargs="+", default=["click", "attrs"], choices=sorted(suites.PROJECTS))
    options = parse(made)
    report = Report("real_suites", options)
    traced = [*suites.PLUGIN, "--atf", f"--atf-dir={suites.WORK / 'traces'}"]
    rows = []
    for name in options.project:
        suite = Suite(name)
        suite.run()  # compiled once
        results = in_turn({"plain": suite.run, "--atf": lambda suite=suite: suite.run(*traced)}, options.rounds)
        first = results["plain"][0]
        for done in (*results["plain"], *results["--atf"]):
            report.check(bool(done["outcomes"]) and done["outcomes"] == first["outcomes"] and done["status"] == first["status"], f"{name}: another outcome")
        for way, passes in results.items():
            wall, cpu = (Spread.of(done[key] for done in passes).text("{:.2f}") for key in ("seconds", "cpu"))
            rows.append([f"{name}, {len(first['outcomes'])} tests, {way}", wall, cpu])
        cpu = ratios(*([done["cpu"] for done in results[way]] for way in ("--atf", "plain")))
        report.goal(f"{name}: CPU time with --atf, over plain", cpu, "≤", MOST, " ×")
        wall = ratios(*([done["seconds"] for done in results[way]] for way in ("--atf", "plain")))
        report.figure(name, {"cpu": cpu.json(), "wall": wall.json()})
    report.table(["suite", "seconds", "CPU seconds"], rows)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
