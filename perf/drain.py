"""Through rings, drain and files: events a second and CPU an event, nothing lost under `block`, with one and with several
producers; and beside it the floor, a plain write() of the same bytes to the same place.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from _bench import Report, Spread, in_turn, parse, parser, ratios

EVENTS = {"full": 8_000_000, "quick": 200_000}
RECORD_BYTES, CHUNK_BYTES = 32, 2 << 20


def plain_write(place: Path, events: int) -> dict:
    """Writes as many bytes as `events` records have, a ring's worth at a time."""
    chunk, left = bytes(range(256)) * (CHUNK_BYTES // 256), events * RECORD_BYTES
    begin, cpu = time.perf_counter(), time.process_time_ns()
    with open(place / "plain", "wb", buffering=0) as file:
        while left > 0:
            left -= file.write(chunk if left >= CHUNK_BYTES else chunk[:left])
    return {"events": events, "seconds": time.perf_counter() - begin, "cpu_ns": time.process_time_ns() - cpu}


def through(ring, place: Path, events: int, policy: str, threads: int) -> dict:
    done = ring.through_files(events, str(place / "trace"), policy, threads)
    done["bytes"] = sum(path.stat().st_size for path in place.rglob("index.atf"))
    return done


def in_place(scratch: Path, run):
    """Calls run(directory) with a fresh directory and removes it: no pass pays for the pages of the one before."""

    def once():
        place = Path(tempfile.mkdtemp(dir=scratch))
        try:
            return run(place)
        finally:
            shutil.rmtree(place)

    return once


def native():
    try:
        from atf._core import ring
    except ImportError as error:
        return None, f"atf._core.ring is not built for this Python ({error}): python setup.py build_ext --inplace"
    return (ring, "") if hasattr(ring, "through_files") else (None, "atf._core.ring has no through_files")


def check(report: Report, name: str, events: int, done: dict) -> None:
    """FORBIDDEN under block: a record that was written and is not in the files."""
    report.check(done["lost"] == 0, f"{name}: {done['lost']} records lost")
    report.check(done["events"] == events, f"{name}: {done['events']} of {events} records are in the files")
    report.check(done["bytes"] >= events * RECORD_BYTES, f"{name}: the files have {done['bytes']} bytes, {events} records need more")


def main() -> int:
    made = parser(__doc__, rounds=5)
    made.add_argument("--events", type=int, help=f"events of one pass, all producers together (default {EVENTS['full']})")
    made.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4], help="numbers of producers (default 1 2 4)")
    made.add_argument("--policy", choices=["block", "drop-oldest"], default="block")
    made.add_argument("--dir", type=Path, help="where the files are written (default: the temp dir)")
    options = parse(made)
    report = Report("drain", options)
    events = options.events or EVENTS["quick" if options.quick else "full"]
    events -= events % math.lcm(*options.threads)  # every producer writes as many
    ring, why = native()
    scratch = Path(tempfile.mkdtemp(prefix="atf-perf-", dir=options.dir))
    cases = {"plain write()": in_place(scratch, lambda place: plain_write(place, events))}
    if ring is None:
        report.lacks(why)
    else:
        for threads in options.threads:
            cases[f"{threads} producers"] = in_place(scratch, lambda place, n=threads: through(ring, place, events, options.policy, n))
    try:
        os.sync()
        cases["plain write()"]()  # the first write of a process pays for cold pages
        results = in_turn(cases, options.rounds)
    finally:
        shutil.rmtree(scratch)
    show(report, results, events, options)
    return report.finish()


def show(report: Report, results: dict[str, list[dict]], events: int, options) -> None:
    rows, floor = [], results["plain write()"]
    for name, passes in results.items():
        rate = Spread.of(done["events"] / done["seconds"] / 1e6 for done in passes)
        row = [name, rate.text("{:.1f}")]
        found: dict = {"million_events_per_s": rate.json()}
        if "cpu_ns" in passes[0]:
            row += ["·", Spread.of(done["cpu_ns"] / done["events"] for done in passes).text("{:.1f}"), "·", "1"]
        else:
            parts = [(done["producer_cpu_ns"] / done["events"], done["drain_cpu_ns"] / done["events"]) for done in passes]
            both = Spread.of(producer + drain for producer, drain in parts)
            times = ratios([done["seconds"] for done in passes], [done["seconds"] for done in floor])
            row += [Spread.of(part[i] for part in parts).text("{:.1f}") for i in (0, 1)] + [both.text("{:.1f}"), times.text()]
            found.update(producer_and_drain_cpu_ns=both.json(), time_over_plain_write=times.json())
            for done in passes:
                if options.policy == "block":
                    check(report, name, events, done)
            if name.startswith("1 "):
                report.goal("one producer through rings, drain and files", rate, "≥", 30, " M events/s", "{:.1f}")
                report.goal("producer and drain together", both, "≤", 22, " ns CPU an event", "{:.1f}")
            report.goal(f"{name}, slowest round", Spread(rate.low, rate.low, rate.low), "≥", 10, " M events/s", "{:.1f}")
        report.figure(name, found)
        rows.append(row)
    report.table(
        [f"{events} events, {options.policy}", "M events/s", "producer CPU ns", "drain CPU ns", "together", "time / plain write()"], rows
    )


if __name__ == "__main__":
    sys.exit(main())
