"""``atf doctor``: is this machine ready, and did a killed process leave anything?"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from atf.cli import checks, text
from atf.cli.common import print_json


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="is this machine ready, and what was left behind?",
        description="Checks of this machine and of what killed processes left. Exit status 1 if recording cannot work.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.set_defaults(run=run)


def examine() -> Iterator[checks.Check]:
    for look in (checks.python_version, checks.compiled_modules, checks.shared_memory, checks.clock, checks.packages):
        yield from look()


def run(args: argparse.Namespace) -> int:
    found = list(examine())
    healthy = all(check.status != "fault" for check in found)
    if args.json:
        print_json({"ok": healthy, "checks": [dataclasses.asdict(check) for check in found]})
    else:
        text.print_table(["status", "check", "found"], [(check.status, check.name, check.found) for check in found])
        for check in found:
            if check.advice:
                print(f"{check.name}: {text.clean(check.advice)}")
    return 0 if healthy else 1
