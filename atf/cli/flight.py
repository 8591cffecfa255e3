"""Options of the flight recorder, for every command that records."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from atf.cli.common import duration_ns
from atf.errors import UsageError

if TYPE_CHECKING:
    from atf.flight import Flight


def add_flight(parser: argparse.ArgumentParser) -> None:
    """--trigger, --pre-roll-sec, --post-roll-sec, --flight, --history-size."""
    group = parser.add_argument_group("flight recorder", "keep only what lies around marks; atf.mark() is always one")
    group.add_argument(
        "--trigger",
        action="append",
        default=[],
        metavar="TRIGGER",
        help="what marks: symbol=NAME[,NAME], symbol~=REGEX, exception=TYPE, duration=NAME>50ms, crash, signal=SIGUSR1, time=10:30-10:45,"
        " time=+30s, python='EXPRESSION'; repeatable",
    )
    group.add_argument("--pre-roll-sec", metavar="S", type=_seconds, help="how far a window reaches back from a mark (default: 1)")
    group.add_argument("--post-roll-sec", metavar="S", type=_seconds, help="how far it reaches on (default: 1)")
    group.add_argument("--flight", metavar="TIME|SIZE", help="write nothing until a mark, then the last e.g. 30s, or the last 64M, of everything")
    group.add_argument("--history-size", metavar="SIZE", help="memory for what is not decided yet (default: 256M)")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return value


def wanted_flight(args: argparse.Namespace) -> Flight | None:
    """The flight recorder that was asked for; None: everything is kept. UsageError for a bad trigger."""
    if not (args.trigger or args.flight) and args.pre_roll_sec is None and args.post_roll_sec is None:
        if args.history_size is not None:
            raise UsageError("--history-size is for --trigger and --flight: without them everything is kept")
        return None
    import atf.calm  # noqa: F401 - before numpy comes with anything else
    from atf.flight import HISTORY_BYTES, Flight
    from atf.recording import parse_size
    from atf.triggers import parse_all

    triggers = parse_all(args.trigger)
    options: dict[str, Any] = {"post_s": 1.0 if args.post_roll_sec is None else args.post_roll_sec, "keep": "details"}
    options["pre_s"] = 1.0 if args.pre_roll_sec is None else args.pre_roll_sec
    options["history_bytes"] = HISTORY_BYTES if args.history_size is None else parse_size(args.history_size)
    if args.flight:
        options.update(_ring_only(args))
    return Flight(triggers, **options)


def _ring_only(args: argparse.Namespace) -> dict[str, Any]:
    if args.pre_roll_sec is not None:
        raise UsageError("--flight says how far back a window reaches: leave --pre-roll-sec out")
    from atf.recording import parse_size

    text = args.flight.strip()
    if text[-1:].lower() in ("k", "m", "g", "b") and not text[-2:].lower().endswith(("ms", "min")):
        if args.history_size is not None:
            raise UsageError("--flight with a size is the history's size: leave --history-size out")
        return {"keep": "windows", "pre_s": None, "history_bytes": parse_size(text)}
    try:
        return {"keep": "windows", "pre_s": float(text) if text.replace(".", "", 1).isdecimal() else duration_ns(text) / 1e9}
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--flight {args.flight}: write a time like 30s, or a size like 64M") from error
