"""What the viewing commands share: which trace, which filters, and JSON."""

from __future__ import annotations

import argparse
import decimal
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from atf.errors import UsageError
from atf.jsonable import jsonable

if TYPE_CHECKING:
    from atf.trace import Trace

DEFAULT_ROOT = "atf-traces"
THREAD = "only this thread: its tid, its number in `atf info`, or a glob of its name"
_SCALE_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(\D*)")


def add_common(parser: argparse.ArgumentParser) -> None:
    """TRACE and --json."""
    parser.add_argument("trace", nargs="?", metavar="TRACE", help=f"a recording (default: the newest below ./{DEFAULT_ROOT})")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def add_name_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--function", metavar="GLOB", help="only functions whose name fits, e.g. 'load_*'")
    parser.add_argument("--module", metavar="GLOB", help="only modules whose name fits, e.g. 'app.*'")
    parser.add_argument("--thread", metavar="THREAD", type=thread, help=THREAD)


def add_time_filters(parser: argparse.ArgumentParser) -> None:
    when = "after the start of the trace, e.g. 1.5s or 200ms; a number without a unit is a timestamp in ns, as --json prints it"
    parser.add_argument("--start", metavar="TIME", type=Moment, help=f"from this time on: {when}")
    parser.add_argument("--end", metavar="TIME", type=Moment, help="up to this time, likewise")


def add_limit(parser: argparse.ArgumentParser, default: int | None, what: str) -> None:
    known = "all" if default is None else str(default)
    parser.add_argument("-n", "--limit", metavar="N", type=whole, default=default, help=f"at most N {what} (default: {known})")


def whole(text: str) -> int:
    """A whole number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def duration_ns(text: str) -> int:
    """``1.5ms`` in nanoseconds; a number without a unit is nanoseconds."""
    match = _AMOUNT.fullmatch(text.strip())
    if not match or (match[2] and match[2] not in _SCALE_NS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write a number and one of {', '.join(_SCALE_NS)}")
    return round(decimal.Decimal(match[1]) * _SCALE_NS[match[2] or "ns"])


class Moment:
    """A time on the command line: with a unit relative to the trace's start, without one an absolute timestamp in ns."""

    def __init__(self, text: str) -> None:
        self.ns = duration_ns(text)
        self.relative = not re.fullmatch(r"[\d.]+", text.strip())

    def absolute_ns(self, trace_start_ns: int) -> int:
        return self.ns + trace_start_ns if self.relative else self.ns


def open_named(args: argparse.Namespace) -> Trace:
    """The trace that TRACE names, or the newest one below the default directory."""
    from atf.trace import open_trace

    if args.trace is None and not os.path.isdir(DEFAULT_ROOT):
        raise UsageError(f"there is no recording in ./{DEFAULT_ROOT}: name one, or make one with `atf record -- python app.py`")
    return open_trace(DEFAULT_ROOT if args.trace is None else args.trace)


def thread(text: str) -> int | str:
    """A thread's tid or number, else a pattern of its name."""
    return int(text) if text.isdecimal() else text


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options among names that were given, as keyword arguments for a Trace."""
    return {name: value for name in names if (value := getattr(args, name, None)) is not None}


def time_window(args: argparse.Namespace, trace: Trace) -> dict[str, Any]:
    start_ns = trace.info["time_start_ns"] or 0
    moments = {"start_ns": args.start, "end_ns": args.end}
    return {name: moment.absolute_ns(start_ns) for name, moment in moments.items() if moment is not None}


def dumps(document: Any) -> str:
    """JSON that every parser takes: ASCII, no NaN, keys that are strings."""
    try:
        return json.dumps(document, default=jsonable, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(jsonable(document))


def print_json(document: Any) -> None:
    print(dumps(document))


def print_json_list(head: Mapping[str, Any], key: str, items: Iterable[Any]) -> None:
    """One document ``{**head, key: [...]}``, written item by item, so that its length needs no memory."""
    sys.stdout.write(f"{dumps(head)[:-1]}{', ' if head else ''}{dumps(key)}: [")
    for number, item in enumerate(items):
        sys.stdout.write((",\n" if number else "\n") + dumps(item))
    print("]}")
