"""``atf info``: what was recorded, by which processes and threads, and what is missing."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from atf.cli import text
from atf.cli.common import add_common, open_named, print_json

if TYPE_CHECKING:
    from atf.trace import Trace


def add_parser(subparsers: Any) -> None:
    help = "processes, threads, time, losses of a recording"
    parser = subparsers.add_parser("info", help=help, description="What was recorded, and what is missing.")
    add_common(parser)
    parser.add_argument("--not-hooked", action="store_true", help="of native programs: the functions that carried no hook, each with the reason")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with open_named(args) as trace:
        info = trace.info
        if args.not_hooked:
            from atf.cli.hooks import show

            return show(info["path"], args.json)
        if args.json:
            print_json({**info, "threads": threads_json(trace)})
            return 0
        text.print_fields(fields(info))
        print()
        text.print_table([">pid", ">parent", "python", "status", ">exit", "command"], map(process_row, info["processes"]), "processes")
        print()
        columns = [">pid", ">thread", ">tid", "name", ">events", ">lost"]
        rows = [(t.process.pid, t.number, t.tid, t.name, text.count(len(t.events)), text.count(t.lost)) for t in trace.threads]
        text.print_table(columns, rows, "threads")
    return 0


def threads_json(trace: Trace) -> list[dict[str, Any]]:
    return [
        {"pid": t.process.pid, "number": t.number, "tid": t.tid, "name": t.name, "events": len(t.events), "lost": t.lost}
        for t in trace.threads
    ]


def fields(info: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines at the top; what was repaired or could not be read has a line each."""
    lost = ", ".join(f"{text.count(number)} ({reason})" for reason, number in info["lost"].items())
    found = [
        ("trace", info["path"]),
        ("status", info["status"]),
        ("duration", text.duration(info["duration_ns"])),
        ("events", text.count(info["events"])),
        ("lost", lost or "nothing"),
        ("size", text.size(sum(info["files"].values()))),
    ]
    if info["note"]:
        found.append(("note", info["note"]))
    for file in info["recovered"]["files"]:
        reasons = "; ".join(file["reasons"])
        cut = f", {text.count(file['bytes_cut'])} bytes cut" if file["bytes_cut"] else ""
        found.append((file["status"], f"{file['file']}: {text.count(file['records'])} records{cut}{f' ({reasons})' if reasons else ''}"))
    return found + [("problem", problem) for problem in info["recovered"]["problems"]]


def process_row(process: dict[str, Any]) -> tuple[Any, ...]:
    argv = process["argv"]
    command = shlex.join(map(str, argv)) if isinstance(argv, list) else argv or ""
    known = ["" if process[key] is None else process[key] for key in ("parent_pid", "python", "status", "exit")]
    return (process["pid"], *known, command)
