"""The HTTP face: one POST route, executed in worker threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atf.query.context import Context
from atf.query.mcp.route import mcp_route
from atf.query.rpc import Rpc


def make_app(rpc: Rpc, new_context: Callable[[], Context]) -> Starlette:
    """An application that answers POST /rpc and /, and GET /healthz."""

    async def answer(request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return PlainTextResponse("send application/json\n", 415)
        body = await request.body()
        reply = await asyncio.to_thread(rpc.answer, body, new_context())
        return Response(status_code=204) if reply.body is None else Response(reply.body, media_type="application/json")

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    routes: list[Any] = [Route("/rpc", answer, methods=["POST"]), Route("/", answer, methods=["POST"]), Route("/healthz", health)]
    routes.append(mcp_route(rpc, new_context))
    return Starlette(routes=routes)
