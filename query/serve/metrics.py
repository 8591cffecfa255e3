"""Numbers for Prometheus, in its text format."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable

from atf.query.rpc import Done

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_UNKNOWN = "unknown"  # stands for everything that is no method, so that clients cannot make new series


class Metrics:
    """Counts of what was asked. gauges: {name: (help, value())}."""

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self._gauges = gauges
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, int]] = Counter()
        self._rows: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._slots: dict[str, list[int]] = {}
        self._refused: Counter[int] = Counter()
        self._bytes = 0

    def done(self, calls: Iterable[Done], answer_bytes: int) -> None:
        """Counts the calls of one answer."""
        with self._lock:
            self._bytes += answer_bytes
            for call in calls:
                method = call.method or _UNKNOWN
                self._calls[method, call.code] += 1
                self._rows[method] += call.rows or 0
                seconds = call.duration_ms / 1000
                self._seconds[method] += seconds  # type: ignore[assignment]
                self._slots.setdefault(method, [0] * (len(BUCKETS_S) + 1))[bisect_left(BUCKETS_S, seconds)] += 1

    def refused(self, status: int) -> None:
        with self._lock:
            self._refused[status] += 1

    def text(self) -> str:
        with self._lock:
            lines = _series("atf_query_requests_total", "counter", "Calls, by method and error code (0: none).")
            lines += [f'atf_query_requests_total{{method="{m}",code="{c}"}} {n}' for (m, c), n in sorted(self._calls.items())]
            lines += _series("atf_query_duration_seconds", "histogram", "Time from the beginning of a call to its encoded answer.")
            for method, slots in sorted(self._slots.items()):
                total = 0
                for bound, count in zip((*map(repr, BUCKETS_S), "+Inf"), slots):
                    total += count
                    lines.append(f'atf_query_duration_seconds_bucket{{method="{method}",le="{bound}"}} {total}')
                lines.append(f'atf_query_duration_seconds_sum{{method="{method}"}} {self._seconds[method]:.6f}')
                lines.append(f'atf_query_duration_seconds_count{{method="{method}"}} {total}')
            lines += _series("atf_query_rows_total", "counter", "Rows of listings.")
            lines += [f'atf_query_rows_total{{method="{m}"}} {n}' for m, n in sorted(self._rows.items())]
            lines += _series("atf_query_refused_total", "counter", "Requests that got no JSON-RPC answer, by HTTP status.")
            lines += [f'atf_query_refused_total{{status="{s}"}} {n}' for s, n in sorted(self._refused.items())]
            lines += _series("atf_query_answer_bytes_total", "counter", "Bytes of JSON-RPC answers.")
            lines.append(f"atf_query_answer_bytes_total {self._bytes}")
        for name, (help, value) in {**self._gauges, "process_resident_memory_bytes": ("Resident memory.", resident_bytes)}.items():
            lines += [*_series(name, "counter" if name.endswith("_total") else "gauge", help), f"{name} {value():.10g}"]
        return "\n".join(lines) + "\n"


def _series(name: str, kind: str, help: str) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]


def resident_bytes() -> float:
    """Resident memory of this process, mapped files included; 0 where it cannot be told."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError, ValueError):
        return 0
