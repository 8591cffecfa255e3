"""``atf info``: what was recorded, by which processes and threads, and what is missing."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from atf.cli import text
from atf.cli.common import add_common, open_named, print_json


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "info", help="processes, threads, time, losses of a recording", description="What was recorded, and what is missing."
    )
    add_common(parser)
    parser.set_defaults(run=run)


def thread_rows(trace: Any) -> list[dict[str, Any]]:
    return [
        {"number": thread.number, "tid": thread.tid, "name": thread.name, "events": len(thread.events), "lost": thread.lost}
        for thread in trace.threads
    ]


def run(args: argparse.Namespace) -> int:
    with open_named(args) as trace:
        info, threads = trace.info, thread_rows(trace)
        if args.json:
            print_json({**info, "threads": threads})
            return 0
        lost = ", ".join(f"{text.count(number)} ({reason})" for reason, number in info["lost"].items() if number)
        fields = [
            ("trace", str(info["path"])),
            ("status", info["status"]),
            ("duration", text.duration(info["duration_ns"])),
            ("events", text.count(info["events"])),
            ("lost", lost or "nothing"),
            ("size", text.size(info["bytes"])),
        ]
        if info.get("recovered"):
            fields.append(("recovered", str(info["recovered"])))
        text.print_fields(fields)
        print()
        text.print_table([">pid", ">parent", "python", "status", ">exit", "command"], map(process_row, info["processes"]), "processes")
        print()
        rows = [(t["number"], t["tid"], t["name"] or "", text.count(t["events"]), text.count(lost_of(t["lost"]))) for t in threads]
        text.print_table([">thread", ">tid", "name", ">events", ">lost"], rows, "threads")
    return 0


def lost_of(lost: Any) -> int:
    return sum(lost.values()) if isinstance(lost, dict) else int(lost or 0)


def process_row(process: dict[str, Any]) -> tuple[Any, ...]:
    argv, python, exit_ = (process.get(key) for key in ("argv", "python", "exit"))
    parent = process.get("parent_pid")
    return (
        process["pid"],
        "" if parent is None else parent,
        python or "",
        process.get("status") or "",
        "" if exit_ is None else exit_,
        shlex.join(map(str, argv)) if isinstance(argv, list) else argv or "",
    )
