"""``atf events``: the records in time order."""

from __future__ import annotations

import argparse
from typing import Any

from atf.cli import present, text
from atf.cli.common import add_common, add_limit, add_name_filters, add_time_filters, given, open_named, print_json_list, time_window, whole

KINDS = ("call", "return", "exception", "instant", "yield", "resume", "signal", "gap")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("events", help="the records in time order", description="The records of all threads in time order.")
    add_common(parser)
    add_name_filters(parser)
    parser.add_argument("--kind", choices=KINDS, help="only records of this kind")
    parser.add_argument("--depth", metavar="N", type=whole, help="only records at this call depth")
    add_time_filters(parser)
    add_limit(parser, None, "records")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with open_named(args) as trace:
        wanted = given(args, "function", "module", "kind", "thread", "depth", "limit") | time_window(args, trace)
        events = trace.events(**wanted)
        if args.json:
            print_json_list({"trace": str(trace.info["path"])}, "events", map(present.event_json, events))
            return 0
        start_ns = trace.info["time_start_ns"]
        for event in events:
            print(line(event, start_ns))
    return 0


def line(event: Any, start_ns: int) -> str:
    """``+time  thread  kind  function`` of one record, indented by its depth; the detail comes last."""
    name = present.label(event.function) if event.function is not None else ""
    detail = f"  {present.brief(event.detail)}" if event.detail is not None else ""
    moment = f"{(event.timestamp_ns - start_ns) / 10**9:.9f}"
    return text.clean(f"{moment:>14} {event.thread:>3}  {event.kind:<9} {'  ' * min(event.depth, 40)}{name}{detail}").rstrip()
