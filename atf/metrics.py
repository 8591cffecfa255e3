"""What became of every record: the drain's numbers of a thread, a process and a session, in one shape for whoever shows them.

Events: ``written + dropped + filtered + held = produced``; filtered: no window covers them; held: in the history, not decided yet.
The same holds for details, of the events that were read. Times in ns, ``rate`` in records a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atf.gather import Gatherer

SUMS = (
    "produced", "written", "dropped", "filtered", "held", "details_produced", "details", "details_dropped", "details_filtered", "details_held",
    "details_refused", "bytes", "swaps", "detail_swaps", "exhausted", "blocked_ns", "rate",
)  # fmt: skip


def of_thread(t: Mapping[str, Any]) -> dict[str, Any]:
    """Of one row of Source.threads()."""
    rate = t["rate"]
    if t["finished"]:
        rate = round(t["produced"] * 1e9 / (t["time_end_ns"] - t["time_start_ns"])) if t["time_end_ns"] > t["time_start_ns"] else 0
    return {
        "produced": t["produced"],
        "written": t["written"],
        "dropped": sum(t["lost"].values()),
        "dropped_by": dict(t["lost"]),
        "filtered": t["unkept"],
        "held": t["held"],
        "details_produced": t["details_seen"],
        "details": t["details"],
        "details_dropped": t["details_lost"],
        "details_filtered": t["details_unkept"],
        "details_held": t["details_held"],
        "details_refused": t["details_refused"],
        "bytes": t["bytes"],
        "swaps": t["swaps"],
        "detail_swaps": t["detail_swaps"],
        "exhausted": t["taken_back"],
        "blocked_ns": t["blocked_ns"],
        "most_full": t["most_full"],
        "rate": rate,
    }


def summed(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over threads; ``most_full`` is the most of one."""
    found: dict[str, Any] = {**dict.fromkeys(SUMS, 0), "dropped_by": {}, "most_full": 0}
    for row in rows:
        for name in SUMS:
            found[name] += row[name]
        for reason, count in row["dropped_by"].items():
            found["dropped_by"][reason] = found["dropped_by"].get(reason, 0) + count
        found["most_full"] = max(found["most_full"], row["most_full"])
    return found


def of_drain(totals: Iterable[Mapping[str, Any]], drain: Any) -> dict[str, Any]:
    """How the drain fared: lag (age of the oldest record when its ring was read; the last second's and the worst), cycles,
    writes and the time they took, CPU time. totals: Source.totals of each process."""
    sources = list(totals)
    return {
        "lag_ns": max((one["lag_ns"] for one in sources), default=0),
        "lag_most_ns": max((one["lag_most_ns"] for one in sources), default=0),
        "cycles": drain.cycles,
        "writes": sum(one["writes"] for one in sources),
        "write_ns": sum(one["write_ns"] for one in sources),
        "cpu_ns": drain.cpu_ns,
    }


_DRAIN_MOST = ("lag_ns", "lag_most_ns", "cycles", "cpu_ns")  # the drain's own: one for all processes
_DRAIN_SUMS = ("writes", "write_ns")


def together(processes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A session's numbers from those of its processes' manifests. What is no number there counts as 0."""
    rows = [{**summed([]), **dict.fromkeys((*_DRAIN_MOST, *_DRAIN_SUMS), 0), **_numbers(one)} for one in processes]
    found = summed(rows)
    found.update({name: max((row[name] for row in rows), default=0) for name in _DRAIN_MOST})
    found.update({name: sum(row[name] for row in rows) for name in _DRAIN_SUMS})
    return found


def _numbers(said: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: value for name, value in said.items() if isinstance(value, int)}
    by = said.get("dropped_by")
    found["dropped_by"] = {name: count for name, count in by.items() if isinstance(count, int)} if isinstance(by, dict) else {}
    return found


def of_session(gatherer: Gatherer) -> dict[str, Any]:
    """Everything that is known of a recording now: the sums, the drain's own, and ``threads``."""
    processes = [*gatherer.live.values(), *gatherer.done]
    threads, totals, error = [], [], None
    for process in processes:
        counts = process.source.totals
        totals.append(counts)
        error = error or counts["disk_error"]
        for row in process.source.threads() if gatherer.parts is None or not process.source.finished else ():
            who = {"pid": process.pid, "number": row["number"], "tid": row["tid"], "name": row["name"], "finished": row["finished"]}
            if not who["name"] and row["tid"] == process.pid:
                who["name"] = "MainThread"
            threads.append({**who, **of_thread(row)})
    live = [one for one in threads if not one["finished"]]
    return {
        "path": gatherer.output,
        "seconds": round(time.monotonic() - gatherer.began, 3),
        **summed(threads if gatherer.parts is None else [*threads, gatherer.parts.past]),
        "rate": sum(one["rate"] for one in live),
        **of_drain(totals, gatherer.drain),
        "processes": len(gatherer.live),
        "level": gatherer.level if gatherer.budget is None else gatherer.budget.level,
        **({} if gatherer.budget is None else {"budget": {**gatherer.budget.summary(), "changes": len(gatherer.budget.changes)}}),
        "part": gatherer.drain.part,
        "disk_error": error,
        "threads": threads,
    }


def unaccounted(row: Mapping[str, Any]) -> tuple[int, int]:
    """Events and details that were produced and of which nobody knows what became of them: always (0, 0)."""
    events = row["produced"] - row["written"] - row["dropped"] - row["filtered"] - row["held"]
    details = row["details_produced"] - row["details"] - row["details_dropped"] - row["details_filtered"] - row["details_held"]
    return events, details
