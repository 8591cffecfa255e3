"""``atf diff``: what differs between two recordings. The exit status is that of diff: 0 the same calls, 1 not, 2 trouble."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from atf.cli.common import print_json, whole
from atf.errors import AtfError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "diff",
        help="what differs between two recordings",
        description="The first call that differs, functions that appeared or vanished, and changes of counts and times.",
        epilog="Exit status: 0 when the calls are the same, 1 when they differ, 2 when something went wrong. Times alone are no difference.",
    )
    parser.add_argument("before", metavar="A", help="a recording, of a run that went well, say; alone: of a test, compared with the last one that passed")
    parser.add_argument("after", metavar="B", nargs="?", help="the recording to look at")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--by", choices=("functions", "paths"), default="functions", help="what is counted: functions, or call paths (default: functions)")
    parser.add_argument("--metric", choices=("self", "total"), default="self", help="the time that is compared (default: self)")
    parser.add_argument("--min-change", type=_share, default=0.05, metavar="SHARE", help="smaller changes of counts and times are none (default: 0.05)")
    parser.add_argument("--confidence", choices=("noise", "possible", "likely"), default="likely", help="how sure a change of times must be (default: likely)")
    parser.add_argument("-n", "--limit", metavar="N", type=whole, default=20, help="at most N changes of each kind (default: 20)")
    parser.set_defaults(run=run)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: a number from 0 to 1")
    return value


def run(args: argparse.Namespace) -> int:
    from atf.comparing import green_for
    from atf.query.difference import compare

    try:
        if args.after is None:
            args.before, args.after = green_for(args.before), args.before
        found = compare(args.before, args.after, by=args.by, metric=args.metric, min_change=args.min_change, confidence=args.confidence)
    except AtfError as error:
        print(f"atf: {error}", file=sys.stderr)
        return 2
    if args.json:
        import msgspec

        whole = msgspec.to_builtins(found.comparison)
        whole["before"]["traceId"], whole["after"]["traceId"] = args.before, args.after
        print_json({"same": found.same, "incomplete": found.incomplete, **whole})
    else:
        for line in found.lines(args.limit):
            print(line)
    return 0 if found.same else 1
