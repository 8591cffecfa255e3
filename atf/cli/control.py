"""``atf control`` and ``atf snapshot``: another policy, or a window now, for a recording that runs."""

from __future__ import annotations

import argparse
import time
from typing import Any

from atf.cli.common import print_json
from atf.errors import UsageError

WHICH = "a running recording: its session directory, its recorder's pid, or a recorded process's pid (default: the only one)"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("control", help="change the triggers of a running recording, or end it", description="Steer a recording that runs.")
    parser.add_argument("session", nargs="?", metavar="SESSION", help=WHICH)
    parser.add_argument("--trigger", action="append", default=[], metavar="TRIGGER", help="the triggers from now on, instead of those before; repeatable")
    parser.add_argument("--no-triggers", action="store_true", help="no triggers from now on but atf.mark()")
    parser.add_argument("--stop", action="store_true", help="end the recording; the program goes on")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")
    parser.set_defaults(run=run)
    parser = subparsers.add_parser(
        "snapshot",
        help="keep what a running recording has in its history",
        description="Mark this moment: the recording keeps what its pre-roll reaches back to and what comes until its post-roll.",
    )
    parser.add_argument("session", nargs="?", metavar="SESSION", help=WHICH)
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the window is on disk")
    parser.add_argument("--json", action="store_true", help="the window as JSON")
    parser.set_defaults(run=run_snapshot)


def run(args: argparse.Namespace) -> int:
    from atf import control
    from atf.triggers import parse_all

    parse_all(args.trigger)  # wrong ones are told here, with their place
    wanted = bool(args.trigger) + args.no_triggers + args.stop
    if wanted != 1:
        raise UsageError("say one of --trigger, --no-triggers and --stop")
    session = control.find(args.session)
    if args.stop:
        result = control.ask(session, "stop")
    else:
        result = control.ask(session, "triggers", {"triggers": args.trigger})
    if args.json:
        print_json(result)
    elif args.stop:
        print("the recording ended; the program goes on")
    else:
        print(f"policy {result['version']}: {', '.join(result['triggers'])}")
    return 0


def run_snapshot(args: argparse.Namespace) -> int:
    from atf import control

    session = control.find(args.session)
    made = control.ask(session, "snapshot")
    if not args.no_wait:
        until = time.monotonic() + made["postRollSec"] + 30
        while not made["complete"] and time.monotonic() < until:
            time.sleep(min(0.05, max(made["postRollSec"] / 10, 0.002)))
            made = {**made, **control.ask(session, "window", {"atNs": made["markNs"]})}
    if args.json:
        print_json(made)
    else:
        state = "on disk" if made["complete"] else "not whole yet"
        print(f"{made['path']}: {(made['endNs'] - made['startNs']) / 1e9:.3f} s around now, {state}")
    return 0
