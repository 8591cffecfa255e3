"""``atf doctor``: is this machine ready, and did a killed process leave anything?"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from atf.cli import checks, stale, text
from atf.cli.common import print_json


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="is this machine ready, and what was left behind?",
        description="Checks of this machine and of what killed processes left, or of one process or program. Exit status 1 if recording cannot work.",
    )
    parser.add_argument("target", nargs="?", metavar="PID|PROGRAM", help="can this process or compiled program be traced natively?")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--clean", action="store_true", help="remove stale sessions and their segments, with what they still hold")
    parser.set_defaults(run=run)


def examine() -> Iterator[checks.Check]:
    looks = (checks.python_version, checks.compiled_modules, checks.shared_memory, stale.leftovers, checks.clock, checks.packages)
    for look in looks:
        yield from look()


def preflight(target: str) -> Iterator[checks.Check]:
    from atf.native.preflight import examine as examine_target

    for finding in examine_target(target):
        yield checks.Check(finding.name, finding.status, finding.found, finding.advice)


def run(args: argparse.Namespace) -> int:
    cleaned = list(stale.clean()) if args.clean else []
    found = list(examine() if args.target is None else preflight(args.target))
    healthy = all(check.status != "fault" for check in found)
    if args.json:
        print_json({"ok": healthy, "cleaned": cleaned, "checks": [dataclasses.asdict(check) for check in found]})
    else:
        for line in cleaned:
            print(text.clean(line))
        text.print_table(["status", "check", "found"], [(check.status, check.name, check.found) for check in found])
        for check in found:
            if check.advice:
                print(text.clean(f"{check.name}: {check.advice}"))
    return 0 if healthy else 1
