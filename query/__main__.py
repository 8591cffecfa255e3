"""``python -m atf.query``: a server for a directory of traces, or one answer without a server."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from atf.errors import AtfError, UsageError
from atf.query import sql


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atf.query", description="Answers questions about traces over JSON-RPC.")
    parser.add_argument("trace", nargs="?", metavar="TRACE", help="a recording: answer one question and exit")
    parser.add_argument("method", nargs="?", metavar="METHOD", help="e.g. trace.info")
    parser.add_argument("params", nargs="?", metavar="PARAMS", default="{}", help="a JSON object; traceId is filled in")
    parser.add_argument("--trace-root", metavar="DIR", help="serve the traces below DIR")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9090)
    sql.add_options(parser)
    return parser


def one_shot(trace: str, method: str, params: str) -> int:
    import msgspec

    from atf.query.context import Context
    from atf.query.methods import all_methods
    from atf.query.rpc import Rpc
    from atf.query.traces import Traces

    place = Path(trace).resolve()
    try:
        asked: Any = msgspec.json.decode(params)
    except msgspec.DecodeError as why:
        raise UsageError(f"PARAMS is not JSON: {why}") from None
    if isinstance(asked, dict):
        asked.setdefault("traceId", place.name)
    result = Rpc(all_methods()).call(Context(Traces(place.parent)), method, asked)
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    try:
        if args.sql is not None:
            return sql.run(args)
        if args.trace:
            return one_shot(args.trace, args.method or "trace.info", args.params)
        import uvicorn

        from atf.query.app import make_app
        from atf.query.context import Context
        from atf.query.methods import all_methods
        from atf.query.rpc import Rpc
        from atf.query.traces import Traces

        traces = Traces(args.trace_root or ".")
        app = make_app(Rpc(all_methods()), lambda: Context(traces))
        uvicorn.run(app, host=args.host, port=args.port, log_level="warning")
    except AtfError as error:
        print(f"atf: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
