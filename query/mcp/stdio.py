"""``python -m atf.query mcp``: the protocol over standard input and output, a message a line.

Requests run in threads, so that a long one holds up no other and can be cancelled. Nothing but messages reaches the
client: whatever else the process prints goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import msgspec

from atf.query.context import Context
from atf.query.errors import INVALID_REQUEST
from atf.query.mcp.server import Server
from atf.query.mcp.wire import Message, Refusal, parse
from atf.query.rpc import Rpc

MOST_LINE_BYTES = 1 << 20
_WORKERS = 4


class Stdio:
    """Serves until `source` ends; what runs then is still answered."""

    def __init__(self, server: Server, new_context: Callable[[], Context], source: IO[bytes], sink: IO[bytes]) -> None:
        self.server, self.new_context, self.source, self.sink = server, new_context, source, sink
        self._lock = threading.Lock()  # around the sink and _running
        self._running: dict[str | int, Context] = {}  # by id

    def serve(self) -> None:
        with ThreadPoolExecutor(_WORKERS) as pool:
            while line := self.source.readline(MOST_LINE_BYTES + 1):
                if len(line) > MOST_LINE_BYTES:
                    while line and not line.endswith(b"\n"):
                        line = self.source.readline(MOST_LINE_BYTES)
                    self._send(Refusal(INVALID_REQUEST, f"a message has at most {MOST_LINE_BYTES} bytes").body())
                elif line.strip():
                    self._take(line, pool)

    def _take(self, line: bytes, pool: ThreadPoolExecutor) -> None:
        try:
            found = parse(line)
        except Refusal as why:
            self._send(why.body())
            return
        context = self.new_context()
        if isinstance(found, list):
            pool.submit(self._batch, line, context)
        elif found.method == "notifications/cancelled":
            self._cancel(found)
        elif found.id is not None and found.method is not None:
            id = msgspec.json.decode(found.id)
            with self._lock:
                self._running[id] = context
            pool.submit(self._one, found, id, context)

    def _one(self, message: Message, id: str | int, context: Context) -> None:
        body = self.server.handle(message, context).body
        with self._lock:
            if self._running.get(id) is context:
                del self._running[id]
        if body is not None and not context.cancelled:
            self._send(body)

    def _batch(self, line: bytes, context: Context) -> None:
        body = self.server.answer(line, context).body
        if body is not None:
            self._send(body)

    def _cancel(self, message: Message) -> None:
        id = message.params.get("requestId")
        with self._lock:
            context = self._running.get(id) if isinstance(id, (str, int)) else None
        if context is not None:
            context.cancelled = True

    def _send(self, body: bytes) -> None:
        with self._lock:
            try:
                self.sink.write(body + b"\n")
                self.sink.flush()
            except (OSError, ValueError):  # nobody reads any more; the end of the input follows
                pass


def serve(args: argparse.Namespace) -> int:
    """Serves standard input and output until the input ends; the exit status."""
    from atf._core import busguard
    from atf.query.commandline import trace_root
    from atf.query.methods import all_methods
    from atf.query.traces import Traces

    traces = Traces(trace_root(args), args.cache_size, args.cache_ttl)
    busguard.install()
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)
        Stdio(Server(Rpc(all_methods())), lambda: Context(traces, args.timeout, args.max_answer), sys.stdin.buffer, sink).serve()
    return 0
