"""``atf events``: the records in time order."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from atf.cli import present, text
from atf.cli.common import add_common, add_limit, add_name_filters, add_time_filters, given, open_named, print_json_list, time_window, whole

if TYPE_CHECKING:
    from atf.trace_events import Event

_DEEPEST = 30  # levels of indentation
KINDS = ("call", "return", "exception", "instant", "yield", "resume", "signal", "gap")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("events", help="the records in time order", description="The records of all threads in time order.")
    add_common(parser)
    add_name_filters(parser)
    parser.add_argument("--kind", choices=KINDS, action="append", help="only records of this kind; may be given several times")
    parser.add_argument("--depth", metavar="N", type=whole, help="only records at this call depth; 1 is outermost")
    add_time_filters(parser)
    add_limit(parser, None, "records")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with open_named(args) as trace:
        wanted = given(args, "function", "module", "kind", "thread", "depth", "limit") | time_window(args, trace)
        events = trace.events(**wanted)
        if args.json:
            print_json_list({"trace": str(trace.path)}, "events", map(present.event_json, events))
            return 0
        start_ns = trace.info["time_start_ns"] or 0
        for event in events:
            print(line(event, start_ns))
    return 0


def line(event: Event, start_ns: int) -> str:
    """``seconds  tid  kind  name  detail`` of one record, the name indented by its depth."""
    if event.kind == "gap":
        indent, shown = 0, f"{text.count(event.lost)} events lost ({event.reason})" if event.lost else f"{text.count(event.unkept)} events not kept"
    else:
        detail = event.detail
        indent, shown = min(event.depth, _DEEPEST), str(event.function) + (f"  {present.detail(detail)}" if detail is not None else "")
    moment = f"{(event.timestamp_ns - start_ns) / 10**9:.9f}"
    return text.clean(f"{moment:>14} {event.thread.tid:>7}  {event.kind:<9} {'  ' * max(indent - 1, 0)}{shown}")
