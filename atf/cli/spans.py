"""``atf spans``: calls with their durations."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from atf.cli import present, text
from atf.cli.common import (
    add_common,
    add_limit,
    add_name_filters,
    add_time_filters,
    duration_ns,
    given,
    open_named,
    print_json_list,
    time_window,
    whole,
)

if TYPE_CHECKING:
    from atf.trace_spans import Span

STATUSES = ("ok", "exception", "unwound", "open", "lost", "untimed")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("spans", help="calls with their durations", description="Calls, by start or by time taken.")
    add_common(parser)
    add_name_filters(parser)
    for end, what in (("min", "took this long, e.g. 5ms"), ("max", "took no longer than this")):
        name = f"{end}_duration_ns"
        parser.add_argument(f"--{end}-duration", dest=name, metavar="TIME", type=duration_ns, help=f"only spans that {what}")
    parser.add_argument("--status", choices=STATUSES, action="append", help="only spans that ended so; may be given several times")
    parser.add_argument("--min-depth", metavar="N", type=whole, help="only spans at this depth or deeper; 1 is outermost")
    parser.add_argument("--max-depth", metavar="N", type=whole, help="only spans at this depth or above")
    add_time_filters(parser)
    parser.add_argument("--order-by", choices=["start", "duration", "self"], default="start", help="order (default: start)")
    add_limit(parser, 50, "spans")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    names = ("function", "module", "thread", "min_duration_ns", "max_duration_ns", "status", "min_depth", "max_depth", "order_by", "limit")
    with open_named(args) as trace:
        spans = trace.spans(**given(args, *names), **time_window(args, trace))
        if args.json:
            print_json_list({"trace": str(trace.path)}, "spans", map(present.span_json, spans))
            return 0
        start_ns = trace.info["time_start_ns"] or 0
        rows = ((*times(span, start_ns), span.thread.tid, span.depth, span.status, call(span)) for span in spans)
        text.print_table([">start", ">duration", ">self", ">tid", ">depth", "status", "call"], rows)
    return 0


def times(span: Span, start_ns: int) -> tuple[str, str, str]:
    return text.duration(span.start_ns - start_ns), text.duration(span.duration_ns), text.duration(span.self_ns)


def call(span: Span) -> str:
    recorded = span.exception
    return present.call(span) + (f"  {present.exception(recorded)}" if recorded is not None else "")
