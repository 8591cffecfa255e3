"""``atf stat``: what a running recording counts, thread by thread."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from atf.cli import text
from atf.cli.common import duration_ns, print_json
from atf.cli.control import WHICH
from atf.errors import SessionError

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = (">pid", ">thread", "name", ">rate", ">written", ">dropped", ">filtered", ">held", ">bytes", ">rings", ">taken", ">most full")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "stat",
        help="what a running recording counts: written, dropped, filtered, lag",
        description="The numbers of a recording that runs, drawn anew until Ctrl-C or its end; once in a pipe.",
        epilog="written + dropped + filtered + held = produced. docs/metrics.md says what each number is.",
    )
    parser.add_argument("session", nargs="?", metavar="SESSION", help=WHICH)
    parser.add_argument("--once", action="store_true", help="print the numbers once")
    parser.add_argument("--interval", metavar="TIME", type=duration_ns, default=10**9, help="how often they are drawn (default: 1s)")
    parser.add_argument("-n", "--limit", metavar="N", type=int, default=20, help="at most N threads, the busiest first (default: 20)")
    parser.add_argument("--json", action="store_true", help="once, as one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from atf import control

    session = control.find(args.session)
    found = control.ask(session, "stat")
    if args.json:
        print_json(found)
        return 0
    if args.once or not sys.stdout.isatty():
        text.print_fields(fields(found))
        print()
        text.print_table(list(COLUMNS), rows(found, args.limit), "threads")
        return 0
    try:
        watch(session, found, args)
    except KeyboardInterrupt:
        pass
    return 0


def watch(session: dict[str, Any], found: dict[str, Any], args: argparse.Namespace) -> None:
    """Draw the numbers until the recording ends."""
    from rich.live import Live

    from atf import control

    with Live(drawn(found, args.limit), auto_refresh=False, transient=False) as live:
        while True:
            time.sleep(max(args.interval, 50_000_000) / 1e9)
            try:
                found = control.ask(session, "stat")
            except SessionError as ended:
                live.console.print(str(ended), markup=False, highlight=False)
                return
            live.update(drawn(found, args.limit), refresh=True)


def drawn(found: dict[str, Any], limit: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in COLUMNS:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for row in rows(found, limit):
        table.add_row(*(Text(text.clean(str(cell))) for cell in row))
    return Group(*(Text(f"{name:<10} {text.clean(value)}") for name, value in fields(found)), Text(""), table)


def fields(found: dict[str, Any]) -> list[tuple[str, str]]:
    reasons = ", ".join(f"{text.count(count)} {reason}" for reason, count in found["dropped_by"].items())
    lines = [
        ("recording", f"{found['path']} for {found['seconds']:.1f} s, {found['processes']} processes, {len(found['threads'])} threads"),
        ("events", f"{text.count(found['produced'])} produced, {text.count(found['rate'])}/s, {text.size(found['bytes'])}"),
        ("", f"{text.count(found['written'])} written, {text.count(found['dropped'])} dropped{f' ({reasons})' if reasons else ''},"
             f" {text.count(found['filtered'])} filtered, {text.count(found['held'])} held"),
        ("details", f"{text.count(found['details'])} written, {text.count(found['details_dropped'] + found['details_refused'])} dropped,"
                    f" {text.count(found['details_filtered'])} filtered, {text.count(found['details_held'])} held"),
        ("drain", f"lag {text.duration(found['lag_ns'])} (worst {text.duration(found['lag_most_ns'])}), {text.count(found['cycles'])} cycles,"
                  f" {text.count(found['writes'])} writes in {text.duration(found['write_ns'])}, CPU {text.duration(found['cpu_ns'])}"),
    ]  # fmt: skip
    if (budget := found.get("budget")) is not None:
        over = ", over it at the lowest level" if budget["over"] else ""
        said = f"{found['level']} (asked: {budget['asked']}, {budget['changes']} changes); recording costs {budget['costPercent']:.1f} % of a processor"
        lines.insert(1, ("level", f"{said}, budget {budget['percent']:g} %{over}"))
    else:
        lines.insert(1, ("level", found["level"]))
    return lines + ([("disk", found["disk_error"])] if found["disk_error"] else [])


def rows(found: dict[str, Any], limit: int) -> list[tuple[Any, ...]]:
    busiest = sorted(found["threads"], key=lambda t: (t["finished"], -t["rate"], -t["produced"]))[: max(limit, 0)]
    return [
        (
            t["pid"], t["number"], t["name"], text.count(t["rate"]), text.count(t["written"]), text.count(t["dropped"]), text.count(t["filtered"]),
            text.count(t["held"]), text.size(t["bytes"]), text.count(t["swaps"] + t["detail_swaps"]), text.count(t["exhausted"]), t["most_full"],
        )
        for t in busiest
    ]  # fmt: skip
