"""``atf query``: serve recordings over JSON-RPC, or answer one question about a recording."""

from __future__ import annotations

from typing import Any

from atf.query import commandline


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "query",
        help="serve recordings over JSON-RPC, or answer one question",
        usage=commandline.USAGE,
        description="Serves the recordings below a directory to programs over JSON-RPC, or answers one question without a server.",
        epilog="`atf query TRACE rpc.discover` describes all questions.",
    )
    commandline.add_options(parser)
    parser.set_defaults(run=commandline.run)
