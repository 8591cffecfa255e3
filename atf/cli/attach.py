"""``atf attach``: record a running process, and leave it as it was."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from atf.cli import text
from atf.cli.common import DEFAULT_ROOT, duration_ns, whole
from atf.cli.flight import add_flight, wanted_flight
from atf.cli.metricslines import MetricsLines, add_metrics, wanted_metrics
from atf.cli.rotation import add_rotation, rotation_config


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "attach",
        help="record the calls of a running native process",
        description="Enter a running process, record its calls until Ctrl-C, --duration or its end, and restore every byte of its code.",
        epilog="Needs the package frida: pip install 'atf[native]'. `atf doctor PID` tells beforehand what stands in the way.",
    )
    parser.add_argument("pid", type=whole, metavar="PID", help="the process")
    parser.add_argument("--out", "-o", default=DEFAULT_ROOT, metavar="DIR", help=f"where the session directory goes (default: ./{DEFAULT_ROOT})")
    parser.add_argument("--level", default="returns", metavar="LEVEL", help="calls, returns (default), or args (as --args)")
    parser.add_argument("--include", action="append", default=[], metavar="GLOB", help="only functions that fit, e.g. 'parse_*' or 'git::cmd_*'; repeatable")
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="no functions that fit; repeatable")
    add_modules(parser)
    add_details(parser)
    add_flight(parser)
    add_rotation(parser)
    add_metrics(parser)
    parser.add_argument("--duration", metavar="TIME", type=duration_ns, help="leave the process after e.g. 10s")
    parser.add_argument("--ring-size", metavar="SIZE", help="ring memory of one thread, e.g. 32M (default: 8M)")
    parser.add_argument("--burst-size", metavar="SIZE", help="ring memory that its threads share for bursts, touched when needed (default: 128M)")
    parser.add_argument("--threads", metavar="N", type=int, help="threads with rings of their own (default: 64); more share a slower lane")
    parser.add_argument("--policy", choices=("drop-oldest", "block"), default="drop-oldest", help="when the disk cannot follow: lose the oldest, or wait")
    parser.add_argument("--quiet", "-q", action="store_true", help="no status line and no summary")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON document on standard error")
    parser.add_argument("--detach-after", metavar="TIME", dest="duration", type=duration_ns, default=argparse.SUPPRESS, help="the same as --duration")
    parser.set_defaults(run=run)


def add_modules(parser: argparse.ArgumentParser) -> None:
    """--module and --all-modules."""
    parser.add_argument(
        "--module", action="append", default=[], metavar="NAME", help="trace this module: main (default), a glob on a library's name, or a path; repeatable"
    )
    parser.add_argument("--all-modules", action="store_true", help="trace every library of the program too")
    what = "also hook native functions that are too short for a jump or branch into their first bytes: by a signal, about 1 us a call"
    parser.add_argument("--slow-path", action="store_true", help=what)


def add_details(parser: argparse.ArgumentParser) -> None:
    """--args, --strings, --stack-bytes, --backtrace and --min-duration."""
    native = parser.add_argument_group("calls of compiled programs")
    native.add_argument("--args", action="store_true", help="record arguments and results, with names and types where the program has debug information")
    native.add_argument("--strings", action="store_true", help="--args, and what char * arguments point to, up to 64 bytes (needs debug information)")
    native.add_argument("--stack-bytes", metavar="N", type=whole, help="record so many bytes of the caller's stack with every call, at most 256")
    native.add_argument("--backtrace", action="store_true", help="record with every call where it and the traced calls around it return to")
    native.add_argument("--min-duration", metavar="TIME", type=duration_ns, help="record only calls that last so long, e.g. 10us, and those around them")


def wanted_modules(args: argparse.Namespace) -> list[str]:
    return ["*"] if args.all_modules else args.module or ["main"]


def run(args: argparse.Namespace) -> int:
    import atf.calm  # noqa: F401 - before numpy comes with anything else
    from atf import recording
    from atf.cli.record import StatusLine, print_json_error, summary
    from atf.native.attach import Attachment
    from atf.native.details import config_of

    config = {
        "level": args.level,
        "policy": args.policy,
        **config_of(args),
        **rotation_config(args),
        "slow_path": "1" if args.slow_path else "0",
        **{key: str(value) for key, value in recording.ring_options(args.ring_size, args.threads, args.burst_size).items()},
    }
    metrics_lines = wanted_metrics(args)
    attachment = Attachment(args.pid, args.out, config, wanted_modules(args), args.include, args.exclude, wanted_flight(args))
    live = not args.quiet and not args.json and sys.stderr.isatty()
    with metrics_lines or contextlib.nullcontext():
        attachment.run(None if args.duration is None else args.duration / 1e9, MetricsLines.before(metrics_lines, StatusLine() if live else None))
        if live:
            StatusLine.clear()
        if metrics_lines:
            metrics_lines.last(attachment)
    if args.json:
        print_json_error({**summary(attachment, 0), "native": native_summary(attachment.process)})
    else:
        for error in attachment.gatherer.errors:
            print(f"atf: {error}", file=sys.stderr)
        if not args.quiet:
            report(attachment)
    return 0


def native_summary(process: Any) -> dict[str, Any]:
    """hooked, refused, waiting (functions), setup_ns, stop_ns, threads_stopped, not_hooked [[module id, name, why]]."""
    return dict(process.manifest.values.get("native", {})) if process is not None else {}


def hooks_line(process: Any) -> str:
    """How many functions carried hooks, and why others did not."""
    found = native_summary(process)
    reasons: dict[str, int] = {}
    for _, _, why in found.get("not_hooked", ()):
        reasons[why] = reasons.get(why, 0) + 1
    line = f"{text.count(found.get('hooked', 0))} of {text.count(found.get('hooked', 0) + found.get('refused', 0))} functions hooked"
    if found.get("traps"):
        line += f" ({text.count(found['traps'])} by a trap)"
    if found.get("waiting"):
        line += f", {text.count(found['waiting'])} wait for their library"
    if reasons:
        line += "; not hooked: " + ", ".join(f"{count} {why}" for why, count in sorted(reasons.items(), key=lambda item: -item[1])[:4])
    return line


def report(attachment: Any) -> None:
    totals = attachment.gatherer.totals()
    lost = ", ".join(f"{text.count(number)} lost ({reason})" for reason, number in totals["lost"].items()) or "nothing lost"
    print(
        f"atf: {text.count(totals['events'])} events, {lost}, {text.size(totals['bytes'])}, {totals['threads']} threads\n"
        f"atf: {hooks_line(attachment.process)}\natf: {attachment.path}",
        file=sys.stderr,
    )
