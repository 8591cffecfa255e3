"""What a span and an event of the user's cost: atf against an OpenTelemetry SDK span, each in the same process, in turn.

Operations run in batches small enough for OpenTelemetry's queue; its exporter throws away what it gets, so that what is
compared is recording alone. atf records into its rings, with nobody draining; `atf streaming` is the same with a drain
inside the process and files.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from _bench import Report, Spread, in_turn, parse, parser, per_operation_ns, ratios

INSTANT, FIRST_NAME = 4, 1  # a kind of record, and the id of the first name of a session
BATCH = {"full": (20_000, 1_000), "quick": (200, 20)}  # operations of atf, of OpenTelemetry (it is a hundred times slower)
BATCHES = 5  # a round takes their median: a batch of atf is half a millisecond, one interruption doubles it


def empty_loop(count: int) -> None:
    for _ in range(count):
        pass


def atf_operations() -> dict[str, Callable[[int], None]]:
    import atf

    span, event = atf.span, atf.event

    def spans(count: int) -> None:
        for _ in range(count):
            with span("perf.span"):
                pass

    def spans_with_attributes(count: int) -> None:
        for i in range(count):
            with span("perf.span3", a=i, b="text", c=True):
                pass

    def events(count: int) -> None:
        for _ in range(count):
            event("perf.event")

    def events_with_attributes(count: int) -> None:
        for i in range(count):
            event("perf.event3", a=i, b="text", c=True)

    return {
        "atf span": spans,
        "atf span, 3 attributes": spans_with_attributes,
        "atf event": events,
        "atf event, 3 attributes": events_with_attributes,
    }


def recorder_operation() -> dict[str, Callable[[int], None]]:
    """The record path itself: an id that is known, no name to look up, no attributes."""
    from atf._core import recorder

    record = recorder.record

    def records(count: int) -> None:
        for _ in range(count):
            record(INSTANT, FIRST_NAME)

    return {"atf record from Python": records}


def otel_operations(processor) -> tuple[dict[str, Callable[[int], None]], Callable[[], None]]:
    """Operations under a provider of their own, and what ends it."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    if processor is not None:
        provider.add_span_processor(processor)
    start = provider.get_tracer("perf").start_as_current_span

    def spans(count: int) -> None:
        for _ in range(count):
            with start("perf.span"):
                pass

    def spans_with_attributes(count: int) -> None:
        for i in range(count):
            with start("perf.span3", attributes={"a": i, "b": "text", "c": True}):
                pass

    def events_with_attributes(count: int) -> None:
        with start("perf.parent") as parent:
            for i in range(count):
                parent.add_event("perf.event3", {"a": i, "b": "text", "c": True})

    made = {"span": spans, "span, 3 attributes": spans_with_attributes, "add_event, 3 attributes": events_with_attributes}
    return made, provider.shutdown


def otel_cases() -> tuple[dict[str, Callable[[int], None]], list[Callable[[], None]]]:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Discard(SpanExporter):
        def export(self, spans):
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None: ...

    cases, ends = {}, []
    for label, processor in (("no processor", None), ("batch processor", BatchSpanProcessor(Discard()))):
        made, end = otel_operations(processor)
        cases.update({f"otel {name} ({label})": run for name, run in made.items()})
        ends.append(end)
    return cases, ends


@contextmanager
def recording(path: Path | None):
    """A session into the rings only (no path), or with a drain in this process and files. Python calls are not recorded:
    spans and events are what is measured, and a program that calls nothing else pays for nothing else."""
    import atf

    started = atf.start(path, python=False)
    try:
        yield started
    finally:
        started.stop()


def timed(run: Callable[[int], None], count: int) -> Callable[[], float]:
    def once() -> float:
        gc.collect()
        run(count // 10 + 1)  # names are interned, code is specialized
        return statistics.median(per_operation_ns(run, count) for _ in range(BATCHES))

    return once


def measure_atf(report: Report, count: int, path: Path | None) -> Callable[[], dict[str, float]]:
    """All atf operations of one round, in one session; its files are checked when there are any."""
    operations = {**atf_operations(), **recorder_operation()}

    def once() -> dict[str, float]:
        place = None if path is None else Path(tempfile.mkdtemp(dir=path))
        with recording(place):
            found = {name: timed(run, count)() for name, run in operations.items()}
        if place is not None:
            check_files(report, place, count)
        return found

    return once


def check_files(report: Report, place: Path, count: int) -> None:
    import atf

    warm = count // 10 + 1
    with atf.open(place) as trace:
        expected = (BATCHES * count + warm) * (2 + 2 + 1 + 1 + 1)
        info = trace.info
        report.check(not any(info["lost"].values()), f"events were lost while streaming: {info['lost']}")
        report.check(info["events"] == expected, f"{info['events']} events in the files, {expected} were recorded")


def main() -> int:
    options = parse(parser(__doc__, rounds=7))
    report = Report("spans", options)
    ours, theirs = BATCH["quick" if options.quick else "full"]
    cases: dict[str, Callable[[], object]] = {"loop": timed(empty_loop, ours)}
    ends: list[Callable[[], None]] = []
    try:
        otel, ends = otel_cases()
        cases.update({name: timed(run, theirs) for name, run in otel.items()})
    except ImportError:
        report.lacks("opentelemetry: pip install opentelemetry-sdk")
    with tempfile.TemporaryDirectory(prefix="atf-perf-") as scratch:
        try:
            cases["rings"] = measure_atf(report, ours, None)
            cases["streaming"] = measure_atf(report, ours, Path(scratch))
        except (ImportError, AttributeError) as error:
            report.lacks(f"atf is not built for this Python: {error}")
        results = in_turn(cases, options.rounds)
    for end in ends:
        end()
    show(report, results)
    return report.finish()


def show(report: Report, results: dict[str, list]) -> None:
    figures: dict[str, list[float]] = {name: rounds for name, rounds in results.items() if name not in ("rings", "streaming")}
    for mode in ("rings", "streaming"):
        for name in results.get(mode, [{}])[0]:
            figures[f"{name}, {mode}"] = [found[name] for found in results[mode]]
    loop = figures.pop("loop")
    net = {name: [max(value - empty, 0.1) for value, empty in zip(values, loop, strict=True)] for name, values in figures.items()}
    rows = []
    for name, values in net.items():
        report.figure(name, Spread.of(values))
        rows.append([name, Spread.of(values).text("{:.0f}")])
    report.table([f"ns each, without the loop ({Spread.of(loop).text('{:.0f}')})", "median (lowest–highest)"], rows)
    record = net.get("atf record from Python, rings")
    if record:
        report.goal("record path from Python", Spread.of(record), "≤", 30, " ns", "{:.0f}")
    for ours, peer, least in (
        ("atf span, rings", "otel span (batch processor)", 50),
        ("atf span, rings", "otel span (no processor)", None),
        ("atf event, 3 attributes, rings", "otel span (batch processor)", 30),
        ("atf event, 3 attributes, rings", "otel span (no processor)", None),
        ("atf span, 3 attributes, rings", "otel span, 3 attributes (batch processor)", None),
        ("atf event, 3 attributes, rings", "otel add_event, 3 attributes (batch processor)", None),
    ):
        if ours in net and peer in net:
            times = ratios(net[peer], net[ours])
            if least is None:
                report.say(f"  {peer} / {ours}: {times.text('{:.0f}')} ×")
            else:
                report.goal(f"{peer} / {ours}", times, "≥", least, " ×", "{:.0f}")


if __name__ == "__main__":
    sys.exit(main())
