"""The routes: POST /rpc, / and /mcp, GET /healthz and /metrics; calls run in a bounded number of worker threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atf._core import busguard
from atf.query.context import Context
from atf.query.errors import TOO_LARGE, TOO_MANY_CONNECTIONS, TOO_MANY_REQUESTS, RpcError
from atf.query.live import prometheus
from atf.query.rpc import Reply, Rpc
from atf.query.serve.accesslog import AccessLog
from atf.query.serve.limits import Bucket, Buckets, Gone, Refused, read_body
from atf.query.serve.metrics import Metrics
from atf.query.serve.security import Guard
from atf.query.serve.settings import Settings
from atf.query.traces import Traces

_GRACE_S = 1.0  # beyond the time limit, for a method to notice it by itself
T = TypeVar("T")


class OverTime(Exception):
    """A method did not notice that its time was over."""


@dataclass
class ServedContext(Context):
    """Counts the calls of its client."""

    bucket: Bucket | None = None
    crowded: bool = False

    def one(self, room: int) -> Context:
        if self.crowded:
            raise RpcError(TOO_MANY_CONNECTIONS, {"reason": "too many connections are open", "hint": "use one connection for many requests"})
        if self.bucket is not None and (wait_s := self.bucket.take()):
            raise RpcError(TOO_MANY_REQUESTS, {"reason": "too many calls a second", "retryAfterMs": max(1, round(wait_s * 1000))})
        return super().one(room)


class Service:
    """What the routes share. app: the ASGI application. connections: those that are open, set by whoever has them."""

    def __init__(self, rpc: Rpc, traces: Traces, settings: Settings) -> None:
        self.rpc, self.traces, self.settings = rpc, traces, settings
        self.pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="query")
        self.log = AccessLog(settings.access_log, settings.access_log_json) if settings.access_log else None
        self._buckets = Buckets(settings.rate)
        self._running: dict[int, Context] = {}
        self.connections: Collection[Any] = ()
        self.metrics = Metrics(
            {
                "atf_query_open_traces": ("Traces that are kept open.", lambda: self.traces.open_count),
                "atf_query_connections": ("Connections that are open.", lambda: len(self.connections)),
                "atf_query_running": ("Requests that are worked on.", lambda: len(self._running)),
                "atf_query_page_faults_healed_total": ("Reads of pages that were cut from a trace's file.", busguard.hits),
            }
        )
        routes = [
            Route("/rpc", self.answer, methods=["POST"]),
            Route("/", self.answer, methods=["POST"]),
            Route("/healthz", self.health, methods=["GET"]),
            Route("/metrics", self.told, methods=["GET"]),
        ]
        from atf.query.mcp.route import mcp_route  # which knows this class

        routed = Starlette(routes=[*routes, mcp_route(self)])
        routed.router.redirect_slashes = False
        self.app = Guard(routed, settings, self.refused)

    def context(self, scope: Any) -> ServedContext:
        """A new context for a request of this client."""
        return ServedContext(
            self.traces,
            self.settings.timeout_s,
            self.settings.answer_bytes,
            bucket=self._buckets.of(client_of(scope)) if self.settings.rate else None,
            crowded="atf.crowded" in scope,
        )

    async def perform(self, receive: Any, context: Context, work: Callable[[], T]) -> T:
        """Runs `work` in a worker, whose calls see by `context` when nobody waits any more. Gone, OverTime."""
        working = self.pool.submit(work)
        self._running[id(context)] = context
        working.add_done_callback(lambda _: self._running.pop(id(context), None))
        running = asyncio.wrap_future(working)
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            both: set[asyncio.Future[Any]] = {running, gone}
            await asyncio.wait(both, timeout=context.timeout_s + _GRACE_S, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            raise Gone if gone.done() else OverTime
        finally:
            if not running.done():
                context.cancelled = True
                running.cancel()  # where it still waits for a worker
            gone.cancel()

    async def answer(self, request: Request) -> Response:
        settings = self.settings
        try:
            body = await read_body(request.scope, request.receive, settings.body_bytes, settings.body_timeout_s)
            context = self.context(request.scope)
            try:
                reply = await self.perform(request.receive, context, lambda: self.rpc.answer(body, context))
            except OverTime:
                reason = f"took longer than {settings.timeout_s:g} s"
                reply = self.rpc.refuse(body, TOO_LARGE, {"reason": reason, "hint": "narrow the time window, name functions or threads"})
        except Refused as why:
            self.refused(why.status, request.scope)
            return PlainTextResponse(why.said + "\n", why.status)
        except Gone:
            self.refused(499, request.scope)
            return Response(status_code=499)  # nobody reads it
        self.done(request.scope, reply)
        headers = {"Connection": "close"} if context.crowded else None
        if reply.body is None:
            return Response(status_code=204, headers=headers)
        return Response(reply.body, headers=headers, media_type="application/json")

    def done(self, scope: Any, reply: Reply) -> None:
        self.metrics.done(reply.calls, len(reply.body or b""))
        if self.log:
            self.log.done(client_of(scope), reply)

    def refused(self, status: int, scope: Any) -> None:
        self.metrics.refused(status)
        if self.log:
            self.log.refused(client_of(scope), status)

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def told(self, request: Request) -> Response:
        recordings = await asyncio.get_running_loop().run_in_executor(self.pool, prometheus, self.traces.root)
        return PlainTextResponse(self.metrics.text() + recordings, media_type="text/plain; version=0.0.4")

    def close(self) -> bool:
        """Lets go of everything; False when a worker is still busy."""
        for context in list(self._running.values()):
            context.cancelled = True
        self.pool.shutdown(wait=False, cancel_futures=True)
        if self.log:
            self.log.close()
        return not self._running


def client_of(scope: Any) -> str:
    """The address of a client, or "unix"."""
    client = scope.get("client")
    return str(client[0]) if client and client[0] else "unix"


async def _disconnect(receive: Any) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
