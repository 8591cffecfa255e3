"""What every benchmark here shares: the machine, paired rounds, ratios, goals, tables and JSON.

A benchmark is an honest comparison or it is nothing, so the rules live in one place:
- cases run in turn (A B C, B C A, …), never all rounds of one and then all of the other;
- a ratio is taken within a round and the median of those ratios is reported with the lowest and the highest;
- a benchmark checks its own work and ends with status 1 when a check fails; a missed goal is printed, not an error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # last: an installed atf comes before the source tree


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> dict:
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@dataclass(frozen=True)
class Spread:
    """A median with the lowest and the highest value of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form: str = "{:.2f}") -> str:
        return f"{form.format(self.median)} ({form.format(self.low)}–{form.format(self.high)})"

    def json(self) -> dict:
        return {"median": self.median, "min": self.low, "max": self.high}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """ours / theirs, round by round."""
    return Spread.of(a / b for a, b in zip(ours, theirs, strict=True))


def geometric_mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def in_turn(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list]:
    """Runs every case once a round, each round beginning with the next case; returns what they returned, by round."""
    names, results = list(cases), {name: [] for name in cases}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(cases[name]())
    return results


def per_operation_ns(run: Callable[[int], object], operations: int) -> float:
    """Wall nanoseconds of one operation of run(operations)."""
    begin = time.perf_counter_ns()
    run(operations)
    return (time.perf_counter_ns() - begin) / operations


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table with aligned columns, ready to be pasted into docs/performance.md."""
    lines = [list(headers), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


class Report:
    """One run of one benchmark: options, machine, figures, checks and goals."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.options = name, options
        self.data: dict = {"benchmark": name, "machine": machine(), "rounds": options.rounds, "quick": options.quick, "figures": {}}
        self.goals: list[dict] = []
        self.failures: list[str] = []
        self.missing: list[str] = []
        of = self.data["machine"]
        where = f"{of['cpu']}, {of['cores']} cores, Linux {of['kernel']}, Python {of['python']}, load {of['load']}"
        self.say(f"{name}: {where}, {options.rounds} rounds")
        if of["cores"] < 4:
            self.say(f"warning: {of['cores']} cores: producers, drain and everything else share them; wall times include that")
        if of["load"] > 0.5 * of["cores"]:
            self.say(f"warning: load {of['load']}: others use this machine now, trust the ratios more than the figures")
        if options.quick:
            self.say("warning: --quick: sizes are too small to time anything, this only shows that the benchmark works")

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def figure(self, key: str, value: object) -> None:
        self.data["figures"][key] = value.json() if isinstance(value, Spread) else value

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self.say("\n" + table(headers, rows) + "\n")

    def goal(self, what: str, value: Spread, sign: str, limit: float, unit: str = "", form: str = "{:.2f}") -> None:
        """States a goal beside the figure; met or not is decided by the median."""
        met = value.median <= limit if sign == "≤" else value.median >= limit
        self.goals.append({"goal": what, "value": value.json(), "sign": sign, "limit": limit, "unit": unit, "met": met})
        self.say(f"{'✓' if met else '✗'} {what}: {value.text(form)}{unit}, goal {sign} {limit:g}{unit}")

    def check(self, holds: bool, what: str) -> None:
        """A failed check makes the whole benchmark fail: its figures mean nothing."""
        if not holds:
            self.failures.append(what)
            self.say(f"CHECK FAILED: {what}")

    def lacks(self, what: str) -> None:
        """Something to compare with, or a part of atf, is not there; the rest goes on."""
        self.missing.append(what)
        self.say(f"missing: {what}")

    def finish(self) -> int:
        self.data.update(goals=self.goals, failures=self.failures, missing=self.missing)
        self.data["machine"]["load_after"] = round(os.getloadavg()[0], 2)
        if self.options.json:
            Path(self.options.json).write_text(json.dumps(self.data, indent=1) + "\n")
        return 1 if self.failures else 0


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--rounds", type=int, default=rounds, help="rounds in turn (default %(default)s)")
    made.add_argument("--quick", action="store_true", help="tiny sizes and one round: shows that it works, times nothing")
    made.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    return made


def parse(made: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    options = made.parse_args(arguments)
    if options.rounds < 1:
        made.error("--rounds must be at least 1")
    if options.quick:
        options.rounds = 1
    return options
