"""The command line of atf, one subcommand a module.

A subcommand's module has ``add_parser(subparsers)``, which registers ``run`` by ``set_defaults(run=run)``, and ``run(args) -> int``, the
exit status. Exit statuses: 0 done, 1 one of our errors, 2 wrong usage, 130 interrupted, 141 the reader of our output went away.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from atf import __version__
from atf.errors import AtfError, UsageError

COMMANDS = ("record", "attach", "recover", "info", "top", "tree", "spans", "events", "query", "doctor")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all of our errors do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"atf: {message} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="atf", description="A flight recorder for programs and their tests.")
    parser.add_argument("--version", action="version", version=f"atf {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"atf.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; argv without the program's name, by default the process's. Returns the exit status."""
    try:
        args = make_parser().parse_args(argv)
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except AtfError as error:
        print(f"atf: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit: give it something that can be written to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
