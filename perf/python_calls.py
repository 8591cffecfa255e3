"""What recording every Python call costs: five programs untraced, under atf, and under VizTracer, cProfile and trace0.

Every figure is one program in a fresh process of its own (perf/_child.py). In each round each program runs under each
recorder once, in turn, with an untraced run before and after; overhead = time / mean of those two − 1. A ratio of two
recorders is the ratio of their overheads, as a geometric mean over the programs, taken within a round.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from _bench import ROOT, Report, Spread, geometric_mean, parse, parser
from _child import STREAMED
from _tools import count_calls
from programs import NAMES

CHILD = Path(__file__).with_name("_child.py")
FLOOR = 0.002  # an overhead below this is noise; ratios take it as this much
BASE, AGAIN = "untraced", "untraced again"
PEERS = {"viztracer": "viztracer", "viztracer c": "viztracer", "cProfile": "cProfile", "trace0 ring": "trace0", "trace0": "trace0"}
OURS = ("atf ring", STREAMED, "atf c", "atf excluded")
EXPECTED = {"atf ring": "python", STREAMED: "python", "atf c": "c", "atf excluded": "none"}  # which calls must be there
PROBE = """
import importlib.util, json, platform
has = {n: importlib.util.find_spec(n) is not None for n in ("viztracer", "trace0", "cProfile")}
try:
    import atf
    has["atf"] = hasattr(atf, "start") and importlib.util.find_spec("atf.__main__") is not None
except ImportError:
    has["atf"] = False
print(json.dumps([platform.python_version(), has]))
"""


@dataclass
class Interpreter:
    path: str
    version: tuple[int, ...]
    has: dict[str, bool]

    @classmethod
    def probe(cls, path: str) -> Interpreter:
        done = subprocess.run([path, "-c", PROBE], env=environment(), capture_output=True, text=True, check=True)
        version, has = json.loads(done.stdout)
        return cls(path, tuple(int(part) for part in version.split(".")[:2]), has)

    @property
    def name(self) -> str:
        return ".".join(map(str, self.version))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}


class Runner:
    """Starts one process for one program under one recorder and brings back what it measured."""

    def __init__(self, interpreter: Interpreter, options, scratch: Path) -> None:
        self.interpreter, self.options, self.scratch = interpreter, options, scratch

    def __call__(self, program: str, tool: str, check: bool = False) -> dict:
        place = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            result, trace = place / "result.json", place / "trace"
            tool = BASE if tool == AGAIN else tool
            command = [self.interpreter.path, str(CHILD), program, tool, str(result), "--runs", str(self.options.runs)]
            command += ["--quick"] * self.options.quick + ["--check"] * check
            if tool == STREAMED:
                record = [self.interpreter.path, "-m", "atf", "record", "--out", str(trace), "--quiet", *self.options.record]
                record += ["--policy", "block"] * check  # the calls are counted: all must be there
                command = [*record, "--", *command]
            done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode or not result.exists():
                raise SystemExit(f"{program} under {tool} ended with status {done.returncode}:\n{done.stdout}")
            found = json.loads(result.read_text())
            if tool == STREAMED:
                found.update(streamed(trace, check))
            return found
        finally:
            shutil.rmtree(place)


def streamed(trace: Path, check: bool) -> dict:
    """What stands in the files of a run: events and losses, and with `check` the calls between the two marks."""
    import atf

    with atf.open(trace) as opened:
        info = opened.info
        found = {"events": info["events"], "lost": sum(info["lost"].values())}
        if info["status"] != "complete":
            raise SystemExit(f"a recording of `atf record` is {info['status']}, not complete: {info['recovered']['problems']}")
        if check:
            found["recorded"] = calls_between(opened, "perf.begin", "perf.end")
    return found


def calls_between(trace, begin: str, end: str) -> int:
    """Calls of a thread between two user events of it."""
    import numpy

    ids = {function.name: function.id for function in trace.functions.values()}
    for thread in trace.threads:
        first, last = (numpy.flatnonzero(thread.events["function_id"] == ids[name]) for name in (begin, end))
        if len(first) and len(last):
            return count_calls(thread.events[first[0] : last[-1]])
    raise LookupError(f"{begin} and {end} are in no thread of the trace")


class Figures:
    """Everything measured under one interpreter: nanoseconds by recorder, program and round."""

    def __init__(self, measure: str) -> None:
        self.column = {"wall": 0, "process": 1, "thread": 2}[measure]
        self.samples: dict[str, dict[str, list[list]]] = {}

    def add(self, tool: str, program: str, found: dict) -> None:
        medians = [statistics.median(column) for column in zip(*found["samples"], strict=True)]
        self.samples.setdefault(tool, {}).setdefault(program, []).append(medians)

    def rounds(self) -> range:
        return range(len(self.samples[BASE][NAMES[0]]))

    def slowdown(self, tool: str, program: str, number: int) -> float:
        bases = [self.samples[base][program][number][self.column] for base in (BASE, AGAIN)]
        if tool == AGAIN:
            return bases[1] / bases[0]
        return self.samples[tool][program][number][self.column] / statistics.mean(bases)

    def overhead(self, tool: str, program: str) -> Spread:
        return Spread.of(self.slowdown(tool, program, number) - 1 for number in self.rounds())

    def slowdowns(self, tool: str) -> Spread:
        """The geometric mean over the programs, a value a round."""
        return Spread.of(geometric_mean(self.slowdown(tool, program, number) for program in NAMES) for number in self.rounds())

    def overheads(self, tool: str) -> Spread:
        return Spread.of(self.round_overhead(tool, number) for number in self.rounds())

    def round_overhead(self, tool: str, number: int) -> float:
        return geometric_mean(max(FLOOR, self.slowdown(tool, program, number) - 1) for program in NAMES)

    def against(self, ours: str, peer: str) -> Spread:
        return Spread.of(self.round_overhead(ours, number) / self.round_overhead(peer, number) for number in self.rounds())


def verify(report: Report, run: Runner, tools: list[str]) -> dict[str, int]:
    """One untimed run of everything: who recorded how many calls. Returns the calls of each program."""
    rows, calls = [], {}
    for program in NAMES:
        counted = {with_c: run(program, "count c" if with_c else "count", check=True)["recorded"] for with_c in (False, True)}
        calls[program] = counted[False]
        row = [program, counted[False], counted[True]]
        for tool in tools:
            recorded = run(program, tool, check=True)["recorded"]
            row.append("·" if recorded is None else recorded)
            if (expected := EXPECTED.get(tool)) is not None:
                calls_made = counted[expected == "c"] * (expected != "none")
                # sys.setprofile sees the few calls around the run that the recorders do not see, and the other way round
                close = abs(recorded - calls_made) <= 20
                report.check(close, f"{tool} recorded {recorded} calls of {program}, {calls_made} were made")
        rows.append(row)
    report.table(["calls recorded", "Python calls", "with C calls", *tools], rows)
    return calls


def measure(report: Report, interpreter: Interpreter, options, scratch: Path) -> None:
    tools = [name for name, package in PEERS.items() if interpreter.has[package]]
    for package in sorted(set(PEERS.values())):
        if not interpreter.has[package] and (package != "trace0" or interpreter.version >= (3, 13)):
            report.lacks(f"{package} for Python {interpreter.name}: pip install {package}")
    if interpreter.has["atf"]:
        tools = [*OURS, *tools]
    else:
        report.lacks(f"atf for Python {interpreter.name}: build it with `{interpreter.path} setup.py build_ext --inplace`")
    if options.tools:
        tools = [tool for tool in tools if tool in options.tools]
    run, figures = Runner(interpreter, options, scratch), Figures(options.measure)
    report.say(f"\nPython {interpreter.name} ({interpreter.path}), {options.measure} time")
    calls = verify(report, run, tools)
    lost = events = 0
    for number in range(options.rounds):
        for program in NAMES:
            first = number % max(1, len(tools))
            for tool in [BASE, *tools[first:], *tools[:first], AGAIN]:
                found = run(program, tool)
                figures.add(tool, program, found)
                lost, events = lost + found.get("lost", 0), events + found.get("events", 0)
    show(report, figures, interpreter, tools, calls)
    if STREAMED in tools:
        report.goal(f"{interpreter.name} events lost while streaming {events} events", Spread(lost, lost, lost), "≤", 0, form="{:.0f}")


def show(report: Report, figures: Figures, interpreter: Interpreter, tools: list[str], calls: dict[str, int]) -> None:
    base = {program: statistics.median(figures.samples[BASE][program][n][figures.column] for n in figures.rounds()) for program in NAMES}
    rows = [["untraced, ms", *(f"{base[program] / 1e6:.1f}" for program in NAMES), ""]]
    for tool in (*tools, AGAIN):
        cells = []
        for program in NAMES:
            over = figures.overhead(tool, program)
            cells.append(f"{over.median:+.0%} ({over.median * base[program] / calls[program]:.0f} ns)")
        rows.append([tool, *cells, figures.overheads(tool).text("{:.0%}") if tool != AGAIN else figures.slowdowns(tool).text("×{:.3f}")])
    report.table([f"overhead, {interpreter.name}", *NAMES, "geometric mean"], rows)
    key = f"python {interpreter.name}"
    report.figure(key, {"samples_ns": figures.samples, "calls": calls, "columns": ["wall", "process cpu", "thread cpu"]})
    new = interpreter.version >= (3, 12)
    pairs = (
        ("atf ring", "viztracer", 0.6 if new else 0.2),
        ("atf ring", "trace0 ring", 0.7),
        (STREAMED, "viztracer", 0.75 if new else 0.3),
        (STREAMED, "trace0", 0.9),
        ("atf c", "viztracer c", 0.5),
    )
    for ours, peer, limit in pairs:
        if ours in tools and peer in tools:
            report.goal(f"{interpreter.name} overhead of {ours} / {peer}", figures.against(ours, peer), "≤", limit, " ×")
    if "atf excluded" in tools:
        report.goal(f"{interpreter.name} everything excluded / untraced", figures.slowdowns("atf excluded"), "≤", 1.02, " ×", "{:.3f}")


def main() -> int:
    made = parser(__doc__, rounds=5)
    made.add_argument("--python", nargs="+", default=[sys.executable], metavar="EXE", help="interpreters to measure (default: this one)")
    made.add_argument("--tools", nargs="+", choices=[*OURS, *PEERS], help="only these recorders")
    made.add_argument(
        "--measure", choices=["wall", "thread", "process"], default="wall", help="which clock the tables are of (default wall)"
    )
    made.add_argument("--runs", type=int, default=3, help="timed runs in one process, the median counts (default 3)")
    made.add_argument("--dir", type=Path, help="where traces are written while they are measured (default: the temp dir)")
    made.add_argument(
        "--record", action="append", default=[], metavar="OPTION", help="a further option of `atf record`, such as --record=--policy=block"
    )
    options = parse(made)
    report = Report("python_calls", options)
    scratch = Path(tempfile.mkdtemp(prefix="atf-perf-", dir=options.dir))
    try:
        for path in options.python:
            measure(report, Interpreter.probe(path), options, scratch)
    finally:
        shutil.rmtree(scratch)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
