"""What tracing a native function costs: untraced, under atf, and under Frida's Interceptor, uftrace, LTTng-UST and a recompiled recorder.

Every figure is CPU time of the calling thread for one call of a function of three instructions, in a fresh process, the same source
for all (perf/native/). What a recorder adds is its time less that of the untraced call of the same round; ratios are of what is added.
Beside it: to files end to end, hooking 10,000 functions, entering a running process, and how much of well-known programs is hooked.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _bench import Report, Spread, in_turn, parse, parser, ratios
from _native_programs import Programs
from _native_tools import UFTRACE_BUILDS, Tools, Wrong, missing
from _native_whole import WELL_KNOWN, Whole

SECTIONS = ("calls", "files", "hooking", "attach", "share")
BASE, FILES, RINGS, ENTRY, RECOMPILED = "untraced", "atf, to files", "atf, rings only", "atf, entry only, to files", "recompiled recorder"
SIZES = {"full": {"calls": 1_000_000, "batches": 7, "file_batches": 31, "many": (1_000, 10_000), "attaches": 20}}
SIZES["quick"] = {"calls": 20_000, "batches": 3, "file_batches": 3, "many": (100, 300), "attaches": 2}


def calls(report: Report, tools: Tools, options) -> None:
    cases: dict[str, Callable[[], float]] = {
        BASE: tools.untraced,
        FILES: tools.atf,
        RINGS: tools.rings,
        ENTRY: functools.partial(tools.atf, level="calls"),
        "atf, entry only, rings only": functools.partial(tools.rings, level="calls"),
        "untraced, 2 threads": functools.partial(tools.untraced, 2),
        "atf, to files, 2 threads": functools.partial(tools.atf, 2),
        "atf, rings only, 2 threads": functools.partial(tools.rings, 2),
        "detached, less untraced before": tools.detached,
        RECOMPILED: tools.recompiled,
        **{f"uftrace {build}": functools.partial(tools.uftrace, build) for build in UFTRACE_BUILDS},
        "LTTng-UST, one event": tools.lttng,
        "Frida Interceptor, empty": tools.frida,
    }
    lacking = missing()
    for package, why in lacking.items():
        report.lacks(f"{package}: {why}")
    wanted = {name: run for name, run in cases.items() if not any(name.lower().startswith(package) for package in lacking)}
    if "frida" in lacking:
        del wanted["detached, less untraced before"]
    wanted = {name: run for name, run in wanted.items() if not options.tools or name == BASE or any(word in name for word in options.tools)}
    found: dict[str, list[float]] = in_turn(wanted, options.rounds)
    base = found[BASE]

    def added(name: str) -> list[float]:
        return [ns - plain for ns, plain in zip(found[name], base, strict=True)]

    rows = []
    for name, values in found.items():
        difference = "less" in name or name.startswith(BASE)
        against = "·" if difference or FILES not in found else ratios(added(name), added(FILES)).text()
        rows.append([name, Spread.of(values).text(), "·" if difference else Spread.of(added(name)).text(), against])
        report.figure(name, {"ns_per_call": values})
    report.table(["CPU ns a call", "whole", "added", f"added / {FILES}"], rows)

    def compare(what: str, over: str, under: str, sign: str, limit: float, whole: bool = False) -> None:
        if over in found and under in found:
            report.goal(what, ratios(found[over], found[under]) if whole else ratios(added(over), added(under)), sign, limit, " ×")

    if FILES in found:
        report.goal("entry and return, two records, to files", Spread.of(found[FILES]), "≤", 35, " ns")
    compare("Frida's Interceptor, empty / atf", "Frida Interceptor, empty", FILES, "≥", 10)
    best = min((name for name in found if name.startswith("uftrace")), key=lambda name: statistics.median(found[name]), default="")
    compare(f"{best} (its best) / atf", best, FILES, "≥", 3)
    compare("atf, rings only / recompiled recorder", RINGS, RECOMPILED, "≤", 1.4)
    compare("one event of LTTng-UST / one of atf", "LTTng-UST, one event", ENTRY, "≥", 4)
    compare("two threads / one, rings only", "atf, rings only, 2 threads", RINGS, "≤", 1.1, whole=True)
    if "detached, less untraced before" in found:
        report.goal("detached, over untraced", Spread.of(found["detached, less untraced before"]), "≤", 0.2, " ns")


def files(report: Report, whole: Whole, options, size: dict) -> None:
    events = 2 * size["calls"] * (size["file_batches"] + 1)
    cases = {"atf": functools.partial(whole.files, size["calls"], size["file_batches"]), "floor": functools.partial(whole.floor, events)}
    found = in_turn(cases, options.rounds)
    passes, floor = found["atf"], Spread.of(one["cpu_ns"] / events for one in found["floor"])
    rate = Spread.of(one["events"] / one["seconds"] / 1e6 for one in passes)
    both = Spread.of(one["producer_ns"] + one["drain_ns"] for one in passes)
    parts = [Spread.of(one[name] for one in passes).text("{:.1f}") for name in ("producer_ns", "drain_ns")]
    report.table(
        ["to files, block", "M events/s", "producer CPU ns an event", "drain CPU ns", "together", "plain write() CPU ns"],
        [[f"{events} events", rate.text("{:.1f}"), *parts, both.text("{:.1f}"), floor.text("{:.1f}")]],
    )
    report.figure("to files", found)
    report.goal("one producer, to files, lossless", rate, "≥", 30, " M events/s", "{:.1f}")
    report.goal("producer and drain together", both, "≤", 22, " ns CPU an event", "{:.1f}")


def hooking(report: Report, whole: Whole, options, size: dict) -> None:
    functions = size["many"][-1]
    passes = [whole.hooking(functions) for _ in range(options.rounds)]
    spreads = {name: Spread.of(one[name] for one in passes) for name in ("setup_s", "whole_s", "plain_s")}
    report.table(
        [f"a program of {functions} functions, seconds", "agent's setup", "whole command", "without atf"],
        [[f"{passes[0]['hooked']} hooked", *(spread.text("{:.3f}") for spread in spreads.values())]],
    )
    report.figure("hooking", passes)
    report.goal(f"hooking {functions:,} functions", spreads["setup_s"], "≤", 0.3, " s", "{:.3f}")


def attach(report: Report, whole: Whole, options, size: dict) -> None:
    if "frida" in missing():
        report.lacks(f"frida: {missing()['frida']}")
        return
    results = in_turn({f"{many:,}": functools.partial(whole.attach, many, size["attaches"]) for many in size["many"]}, 1)
    rows = []
    for many, ((*passes,),) in results.items():
        stop, leave, setup = (Spread.of(one[name] for one in passes) for name in ("stop_ms", "leave_ms", "setup_ms"))
        rows.append([f"{many} functions, {len(passes)} times", *(spread.text() for spread in (stop, leave, setup))])
        report.figure(f"attach {many}", passes)
        report.goal(f"threads stand when {many} functions are hooked", stop, "≤", 20, " ms")
    report.table(["two busy threads entered, ms", "they stand", "they stand at the end", "agent's setup"], rows)


def share(report: Report, whole: Whole, options, size: dict) -> None:
    rows, reasons = [], {}
    for name in WELL_KNOWN:
        if shutil.which(name) is None:
            report.lacks(f"{name}: apt-get install {name}")
            continue
        found = whole.share(name)
        part = 100 * found["hooked"] / (found["hooked"] + found["refused"])
        rows.append([name, found["hooked"], found["refused"], f"{part:.2f} %"])
        reasons[name] = found["why"]
        report.figure(f"share {name}", found)
        report.goal(f"functions of {name} hooked", Spread(part, part, part), "≥", 95, " %")
    if rows:
        report.table(["functions", "hooked", "not", "share"], rows)
    for name, why in reasons.items():
        report.say(f"{name}: " + ("; ".join(f"{count} × {reason}" for reason, count in why.items()) or "all hooked"))


def main() -> int:
    made = parser(__doc__, rounds=5)
    made.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="only these parts")
    made.add_argument("--tools", nargs="+", metavar="WORD", help="of the calls only cases whose name contains one of these words")
    made.add_argument("--dir", type=Path, help="where programs and traces are written (default: the temp dir)")
    options = parse(made)
    from atf._core.errors import InjectionError
    from atf.native.injector import agent_file

    report = Report("native_calls", options)
    if platform.machine() != "x86_64" or shutil.which("gcc") is None:
        report.lacks("gcc on x86-64: there is nothing to measure without")
        return report.finish()
    try:
        agent_file()
    except InjectionError as error:
        report.lacks(f"atf's native agent: {error}")
        return report.finish()
    size = SIZES["quick" if options.quick else "full"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that programs, traces and LTTng's daemon do not stay behind
    scratch = Path(tempfile.mkdtemp(prefix="atf-perf-", dir=options.dir))
    programs = Programs(scratch)
    tools, whole = Tools(programs, scratch, size["calls"], size["batches"]), Whole(programs, scratch)
    try:
        for section in options.only:
            try:
                if section == "calls":
                    calls(report, tools, options)
                else:
                    globals()[section](report, whole, options, size)
            except Wrong as error:
                report.check(False, str(error))
            os.sync()
    finally:
        tools.close()
        shutil.rmtree(scratch)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
