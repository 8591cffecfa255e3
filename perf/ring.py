"""A thread pair through rings in shared memory: records a second with and without a clock, and what one record costs.

Producer and consumer are native threads of one process without the GIL, the rings lie in System V segments, and the code is
the record path itself. The consumer checks every record's number: nothing lost, nothing reordered, and the checksum of
what arrived is the checksum of what was written.
"""

from __future__ import annotations

import sys

from _bench import Report, Spread, in_turn, parse, parser, per_operation_ns

RECORDS = {"full": 20_000_000, "quick": 200_000}
INSTANT, FIRST_NAME = 4, 1  # a kind of record, and the id of the first name of a session
FROM_PYTHON = {"full": 1_000_000, "quick": 10_000}


def native():
    """The native harness: pair() and record_cost() of atf._core.ring."""
    try:
        from atf._core import ring
    except ImportError as error:
        return None, f"atf._core.ring is not built for this Python ({error}): python setup.py build_ext --inplace"
    lacking = [name for name in ("pair", "record_cost") if not hasattr(ring, name)]
    return (None, f"atf._core.ring has no {', '.join(lacking)}") if lacking else (ring, "")


def from_python(count: int) -> float:
    """ns of one record made by a Python loop that is bound to the recorder, without the loop itself."""
    import atf
    from atf._core import recorder

    def records(times: int) -> None:
        record = recorder.record
        for _ in range(times):
            record(INSTANT, FIRST_NAME)

    def nothing(times: int) -> None:
        for _ in range(times):
            pass

    recording = atf.start(None, python=False)
    try:
        records(count // 10)
        return per_operation_ns(records, count) - per_operation_ns(nothing, count)
    finally:
        recording.stop()


def main() -> int:
    made = parser(__doc__, rounds=7)
    made.add_argument("--records", type=int, help=f"records of one pass (default {RECORDS['full']})")
    made.add_argument("--index-bytes", type=int, default=2 << 20, help="bytes of one index ring (default 2 MiB)")
    options = parse(made)
    report = Report("ring", options)
    size = "quick" if options.quick else "full"
    records = options.records or RECORDS[size]
    ring, why = native()
    if ring is None:
        report.lacks(why)
        return report.finish()
    results = in_turn(
        {
            "no clock": lambda: ring.pair(records, False, options.index_bytes),
            "TSC": lambda: ring.pair(records, True, options.index_bytes),
            "record": lambda: ring.record_cost(records),
            "python": lambda: from_python(FROM_PYTHON[size]),
        },
        options.rounds,
    )
    rows = []
    for name, goal in (("no clock", 60), ("TSC", 50)):
        passes = results[name]
        for done in passes:
            report.check(done["records"] == records, f"{name}: {done['records']} of {records} records arrived")
            report.check(done["lost"] == 0, f"{name}: {done['lost']} records lost")
            report.check(bool(done["checksum_ok"]), f"{name}: records arrived changed or out of order")
        rate = Spread.of(done["records"] / done["seconds"] / 1e6 for done in passes)
        producer = Spread.of(done["producer_cpu_ns"] / done["records"] for done in passes)
        consumer = Spread.of(done["consumer_cpu_ns"] / done["records"] for done in passes)
        rows.append([name, rate.text("{:.1f}"), producer.text("{:.1f}"), consumer.text("{:.1f}")])
        report.figure(name, {"million_records_per_s": rate.json(), "producer_cpu_ns": producer.json(), "consumer_cpu_ns": consumer.json()})
        report.goal(f"one pair, {name}", rate, "≥", goal, " M records/s", "{:.1f}")
    cost, python = Spread.of(results["record"]), Spread.of(results["python"])
    report.goal("record path from C, with its timestamp", cost, "≤", 14, " ns", "{:.1f}")
    report.goal("record path from Python", python, "≤", 30, " ns", "{:.1f}")
    report.figure("record from C ns", cost)
    report.figure("record from Python ns", python)
    report.table([f"{records} records", "M records/s", "producer CPU ns/record", "consumer CPU ns/record"], rows)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
