"""``atf record``: run a program and write down what it does, from outside its process."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from atf.cli import text
from atf.cli.attach import add_details, add_modules, hooks_line, native_summary, wanted_modules
from atf.cli.common import DEFAULT_ROOT, duration_ns, print_json
from atf.cli.flight import add_flight, wanted_flight
from atf.cli.metricslines import MetricsLines, add_metrics, wanted_metrics
from atf.cli.rotation import add_rotation, rotation_config

if TYPE_CHECKING:
    from atf.budget import Budget


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "record",
        help="run a program and record its calls",
        usage="atf record [options] -- PROGRAM [ARGUMENT ...]",
        description="Run a program and record it. PROGRAM: python and its arguments, a script, a console script, -m MODULE, or a compiled program.",
        epilog="The exit status is the program's. Excluded modules cost next to nothing; excluded beats included.",
    )
    parser.add_argument("--out", "-o", default=DEFAULT_ROOT, metavar="DIR", help=f"where the session directory goes (default: ./{DEFAULT_ROOT})")
    parser.add_argument("--level", default="returns", metavar="LEVEL", help="calls, returns (default), c (C functions too), args (values too), or c,args")
    what = "only modules whose name fits, e.g. 'app.*'; of a compiled program functions, e.g. 'git::cmd_*'; repeatable"
    parser.add_argument("--include", action="append", default=[], metavar="GLOB", help=what)
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="none whose name fits; repeatable")
    add_modules(parser)
    add_details(parser)
    add_flight(parser)
    add_rotation(parser)
    add_metrics(parser)
    what = "of one processor: more than this recording does not cost while levels can be turned down (args, returns, calls), e.g. 5%%"
    parser.add_argument("--budget", metavar="CPU%", help=what)
    what = "record a Python program's native code too: what --module names; --include and --exclude globs with :: choose its functions"
    parser.add_argument("--native", action="store_true", help=what)
    parser.add_argument("--children", action=argparse.BooleanOptionalAction, default=True, help="follow child processes (default: yes)")
    what = "below a shell, make, Python …: record the compiled programs that it starts too (a compiled PROGRAM's children always are)"
    parser.add_argument("--programs", action="store_true", help=what)
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--duration", metavar="TIME", type=duration_ns, help="end the recording after e.g. 10s; the program goes on")
    what = "the same for a compiled program, and take every hook out of its code (needs frida)"
    when.add_argument("--detach-after", metavar="TIME", type=duration_ns, help=what)
    parser.add_argument("--ring-size", metavar="SIZE", help="ring memory of one thread, e.g. 32M (default: 8M)")
    parser.add_argument("--burst-size", metavar="SIZE", help="ring memory that a process's threads share for bursts, touched when needed (default: 128M)")
    parser.add_argument("--threads", metavar="N", type=int, help="threads with rings of their own (default: 64); more share a slower lane")
    parser.add_argument("--policy", choices=("drop-oldest", "block"), default="drop-oldest", help="when the disk cannot follow: lose the oldest, or wait")
    parser.add_argument("--repr", action="store_true", help="with level args: repr() of objects that are no plain values; runs the program's code")
    parser.add_argument("--quiet", "-q", action="store_true", help="no status line and no summary")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON document on standard error")
    parser.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from atf import recording
    from atf._core.errors import UsageError
    from atf.native import details
    from atf.native.kind import is_native, refuse_python
    from atf.supervise import Supervisor

    words = args.program[1:] if args.program[:1] == ["--"] else args.program
    level = args.level + (",repr" if args.repr else "")
    recording.levels(level)
    config = {
        "level": level,
        "include": "\x1f".join(args.include),
        "exclude": "\x1f".join(args.exclude),
        "policy": args.policy,
        "children": "1" if args.children else "0",
        **details.config_of(args),
        **rotation_config(args),
        "slow_path": "1" if args.slow_path else "0",
        **{key: str(value) for key, value in recording.ring_options(args.ring_size, args.threads, args.burst_size).items()},
    }
    budget = wanted_budget(args, level)
    metrics_lines = wanted_metrics(args)
    beside = args.native and not is_native(words)
    native = not beside and (bool(args.module or args.all_modules or args.slow_path) or is_native(words))
    duration_s = None if args.duration is None and args.detach_after is None else (args.duration or args.detach_after or 0) / 1e9
    if budget is not None and (native or beside or args.programs):
        raise UsageError("--budget is for Python programs: hooks in native code have one level for as long as they are there")
    supervisor: Supervisor
    if native or beside or args.programs:
        import atf.calm  # noqa: F401 - before numpy comes with anything else
    if beside:
        from atf.native.beside import BesideSupervisor, Choice, split_globs

        if args.slow_path or args.programs:
            raise UsageError("--slow-path and --programs do not go with --native")
        details.refuse(config)
        (included, wanted), (excluded, unwanted) = split_globs(args.include), split_globs(args.exclude)
        config |= {"include": "\x1f".join(included), "exclude": "\x1f".join(excluded)}
        choice = Choice(["*"] if args.all_modules else args.module, wanted, unwanted)
        supervisor = BesideSupervisor(words, args.out, config, choice, wanted_flight(args))
    elif native:
        from atf.native import injector
        from atf.native.spawn import NativeSupervisor

        if args.detach_after is not None:
            injector.require()
        refuse_python(words)
        supervisor = NativeSupervisor(words, args.out, config, wanted_modules(args), args.include, args.exclude, wanted_flight(args))
    elif args.programs:
        from atf.native.launch import LauncherSupervisor

        if not args.children:
            raise UsageError("--programs follows children, --no-children does not: leave one of them out")
        supervisor = LauncherSupervisor(words, args.out, config, wanted_modules(args), args.include, args.exclude, wanted_flight(args))
    else:
        details.refuse(config)
        supervisor = Supervisor(words, args.out, config, wanted_flight(args), budget)
    live = not args.quiet and not args.json and sys.stderr.isatty()
    status_line = StatusLine() if live else None
    with metrics_lines or contextlib.nullcontext():
        status = supervisor.run(duration_s, MetricsLines.before(metrics_lines, status_line))
        if live:
            StatusLine.clear()
        if metrics_lines:
            metrics_lines.last(supervisor)
    if native:
        note_ending(supervisor)
    if args.json:
        more = {"native": native_summary(getattr(supervisor, "process", None))} if native or beside else {}
        print_json_error({**summary(supervisor, status), **more})
    elif not args.quiet:
        report(supervisor)
    else:
        complaints(supervisor)
    return status


def wanted_budget(args: argparse.Namespace, level: str) -> Budget | None:
    """What was asked for, or None. UsageError when it cannot be kept."""
    if args.budget is None:
        return None
    from atf.budget import Budget, parse

    return Budget(parse(args.budget), level)


class StatusLine:
    """One line on a terminal's standard error, drawn anew a few times a second."""

    def __init__(self) -> None:
        self.last: tuple[float, int] | None = None

    @staticmethod
    def clear() -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    def __call__(self, supervisor: Any) -> None:
        import time

        totals, now = supervisor.gatherer.totals(), time.monotonic()
        rate = 0.0 if self.last is None else (totals["events"] - self.last[1]) / (now - self.last[0])
        self.last = (now, totals["events"])
        state = "recording" if supervisor.stopping is None else "recording ended"
        sys.stderr.write(
            f"\r\x1b[Katf: {state} · {text.count(totals['events'])} events · {text.count(round(rate))}/s · lost {text.count(sum(totals['lost'].values()))}"
            f" · {text.size(totals['bytes'])} · {totals['threads']} threads"
        )
        sys.stderr.flush()


def summary(supervisor: Any, status: int) -> dict[str, Any]:
    """path, status, events, bytes, lost {reason: n}, threads, processes, errors."""
    totals = supervisor.gatherer.totals()
    return {"path": supervisor.path, "status": status, "ended": supervisor.stopping, **totals, "errors": supervisor.gatherer.errors}


def note_ending(supervisor: Any) -> None:
    """A crash is told even by --quiet: the last events of the trace are what the user looks for."""
    from atf.native.ending import describe

    manifest = supervisor.process.manifest
    told = describe(supervisor.code or 0, manifest.values, manifest.path)
    if told:
        supervisor.gatherer.complain(told)


def print_json_error(document: dict[str, Any]) -> None:
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        print_json(document)
    finally:
        sys.stdout = out


def complaints(supervisor: Any) -> None:
    for error in supervisor.gatherer.errors:
        print(f"atf: {error}", file=sys.stderr)
    totals = supervisor.gatherer.totals()
    if totals["disk_error"]:
        print(f"atf: the disk refused events ({totals['disk_error']}): what is missing stands in the trace as gaps", file=sys.stderr)
    if not totals["processes"] and not supervisor.gatherer.errors:
        print(
            f"atf: no Python process was recorded: {supervisor.command[0]} is not Python, ended too early,"
            " or ignores its environment (-I, -E, -S)",
            file=sys.stderr,
        )


def windows_line(windows: list[dict[str, Any]]) -> str:
    """``2 windows kept, 2.100 s: symbol=refund (3 marks), atf.mark() (1 mark)``."""
    if not windows:
        return "no window kept: nothing marked"
    marks: dict[str, int] = {}
    for one in windows:
        marks[one["trigger"]] = marks.get(one["trigger"], 0) + one["marks"]
    kept = sum(one["endNs"] - one["startNs"] for one in windows) / 1e9
    said = ", ".join(f"{trigger} ({number} mark{'s' if number != 1 else ''})" for trigger, number in marks.items())
    return f"{len(windows)} window{'s' if len(windows) != 1 else ''} kept, {kept:.3f} s: {said}"


def report(supervisor: Any) -> None:
    complaints(supervisor)
    totals = supervisor.gatherer.totals()
    if not totals["processes"]:
        return
    lost = ", ".join(f"{text.count(number)} lost ({reason})" for reason, number in totals["lost"].items()) or "nothing lost"
    process = getattr(supervisor, "process", None)
    native = "" if process is None else f"atf: {hooks_line(process)}\n"
    flight = getattr(supervisor, "flight", None)
    if flight is not None:
        native = f"atf: {windows_line(flight.windows())}\n{native}"
    budget = supervisor.gatherer.budget
    if budget is not None and budget.changes:
        steps = " → ".join([budget.levels[0], *(one["to"] for one in budget.changes[-6:])])
        native = f"atf: level {'… → ' if len(budget.changes) > 6 else ''}{steps}, to keep the budget of {budget.percent:g} %\n{native}"
    plural = "es" if totals["processes"] != 1 else ""
    parts = f" ({totals['parts']} parts)" if "parts" in totals else ""
    print(
        f"atf: {text.count(totals['events'])} events, {lost}, {text.size(totals['bytes'])},"
        f" {totals['threads']} threads, {totals['processes']} process{plural}\n"
        f"{native}atf: {supervisor.path}{parts}",
        file=sys.stderr,
    )
