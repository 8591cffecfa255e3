"""``python -m atf.query``: a server for a directory of traces, or one answer without a server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from atf.errors import AtfError, UsageError
from atf.query.commandline import USAGE, add_options, run


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all of our errors do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"atf: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m atf.query", usage=USAGE, description="Answers questions about recordings, over JSON-RPC.")
    add_options(parser)
    try:
        return run(parser.parse_args(argv))
    except AtfError as error:
        print(f"atf: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    raise SystemExit(main())
