"""What a decision event costs: TraceCollector against the logging module and against a deque with a lock and uuid4.

All keep the newest 10,000 in memory, with the same eight fields. The logger's handlers: one that appends each record to a deque and takes no
lock (the fastest that keeps anything), the same as a plain Handler with its lock, MemoryHandler and QueueHandler. The deque is what a
program would write by hand: an object with the fields and a uuid4, appended under a lock. What is measured is recording alone, but for
`TraceEvent`, which is the event object by itself; in CPU time of the thread that records, since nothing here waits for another. Single records
are timed by the wall clock, alone and while another thread copies the lane all the time.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import logging
import logging.handlers
import queue
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable

from _bench import Report, Spread, in_turn, parse, parser, ratios

COUNT = {"full": (20_000, 4_000), "quick": (200, 100)}  # operations of a batch: ours, the others
BATCHES, KEPT = 5, 10_000
FIELDS = {"model_id": "llama-3-70b", "request_id": "req-81724"}
RATIONALE, ATTRIBUTES = "shortest queue, 3 of 8 free", {"gpu": "3"}


def atf_cases() -> dict[str, Callable[[int], object]]:
    import atf

    collector = atf.TraceCollector(KEPT)
    record, record_now, event = collector.record, collector.record_now, atf.TraceEvent
    one = event("scheduling", "gpu-scheduler", RATIONALE, **FIELDS, attributes=ATTRIBUTES)

    def records(count: int) -> None:
        for _ in range(count):
            record(one)

    def records_now(count: int) -> None:
        for _ in range(count):
            record_now("scheduling", "gpu-scheduler", RATIONALE, model_id="llama-3-70b", request_id="req-81724", attributes=ATTRIBUTES)

    def bare(count: int) -> None:
        for _ in range(count):
            record_now("scheduling", "gpu-scheduler")

    def events(count: int) -> None:
        for _ in range(count):
            event("scheduling", "gpu-scheduler", RATIONALE, model_id="llama-3-70b", request_id="req-81724", attributes=ATTRIBUTES)

    return {"record(event)": records, "record_now, 8 fields": records_now, "record_now, 2 fields": bare, "TraceEvent": events}


def recorded_cases() -> dict[str, Callable[[int], object]]:
    """The same while the process records into its rings: each event is written twice."""
    import atf

    found = {}
    for name, run in atf_cases().items():
        if name != "TraceEvent":

            def within(count: int, run: Callable[[int], object] = run) -> None:
                run(count)

            found[f"{name}, recorded"] = within
    recording = atf.start(None, python=False)
    found["stop"] = lambda _: recording.stop()
    return found


class Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.kept: collections.deque = collections.deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


class KeepWithoutLock(Keep):
    def handle(self, record: logging.LogRecord) -> bool:
        self.kept.append(record)
        return True


def logging_cases() -> dict[str, Callable[[int], object]]:
    memory = logging.handlers.MemoryHandler(KEPT, logging.CRITICAL + 1, logging.NullHandler())
    queued = logging.handlers.QueueHandler(queue.SimpleQueue())
    handlers = {"deque, no lock": KeepWithoutLock(), "deque": Keep(), "MemoryHandler": memory, "QueueHandler": queued}
    found: dict[str, Callable[[int], object]] = {}
    for name, handler in handlers.items():
        logger = logging.getLogger(f"perf.{name}")
        logger.propagate, logger.handlers = False, [handler]
        logger.setLevel(logging.INFO)
        extra = {"event_type": "scheduling", "component": "gpu-scheduler", **FIELDS, **ATTRIBUTES}

        def records(count: int, info: Callable = logger.info, extra: dict = extra) -> None:
            for _ in range(count):
                info(RATIONALE, extra=extra)

        def bare(count: int, info: Callable = logger.info) -> None:
            for _ in range(count):
                info(RATIONALE)

        found[f"logging, {name}, extra="] = records
        found[f"logging, {name}, message only"] = bare
    return found


@dataclasses.dataclass(frozen=True)
class Plain:
    event_type: str
    component: str
    rationale: str
    model_id: str
    request_id: str
    attributes: dict
    timestamp_ns: int
    event_id: str


def plain_case() -> dict[str, Callable[[int], object]]:
    kept: collections.deque = collections.deque(maxlen=KEPT)
    lock = threading.Lock()

    def records(count: int) -> None:
        for _ in range(count):
            made = Plain("scheduling", "gpu-scheduler", RATIONALE, "llama-3-70b", "req-81724", dict(ATTRIBUTES), time.monotonic_ns(), str(uuid.uuid4()))
            with lock:
                kept.append(made)

    return {"deque, lock, uuid4": records}


def empty_loop(count: int) -> None:
    for _ in range(count):
        pass


def per_operation_ns(run: Callable[[int], object], operations: int) -> float:
    begin = time.thread_time_ns()
    run(operations)
    return (time.thread_time_ns() - begin) / operations


def timed(run: Callable[[int], object], count: int) -> Callable[[], float]:
    def once() -> float:
        gc.collect()
        run(count // 10 + 1)
        return statistics.median(per_operation_ns(run, count) for _ in range(BATCHES))

    return once


def in_session(count: int) -> Callable[[], dict[str, float]]:
    def once() -> dict[str, float]:
        cases = recorded_cases()
        stop = cases.pop("stop")
        try:
            return {name: timed(run, count)() for name, run in cases.items()}
        finally:
            stop(0)

    return once


def single(count: int, reading: bool) -> list[int]:
    """Nanoseconds of each of so many records, sorted; reading: another thread copies all of the lane, again and again."""
    import atf

    collector, done, times, now = atf.TraceCollector(KEPT), False, [], time.perf_counter_ns
    event = atf.TraceEvent("scheduling", "gpu-scheduler", RATIONALE, **FIELDS, attributes=ATTRIBUTES)

    def reader() -> None:
        while not done:
            collector.query(component="nobody")

    thread = threading.Thread(target=reader)
    if reading:
        thread.start()
    for _ in range(count):
        before = now()
        collector.record(event)
        times.append(now() - before)
    done = True
    if reading:
        thread.join()
    return sorted(times)


def check(report: Report) -> None:
    """What the figures stand for: eight threads lose nothing below the size and leave exactly the newest above it."""
    import atf

    for size in (KEPT, 4096):
        collector = atf.TraceCollector(size)
        threads = [threading.Thread(target=lambda n=n: [collector.record_now("step", str(n), request_id=str(k)) for k in range(1000)]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report.check(len(collector.query()) == min(size, 8000), f"{len(collector.query())} of 8000 events in a collector of {size}")
        for n in range(8):
            kept = [int(event.request_id) for event in collector.query_by_component(str(n))]
            report.check(kept == list(range(1000 - len(kept), 1000)), f"thread {n}: the {len(kept)} kept are not its last ones")
    event = atf.TraceEvent("t", "c", RATIONALE, **FIELDS, attributes=ATTRIBUTES)
    collector.record(event)
    report.check(collector.query()[-1] == event, "an event did not come back as it went in")


def main() -> int:
    options = parse(parser(__doc__, rounds=7))
    report = Report("collector", options)
    ours, theirs = COUNT["quick" if options.quick else "full"]
    try:
        cases: dict[str, Callable[[], object]] = {name: timed(run, ours) for name, run in atf_cases().items()}
    except ImportError as error:
        report.lacks(f"atf is not built for this Python: {error}")
        return report.finish()
    cases["loop"] = timed(empty_loop, ours)
    cases["session"] = in_session(ours)
    cases.update({name: timed(run, theirs) for name, run in {**logging_cases(), **plain_case()}.items()})
    results = in_turn(cases, options.rounds)
    check(report)
    show(report, results)
    for reading in (False, True):
        tails = [single(ours, reading) for _ in range(options.rounds)]
        what = "while another thread reads all the time" if reading else "alone"
        for share, name in ((0.5, "median"), (0.999, "99.9 %")):
            found = Spread.of(times[int(len(times) * share)] / 1000 for times in tails)
            report.figure(f"{name} {what} us", found)
            if reading and share > 0.5:
                report.goal(f"one record {what}, {name}, with two clock reads", found, "≤", 10, " µs")
            else:
                report.say(f"  one record {what}, {name}: {found.text()} µs with two clock reads")
        if reading:
            blocked = Spread.of(sum(t > 4_000_000 for t in times) for times in tails)
            report.say(f"  longer than 4 ms (the interpreter ran the reader): {blocked.text('{:.0f}')} of {ours}")
    return report.finish()


def show(report: Report, results: dict[str, list]) -> None:
    figures: dict[str, list[float]] = {name: rounds for name, rounds in results.items() if name not in ("session", "loop")}
    for name in results["session"][0]:
        figures[name] = [found[name] for found in results["session"]]
    net = {name: [max(value - empty, 0.1) for value, empty in zip(values, results["loop"], strict=True)] for name, values in figures.items()}
    rows = []
    for name, values in net.items():
        report.figure(name, Spread.of(values))
        rows.append([name, Spread.of(values).text("{:.0f}")])
    report.table([f"ns each, without the loop ({Spread.of(results['loop']).text('{:.0f}')})", "median (lowest–highest)"], rows)
    for name in ("record(event)", "record_now, 8 fields", "record_now, 8 fields, recorded"):
        report.goal(f"{name} from Python", Spread.of(net[name]), "≤", 1000, " ns", "{:.0f}")
    fastest = "logging, deque, no lock"
    report.goal(f"{fastest}, message only / record(event)", ratios(net[f"{fastest}, message only"], net["record(event)"]), "≥", 10, " ×", "{:.1f}")
    report.goal(f"{fastest}, extra= / record_now, 8 fields", ratios(net[f"{fastest}, extra="], net["record_now, 8 fields"]), "≥", 10, " ×", "{:.1f}")
    for peer in ("logging, MemoryHandler, extra=", "logging, QueueHandler, extra=", "deque, lock, uuid4"):
        report.say(f"  {peer} / record_now, 8 fields: {ratios(net[peer], net['record_now, 8 fields']).text('{:.1f}')} ×")


if __name__ == "__main__":
    sys.exit(main())
