"""The command line of the query engine, for `python -m atf.query` and `atf query` alike."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from atf.errors import AtfError, UsageError

DEFAULT_ROOT = "atf-traces"
# Words in the place of TRACE that are commands of their own: module:function, called with the parsed arguments.
SUBCOMMANDS = {"mcp": "atf.query.mcp:run_command"}
SQL = "atf.query.sql:run_command"

USAGE = """%(prog)s --trace-root DIR [options]     serve the traces below DIR
       %(prog)s TRACE [METHOD [PARAMS]]        answer one question and exit"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments and options of `run`."""
    parser.add_argument("trace", nargs="?", metavar="TRACE", help="a recording: answer one question about it, without a server")
    parser.add_argument("method", nargs="?", metavar="METHOD", help="the question (default: trace.info)")
    parser.add_argument("params", nargs="?", metavar="PARAMS", default="{}", help="a JSON object; traceId is filled in")
    parser.add_argument("--sql", metavar="QUERY", help="ask TRACE in SQL instead (needs duckdb)")
    parser.add_argument("--json", action="store_true", help="with --sql: print JSON, not a table")
    parser.add_argument("--limit", type=int, default=1000, metavar="ROWS", help="with --sql: at most so many rows (default: %(default)s)")
    serving = parser.add_argument_group("serving")
    serving.add_argument("--trace-root", metavar="DIR", help=f"the directory of the traces (default: ./{DEFAULT_ROOT})")
    serving.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s); another machine's needs a token")
    serving.add_argument("--port", type=int, default=9090, help="0: any that is free (default: %(default)s)")
    serving.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead, which only its owner may use")
    serving.add_argument("--token-file", metavar="FILE", help="clients must send the token in FILE, which is made if missing")
    serving.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a Host that requests may name; repeatable")
    serving.add_argument("--access-log", metavar="FILE", help="a line for each call, -: to standard output")
    serving.add_argument("--access-log-format", choices=("text", "json"), default="text")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--timeout", type=_positive, default=10.0, metavar="S", help="seconds that a request may take (default: 10)")
    limits.add_argument("--max-answer", type=int, default=256 * 1024, metavar="BYTES", help="bytes of an answer (default: 262144)")
    limits.add_argument("--rate", type=_not_negative, default=2000.0, metavar="N", help="calls a second of one client, 0: any (default: 2000)")
    limits.add_argument("--max-connections", type=int, default=256, metavar="N", help="connections at once (default: %(default)s)")
    limits.add_argument("--cache-size", type=int, default=100, metavar="N", help="traces that stay open (default: %(default)s)")
    limits.add_argument("--cache-ttl", type=_not_negative, default=300.0, metavar="S", help="seconds that an unused one does (default: 300)")


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return value


def _positive(text: str) -> float:
    if not (value := _not_negative(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: must be more than 0")
    return value


def run(args: argparse.Namespace) -> int:
    """What was asked for on the command line; the exit status. AtfError."""
    for name, least in (("max_answer", 1024), ("max_connections", 1), ("cache_size", 0)):
        if getattr(args, name) < least:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be {least} or more")
    if args.trace in SUBCOMMANDS:
        return _call(SUBCOMMANDS[args.trace], args)
    if args.sql is not None:
        if not args.trace:
            raise UsageError("--sql: give the TRACE to ask, too")
        return _call(SQL, args)
    return one_shot(args.trace, args.method or "trace.info", args.params, args) if args.trace else serve(args)


def _call(place: str, args: argparse.Namespace) -> int:
    module, _, function = place.partition(":")
    return int(getattr(import_module(module), function)(args))


def trace_root(args: argparse.Namespace) -> str:
    """The directory of --trace-root. UsageError, with what to do, when it is not there."""
    root = args.trace_root or DEFAULT_ROOT
    if not Path(root).is_dir():
        hint = "" if args.trace_root else "; give --trace-root DIR, the directory that recordings were written to"
        what = "is not a directory" if Path(root).exists() else "is not there"
        raise UsageError(f"{root}: {what}{hint or '; `atf record --out DIR` makes one, and the recordings in it'}")
    return str(root)


def one_shot(trace: str, method: str, params: str, args: argparse.Namespace) -> int:
    """Prints the answer to one question as JSON."""
    import msgspec

    from atf.query.context import Context
    from atf.query.errors import RpcError, sentence
    from atf.query.methods import all_methods
    from atf.query.params import fields_of
    from atf.query.rpc import Rpc
    from atf.query.traces import Traces, is_trace
    from atf.trace_files import find_session

    place = Path(trace).resolve()
    if not is_trace(place):
        place = find_session(place)[0]
    try:
        asked: Any = msgspec.json.decode(params)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        raise UsageError(f"PARAMS is not JSON: {why}") from None
    rpc = Rpc(all_methods())
    if isinstance(asked, dict) and method in rpc.methods and "traceId" in fields_of(rpc.methods[method].params):
        asked.setdefault("traceId", place.name)
    context = Context(Traces(place.parent), args.timeout, args.max_answer)
    try:
        result = context.finish(rpc.call(context, method, asked))
    except RpcError as why:
        raise AtfError(sentence(why)) from None
    sys.stdout.buffer.write(msgspec.json.format(result) + b"\n")
    sys.stdout.flush()
    return 0


def serve(args: argparse.Namespace) -> int:
    from atf.query.serve.run import serve
    from atf.query.serve.security import read_token
    from atf.query.serve.settings import Settings

    settings = Settings(
        trace_root=trace_root(args),
        host=args.host,
        port=args.port,
        uds=args.uds,
        token=read_token(args.token_file) if args.token_file else None,
        allowed_hosts=tuple(args.allow_host),
        timeout_s=args.timeout,
        answer_bytes=args.max_answer,
        rate=args.rate,
        max_connections=args.max_connections,
        cache_size=args.cache_size,
        cache_ttl=args.cache_ttl,
        access_log=args.access_log,
        access_log_json=args.access_log_format == "json",
    )
    return serve(settings)
