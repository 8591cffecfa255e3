"""The command line of atf, one subcommand a module.

A subcommand's module has ``add_parser(subparsers)``, which registers ``run`` by ``set_defaults(run=run)``, and ``run(args) -> int``, the
exit status; `atf.exits` says what the statuses mean.
"""

import argparse
import importlib
from collections.abc import Sequence

from atf import __version__
from atf.exits import Parser, exit_status

COMMANDS = ("record", "attach", "recover", "info", "top", "tree", "spans", "events", "diff", "query", "control", "stat", "doctor")


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="atf", description="A flight recorder for programs and their tests.")
    parser.add_argument("--version", action="version", version=f"atf {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"atf.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; argv without the program's name, by default the process's. Returns the exit status."""

    def run() -> int:
        args = make_parser().parse_args(argv)
        return int(args.run(args))

    return exit_status(run)
