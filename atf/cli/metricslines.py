"""``--metrics-interval``: a line of numbers every now and then while a recording runs, for logs."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from atf.cli import text
from atf.cli.common import dumps, duration_ns
from atf.errors import UsageError

_LEAST_NS = 250_000_000  # recorders look as often


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """--metrics-interval, --metrics-format, --metrics-file."""
    what = "while recording, a line of numbers every e.g. 5s, and one at the end (at least 250ms)"
    parser.add_argument("--metrics-interval", metavar="TIME", type=duration_ns, help=what)
    parser.add_argument("--metrics-format", choices=("text", "json"), default="text", help="of these lines (default: text)")
    parser.add_argument("--metrics-file", metavar="FILE", help="append them to FILE (default: standard error)")


def wanted_metrics(args: argparse.Namespace) -> MetricsLines | None:
    """What was asked for, or None. UsageError when it does not fit or the file cannot be written."""
    if args.metrics_interval is None:
        if args.metrics_file is not None:
            raise UsageError("--metrics-file needs --metrics-interval, e.g. --metrics-interval 5s")
        return None
    if args.metrics_interval < _LEAST_NS:
        raise UsageError("--metrics-interval: at least 250ms; a number without a unit is nanoseconds")
    return MetricsLines(args.metrics_interval / 1e9, args.metrics_format == "json", args.metrics_file)


class MetricsLines:
    """Writes the lines. Called a few times a second by whoever supervises a recording."""

    def __init__(self, interval_s: float, as_json: bool, file: str | None):
        self.interval_s, self.as_json = interval_s, as_json
        try:
            self.out: TextIO | None = sys.stderr if file is None else open(file, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"--metrics-file {file}: {error.strerror}") from error
        self.file = file
        self._next = time.monotonic() + interval_s

    def __enter__(self) -> MetricsLines:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None and self.out is not None:
            self.out.close()

    def __call__(self, supervisor: Any) -> None:
        now = time.monotonic()
        if now < self._next or supervisor.stopping is not None:
            return
        self._next += self.interval_s * (1 + (now - self._next) // self.interval_s)
        self._write(supervisor)

    def last(self, supervisor: Any) -> None:
        """The line at the end."""
        self._write(supervisor)

    def _write(self, supervisor: Any) -> None:
        from atf.metrics import of_session

        if self.out is None:
            return
        found = of_session(supervisor.gatherer)
        try:
            if self.out.isatty():
                self.out.write("\r\x1b[K")  # over the status line
            self.out.write((dumps({"time": time.time(), **found}) if self.as_json else line(found)) + "\n")
            self.out.flush()
        except OSError as error:
            supervisor.gatherer.complain(f"no more metrics: {self.file or 'standard error'}: {error.strerror}")
            self.out = None

    @staticmethod
    def before(lines: MetricsLines | None, status: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
        """Both in turn, the status line last."""
        if lines is None or status is None:
            return lines or status

        def both(supervisor: Any) -> None:
            lines(supervisor)
            status(supervisor)

        return both


def line(found: dict[str, Any]) -> str:
    """One recording's numbers in a line."""
    held = f", held {text.count(found['held'])}" if found["held"] else ""
    return (
        f"atf: {found['seconds']:.1f} s: produced {text.count(found['produced'])}, written {text.count(found['written'])},"
        f" dropped {text.count(found['dropped'])}, filtered {text.count(found['filtered'])}{held}; {text.count(found['rate'])}/s,"
        f" {text.size(found['bytes'])}, {len(found['threads'])} threads, lag {text.duration(found['lag_ns'])} (worst {text.duration(found['lag_most_ns'])})"
    )
