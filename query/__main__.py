"""``python -m atf.query``: a server for a directory of traces, or one answer without a server."""

from __future__ import annotations

from collections.abc import Sequence

from atf.exits import Parser, exit_status
from atf.query.commandline import USAGE, add_options, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m atf.query", usage=USAGE, description="Answers questions about recordings, over JSON-RPC.")
    add_options(parser)
    return exit_status(lambda: run(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
