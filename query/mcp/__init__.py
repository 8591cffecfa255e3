"""The questions as tools of the Model Context Protocol: for assistants that are pointed at a directory of traces.

    tools.py     which methods are tools, and what is said of them     wire.py    messages: bytes to objects and back
    schemas.py   their schemas, from the Structs                       server.py  what a message is answered, in every revision
    answers.py   an answer within a number of tokens                   route.py, stdio.py  the two transports
"""

from __future__ import annotations

import argparse


def run_command(args: argparse.Namespace) -> int:
    """``python -m atf.query mcp``, with the options of the command line."""
    from atf.query.mcp.stdio import serve

    return serve(args)
