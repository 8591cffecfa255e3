"""``atf top``: where calls and time went."""

from __future__ import annotations

import argparse
from typing import Any

from atf.cli.common import add_common, add_limit, open_named, print_json


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "top", help="where calls and time went", description="Functions, modules, files or threads by time or number of calls."
    )
    add_common(parser)
    add_limit(parser, 20, "rows")
    parser.add_argument("--by", choices=["self", "total", "count", "mean"], default="self", help="order (default: self time)")
    groups = ["function", "module", "file", "thread"]
    parser.add_argument("--group", choices=groups, default="function", help="one row for each (default: function)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with open_named(args) as trace:
        rows = trace.top(args.limit, by=args.by, group=args.group)
        if args.json:
            print_json({"trace": str(trace.info["path"]), "by": args.by, "group": args.group, "rows": rows})
            return 0
    return 0
