"""Reading a recording: open and info, merging threads by time against numpy and heapq, spans against numpy and Python, top.

The recording is made here: 16 threads of nested calls, in two ways of taking turns: all at once (records of different threads
alternate), and by time slices, as threads do that share a lock. Peers that are too slow for all of it do a part; ratios are then
of time per event.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy
from _bench import ROOT, Report, Spread, in_turn, parse, parser, ratios

sys.path.insert(0, str(ROOT / "tests"))
import oracle
import tracefiles

from atf._core.layout import EVENT_DTYPE
from atf._core.merge import Merge
from atf._core.spans import match
from atf.trace import Trace, open_trace

THREADS, FUNCTIONS, DEEPEST = 16, 2000, 40


def walk(events: int, rng: random.Random) -> list[tuple[int, int, int]]:
    """(function, kind, depth) of properly nested calls; most calls are of few functions."""
    rows: list[tuple[int, int, int]] = []
    stack: list[int] = []
    while len(rows) + len(stack) < events:
        if not stack or (len(stack) < DEEPEST and rng.random() < 0.5):
            stack.append(1 << 32 | int(rng.paretovariate(0.7)) % FUNCTIONS)
            rows.append((stack[-1], 1, len(stack)))
        else:
            rows.append((stack[-1], 2, len(stack)))
            stack.pop()
    while stack:
        rows.append((stack[-1], 2, len(stack)))
        stack.pop()
    return rows


def make(place: Path, per_thread: int, slices: bool) -> None:
    rng, random_times = random.Random(1), numpy.random.default_rng(1)
    piece = numpy.array(walk(min(per_thread, 20_000), rng), dtype=[("function_id", "u8"), ("event_kind", "u4"), ("call_depth", "u4")])
    process = place / "session_20260101_000000" / "pid_1"
    names = {1 << 32 | i: (f"function_{i}", "/src/app.py", i) for i in range(FUNCTIONS)}
    said = tracefiles.manifest({n: {"tid": 100 + n, "name": f"worker-{n}"} for n in range(THREADS)}, names, {1: "app"}, lost={})
    process.mkdir(parents=True)
    (process / "manifest.json").write_text(json.dumps(said))
    for number in range(THREADS):
        events = numpy.zeros(per_thread // len(piece) * len(piece), dtype=EVENT_DTYPE)
        for name in piece.dtype.names or ():
            events[name] = numpy.tile(piece[name], len(events) // len(piece))
        steps = random_times.integers(50, 1500, len(events), dtype="u8")
        if slices:  # 5,000 records in a row, then the others' turn
            steps[5000 * number // THREADS :: 5000] += 5000 * 775 * (THREADS - 1)
        events["timestamp_ns"] = 10**12 + 13 * number + numpy.cumsum(steps)
        events["thread_id"], events["detail_seq"] = 100 + number, tracefiles.NONE
        directory = process / f"thread_{number}"
        directory.mkdir(parents=True)
        stamps = events["timestamp_ns"]
        head = tracefiles.index_bytes([stamps[:1].tobytes()] * 0)  # header and footer of an empty file
        body = events.tobytes()
        header = bytearray(head[:64])
        header[28:32], header[40:48] = len(events).to_bytes(4, "little"), (64 + len(body)).to_bytes(8, "little")
        footer = bytearray(head[64:])
        footer[8:16], footer[32:40] = len(events).to_bytes(8, "little"), len(body).to_bytes(8, "little")
        (directory / "index.atf").write_bytes(bytes(header) + body + bytes(footer))


def timed(run: Callable[[], object], results: dict[str, object], name: str) -> Callable[[], float]:
    def case() -> float:
        begin = time.perf_counter_ns()
        results[name] = run()
        return time.perf_counter_ns() - begin

    return case


def merge_cases(arrays: list, part: int) -> dict[str, Callable[[], object]]:
    """Each answers with something that only the right order gives."""

    def ours() -> int:
        total, place, merge = 0, 0, Merge(arrays)
        while len((taken := merge.take(65536))[0]):
            rows = merge.gather(*taken)
            total += order_sum(rows["timestamp_ns"], place)
            place += len(rows)
        return total % 2**64

    def ours_positions() -> int:
        count, merge = 0, Merge(arrays)
        while len((taken := merge.take(65536))[0]):
            count += len(taken[0])
        return count

    def by_numpy() -> int:
        joined = numpy.concatenate(arrays)
        rows = joined[numpy.argsort(joined["timestamp_ns"], kind="stable")]
        return sum(order_sum(rows["timestamp_ns"][i : i + 65536], i) for i in range(0, len(rows), 65536)) % 2**64

    def numpy_positions() -> int:
        order = numpy.argsort(numpy.concatenate([a["timestamp_ns"] for a in arrays]), kind="stable")
        lengths = [len(a) for a in arrays]
        threads = numpy.repeat(numpy.arange(len(arrays), dtype="u4"), lengths)[order]
        positions = numpy.concatenate([numpy.arange(n, dtype="u4") for n in lengths])[order]
        return len(threads) and len(positions)

    def by_heapq() -> int:
        lists = [list(zip(a["timestamp_ns"][:part].tolist(), [t] * part, range(part), strict=True)) for t, a in enumerate(arrays)]
        return sum(1 for _ in heapq.merge(*lists))

    return {
        "merged records": ours,
        "merged records, numpy": by_numpy,
        "merged positions": ours_positions,
        "merged positions, numpy": numpy_positions,
        "merged positions, heapq.merge (a part)": by_heapq,
    }


def other_cases(trace: Trace, arrays: list, part: int, place: Path) -> dict[str, Callable[[], object]]:
    end_ns = trace.info["time_end_ns"]
    trace.top(1)

    def ours() -> tuple[int, int]:
        columns = match(arrays, end_ns)
        return int((columns.end_ns - columns.start_ns).sum()), int(columns.self_ns.sum())

    return {
        "open and info": lambda: open_trace(place).info["events"],
        "spans": ours,
        "spans, numpy": lambda: numpy_spans(arrays),
        "spans, Python (a part)": lambda: oracle_spans(arrays, part),
        "top 10 of matched spans": lambda: trace.top(10)[0].count,
    }


def order_sum(stamps: object, place: int) -> int:
    """Depends on every timestamp and its place."""
    weights = numpy.arange(place + 1, place + 1 + len(stamps), dtype="u8")  # type: ignore[arg-type]
    return int((stamps * weights).sum())  # type: ignore[operator]


def numpy_spans(arrays: list) -> tuple[int, int]:
    """(sum of durations, sum of self times): by depth calls and returns alternate, and a caller is the last call one depth up."""
    total = selfs = 0
    for events in arrays:
        stamps, depths = events["timestamp_ns"], events["call_depth"]
        order = numpy.argsort(depths, kind="stable")
        calls, ends = order[0::2], order[1::2]
        durations, own = stamps[ends] - stamps[calls], depths[calls]
        bounds = numpy.searchsorted(own, numpy.arange(1, int(own[-1]) + 2))
        inner = numpy.zeros(len(calls), dtype="u8")
        for low, middle, high in zip(bounds, bounds[1:], bounds[2:]):
            parents = low + numpy.searchsorted(calls[low:middle], calls[middle:high]) - 1
            numpy.add.at(inner, parents, durations[middle:high])
        total += int(durations.sum())
        selfs += int((durations - inner).sum())
    return total, selfs


def oracle_spans(arrays: list, part: int) -> int:
    return sum(len(oracle.Matcher(0).run(a[:part].tolist())) for a in arrays)


def main() -> int:
    made = parser(__doc__, rounds=5)
    made.add_argument("--events", type=int, default=200_000, help="events of each thread (default %(default)s)")
    options = parse(made)
    per_thread = 2_000 if options.quick else options.events
    report = Report("read", options)
    with tempfile.TemporaryDirectory(prefix="atf-perf-") as scratch:
        for slices in (False, True):
            make(Path(scratch) / str(slices), per_thread, slices)
        show(report, Path(scratch), options.rounds)
    return report.finish()


def show(report: Report, scratch: Path, rounds: int) -> None:
    results: dict[str, object] = {}
    took: dict[str, list[float]] = {}
    rows = []
    for slices, label in ((False, "all at once"), (True, "by slices")):
        with open_trace(scratch / str(slices)) as trace:
            arrays = [thread.events for thread in trace.threads]
            events = sum(map(len, arrays))
            part = max(1, len(arrays[0]) // 20)
            cases = merge_cases(arrays, part)
            if not slices:
                report.say(f"{THREADS} threads, {events:,} events, {events * 32 / 1e6:.0f} MB in all")
                cases |= other_cases(trace, arrays, part, scratch / "False")
            done = in_turn({name: timed(run, results, name) for name, run in cases.items()}, rounds)
        for name, times in done.items():
            share = part * THREADS if "part" in name else 1 if name == "open and info" else events
            key = f"{name}, {label}" if "merged" in name else name
            took[key] = [ns / share for ns in times]
            unit = "ns/event" if share > 1 else "ns"
            report.figure(f"{key} {unit}", Spread.of(took[key]))
            rows.append([key, Spread.of(took[key]).text("{:.1f}" if share > 1 else "{:,.0f}"), unit])
        report.check(results["merged records"] == results["merged records, numpy"], f"both merges ({label}) give one order")
        report.check(results["merged positions"] == results["merged positions, numpy"] == events, f"all events were merged ({label})")
        if not slices:
            report.check(results["spans"] == results["spans, numpy"], "durations and self times are the same")
            report.check(results["open and info"] == events, "info counts all events")
    report.table(["what", "time", ""], rows)
    for label in ("all at once", "by slices"):
        mine = took[f"merged records, {label}"]
        report.goal(
            f"merge of records, {label}, against numpy", ratios(took[f"merged records, numpy, {label}"], mine), "≥", 10, "×", "{:.1f}"
        )
        positions = took[f"merged positions, {label}"]
        report.goal(
            f"merge of positions, {label}, against numpy",
            ratios(took[f"merged positions, numpy, {label}"], positions),
            "≥",
            10,
            "×",
            "{:.1f}",
        )
        slow = took[f"merged positions, heapq.merge (a part), {label}"]
        report.say(f"  merge of positions, {label}, against heapq.merge: {ratios(slow, positions).text('{:.0f}')}×")
    report.goal("spans against numpy", ratios(took["spans, numpy"], took["spans"]), "≥", 20, "×", "{:.1f}")
    report.goal("spans against Python", ratios(took["spans, Python (a part)"], took["spans"]), "≥", 100, "×", "{:.0f}")
    report.goal("open and info", Spread.of(ns / 1e6 for ns in took["open and info"]), "≤", 10, " ms")


if __name__ == "__main__":
    raise SystemExit(main())
