"""``atf recover``: complete what a killed recorder or a damaged disk left."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from atf.cli import text
from atf.cli.common import print_json


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "recover",
        help="complete a recording whose recorder was killed",
        description="Complete recordings from their files and from the segments that survived. Damaged files are kept beside the new ones as *.damaged.",
    )
    parser.add_argument("trace", nargs="?", metavar="TRACE", help="a session or process directory (default: every session that a killed recorder left)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from atf.recovery import recover

    found = recover(args.trace)
    if args.json:
        print_json(found)
        return 1 if found["kept"] else 0
    for one in found["processes"]:
        what = f"{text.count(one['events'])} events, {text.count(one['from_segments'])} of them from memory"
        cut = f", {text.count(one['cut'])} damaged records cut" if one["cut"] else ""
        print(f"{one['path']}: {what}{cut}")
    for said in found["notes"]:
        print(f"atf: {said}", file=sys.stderr)
    if not found["processes"] and not found["kept"]:
        print("nothing to recover")
    return 1 if found["kept"] else 0
