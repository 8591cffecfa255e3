"""The flight recorder: what it costs to capture details always and keep none of them, how soon a window is on disk, what a record
costs a producer that is five times as fast as the drain, how late --duration is while a program floods its rings, and whether a minute of
overload takes memory. What its numbers cost: counting.py.

Always-on capture: the same events with the same details, drained (a) with windows and no mark, (b) with the details switched off
(nothing but the index lane). CPU time of the producer, round by round; beside it wall time, which on few cores has the drain in it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from _bench import Report, Spread, in_turn, parse, parser, ratios

EVENTS = {"full": 400_000, "quick": 5_000}
MARKS = {"full": 5, "quick": 1}
PAIRS = {"full": 200_000, "quick": 5_000}
TIMER_S = {"full": 2.0, "quick": 0.3}
MEMORY_S = {"full": 60.0, "quick": 0.5}
FLAT_KIB = 4096  # the recorder may grow by so much after its first tenth
POST_NS = 300_000_000  # longer than it takes until the drain looks at rings that are not full
RINGS = {"slots": 4, "index_rings": 4, "index_bytes": 1 << 20, "detail_rings": 4, "detail_bytes": 4 << 20, "global_cells": 256, "names_bytes": 1 << 16}
TINY = {**RINGS, "index_rings": 2, "index_bytes": 4096, "detail_rings": 2, "detail_bytes": 16384, "spare_rings": 0}


class Session:
    """This process recorded into a directory of its own. keep None: no flight recorder."""

    def __init__(self, scratch: Path, keep: str | None, options: dict, policy: str = "block"):
        from atf._core import drain, recorder, segment

        self.place = Path(tempfile.mkdtemp(dir=scratch))
        self.segments = segment.SegmentSet.create(options=options, policy=policy)
        self.segments.remove()
        recorder.open_session(self.segments.segments)
        self.drain, self.source = drain.Drain(), drain.Source(self.segments.segments, self.place)
        if keep is not None:
            self.drain.flight(keep, 50_000_000, POST_NS, 256 << 20)
            self.drain.rules([("mark", "", 0)])
        self.drain.add(self.source)

    def end(self) -> dict:
        from atf._core import recorder
        from atf._core.reader import IndexFile

        recorder.close_session()
        self.drain.join()
        self.drain.finish(self.source)
        (thread, *_) = self.source.threads()
        events = IndexFile(self.place / "thread_0" / "index.atf").events
        gaps, newest = int((events["event_kind"] == 8).sum()), int(events["function_id"][-1])
        del events
        self.segments.detach()
        shutil.rmtree(self.place)
        return {**thread, "gaps": gaps, "newest": newest}


def capture(scratch: Path, events: int, details: bool) -> dict:
    """Seconds that a loop of spans with arguments takes, its rings drained meanwhile."""
    import atf

    options = RINGS if details else {**RINGS, "detail_rings": 0}
    session = Session(scratch, "details" if details else None, options)
    session.drain.start()

    def write(count: int) -> None:
        for number in range(count):
            atf.event("step", number=number, name="something")

    write(events)  # every ring is in memory afterwards
    drained = session.drain.cpu_ns
    begin, used = time.perf_counter(), time.thread_time_ns()
    write(events)
    used, seconds = time.thread_time_ns() - used, time.perf_counter() - begin
    drained = session.drain.cpu_ns - drained
    return {"seconds": seconds, "producer_cpu_ns": used, "cpu_ns": drained, **session.end()}


def mark_to_disk(scratch: Path, marks: int) -> list[float]:
    """Milliseconds from the end of each window to the moment when all of it was in the files."""
    import atf

    session = Session(scratch, "details", RINGS)
    session.drain.start()
    atf.event("step", number=0)
    for _ in range(marks):
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            atf.event("step", number=1)
            time.sleep(0.0005)
        atf.mark("here")
    until = time.monotonic() + 5
    while time.monotonic() < until and sum(one["settled_ns"] is not None for one in session.drain.windows()) < marks:
        time.sleep(0.005)
    windows = session.drain.windows()
    session.end()
    return [(one["settled_ns"] - one["end_ns"]) / 1e6 if one["settled_ns"] else float("inf") for one in windows]


FLOOD = """
import sys, threading, time
until = time.monotonic() + float(sys.argv[1])
def step(): pass
def flood():
    while time.monotonic() < until:
        for _ in range(10000): step()
threads = [threading.Thread(target=flood) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def flooded(scratch: Path, seconds: float, duration_s: float) -> dict:
    """A program that floods its rings, recorded from outside: how late the recording ended, and this process's memory meanwhile."""
    from atf.flight import Flight
    from atf.recording import ring_options
    from atf.supervise import Supervisor

    class Timed(Supervisor):
        late_ms, grown_kib, first_kib, cut = float("inf"), 0, 0, 0

        def _watch(self, *words: object) -> None:
            self.begun = time.monotonic()
            super()._watch(*words)

        def stop(self, reason: str) -> None:
            if reason == "duration" and self.stopping is None:
                self.late_ms = (time.monotonic() - self.begun - duration_s) * 1e3
            super().stop(reason)

        def look(self, _: object) -> None:
            if time.monotonic() - self.begun > duration_s / 10:
                self.first_kib = self.first_kib or resident_kib()
                self.grown_kib = resident_kib() - self.first_kib

    options = {key: str(value) for key, value in ring_options("256K", None, "4M").items()}
    flight = Flight([], pre_s=60.0, post_s=0.1, keep="windows", history_bytes=8 << 20)
    made = Timed([sys.executable, "-c", FLOOD, str(seconds)], str(scratch), {"level": "returns", **options}, flight)
    made.run(duration_s, made.look)
    threads = [row for process in made.gatherer.done for row in process.source.threads()]
    counts = {name: sum(row[name] for row in threads) for name in ("produced", "written", "unkept", "held")}
    return {"late_ms": made.late_ms, "grown_kib": made.grown_kib, "lost": sum(sum(row["lost"].values()) for row in threads), **counts}


def resident_kib() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def overload(scratch: Path, pairs: int) -> dict:
    """Events at five times the rate at which a (paced) drain empties the rings; each is timed by the producer itself."""
    from atf._core import recorder

    import atf

    session = Session(scratch, "details", TINY, policy="drop-oldest")
    cell = TINY["index_bytes"] // 32 * TINY["index_rings"]
    took, clock = [], time.perf_counter_ns
    record = recorder.record
    atf.event("first")
    for number in range(pairs):
        if number % (5 * cell) == 0:
            session.drain.settle()  # what was written since, five times what the rings hold, is gone but for the newest
        begin = clock()
        record(4, number)
        took.append(clock() - begin)
    empty = []
    for _ in range(10_000):
        begin = clock()
        empty.append(clock() - begin)
    thread = session.end()
    took.sort()
    return {"p99_ns": max(took[len(took) * 99 // 100] - sorted(empty)[len(empty) // 2], 0), "asked_for": pairs + 1, **thread}


def main() -> int:
    made = parser(__doc__, rounds=7)
    options = parse(made)
    report = Report("flight", options)
    size = "quick" if options.quick else "full"
    try:
        from atf._core import drain
    except ImportError as error:
        report.lacks(f"atf._core.drain is not built for this Python ({error}): python setup.py build_ext --inplace")
        return report.finish()
    if not hasattr(drain.Drain, "flight"):
        report.lacks("atf._core.drain has no flight recorder")
        return report.finish()
    events, scratch = EVENTS[size], Path(tempfile.mkdtemp(prefix="atf-perf-"))
    try:
        results = in_turn(
            {
                "no mark": lambda: capture(scratch, events, True),
                "no details": lambda: capture(scratch, events, False),
                "mark": lambda: mark_to_disk(scratch, MARKS[size]),
                "overload": lambda: overload(scratch, PAIRS[size]),
                "duration": lambda: flooded(scratch, 1.5 * TIMER_S[size] + 0.5, TIMER_S[size]),
            },
            options.rounds,
        )
        results["memory"] = [flooded(scratch, 1.1 * MEMORY_S[size] + 1, MEMORY_S[size])]
    finally:
        shutil.rmtree(scratch)
    show(report, results, events)
    return report.finish()


def show(report: Report, results: dict[str, list], events: int) -> None:
    rows = []
    for name in ("no mark", "no details"):
        passes = results[name]
        for done in passes:
            report.check(done["events"] == 2 * events and not done["lost"], f"{name}: {done['events']} of {2 * events} events are in the file")
            report.check(done["details"] == 0, f"{name}: {done['details']} details were written although nothing marked")
            report.check(done["details_unkept"] == (2 * events if name == "no mark" else 0), f"{name}: {done['details_unkept']} details were captured")
        producer = Spread.of(done["producer_cpu_ns"] / events for done in passes)
        wall = Spread.of(done["seconds"] / events * 1e9 for done in passes)
        drained = Spread.of(done["cpu_ns"] / events for done in passes)
        rows.append([name, producer.text("{:.0f}"), wall.text("{:.0f}"), drained.text("{:.0f}")])
        report.figure(name, {"producer_cpu_ns": producer.json(), "producer_wall_ns": wall.json(), "drain_cpu_ns": drained.json()})
    report.table([f"{events} events with attributes", "producer CPU ns/event", "wall ns/event", "drain CPU ns/event"], rows)
    times = ratios(*([done["producer_cpu_ns"] for done in results[name]] for name in ("no mark", "no details")))
    report.goal("details always captured and no mark, over the index lane alone", times, "≤", 1.3, " ×")
    settled = [late for passes in results["mark"] for late in passes]
    report.check(bool(settled) and max(settled) < 5000, "no window, or not a whole one, came of a mark")
    if not settled:
        return
    report.goal("the end of a window to all of it on disk", Spread.of(settled), "≤", 50, " ms", "{:.1f}")
    for done in results["overload"]:
        lost, kept = sum(done["lost"].values()), done["events"] - done["gaps"]
        report.check(lost > 0, "overload: nothing was lost, so it was none")
        report.check(kept + lost == done["asked_for"], f"overload: {kept} kept and {lost} lost, of {done['asked_for']}")
    slow = Spread.of(done["p99_ns"] for done in results["overload"])
    report.goal("p99 of a record, five times as many as the drain takes", slow, "≤", 1000, " ns", "{:.0f}")
    report.figure("overload p99 ns", slow)
    for done in results["overload"]:
        report.check(done["newest"] == done["asked_for"] - 2, f"overload: the newest record in the file is {done['newest']}, of {done['asked_for'] - 1}")
    show_flood(report, results)


def show_flood(report: Report, results: dict[str, list]) -> None:
    for done in (*results["duration"], *results["memory"]):
        known = done["written"] + done["unkept"] + done["held"] + done["lost"]
        report.check(done["produced"] > 0 and known == done["produced"], f"flood: of {done['produced']} events {known} are accounted for")
    late = Spread.of(done["late_ms"] for done in results["duration"])
    report.goal("--duration ends late, while a program floods its rings", late, "≤", 10, " ms", "{:.1f}")
    grown = Spread.of(done["grown_kib"] / 1024 for done in results["memory"])
    report.goal("memory that overload takes after its first tenth", grown, "≤", FLAT_KIB / 1024, " MiB", "{:.1f}")
    report.figure("flood", {"late_ms": late.json(), "grown_mib": grown.json()})


if __name__ == "__main__":
    sys.exit(main())
