"""``atf top``: where calls and time went."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from atf.cli import present, text
from atf.cli.common import add_common, add_limit, open_named, print_json

if TYPE_CHECKING:
    from atf.trace_tree import TopRow


def add_parser(subparsers: Any) -> None:
    description = "Functions, modules, files or threads by time or number of calls. Time that a generator was suspended is left out."
    parser = subparsers.add_parser("top", help="where calls and time went", description=description)
    add_common(parser)
    add_limit(parser, 20, "rows")
    parser.add_argument("--by", choices=["self", "total", "count", "mean"], default="self", help="order (default: self)")
    groups = ["function", "module", "file", "thread"]
    parser.add_argument("--group", choices=groups, default="function", help="one row for each (default: function)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with open_named(args) as trace:
        rows = trace.top(args.limit, by=args.by, group=args.group)
        if args.json:
            found = [row._asdict() for row in rows]
            print_json({"trace": str(trace.path), "by": args.by, "group": args.group, "rows": found})
            return 0
        columns = [">self", ">total", ">calls", ">mean", ">max", ">raised", args.group]
        if args.group == "function":
            columns.append("where")
        text.print_table(columns, [cells(row, args.group) for row in rows])
    return 0


def cells(row: TopRow, group: str) -> tuple[str, ...]:
    times = [text.duration(ns) for ns in (row.self_ns, row.total_ns, row.mean_ns, row.max_ns)]
    raised = text.count(row.exceptions) if row.exceptions else ""
    shown = (*times[:2], text.count(row.count), *times[2:], raised)
    if group != "function":
        return (*shown, row.name)
    name = f"{row.module}.{row.name}" if row.module else row.name
    return (*shown, name, present.place(row.file, row.line))
