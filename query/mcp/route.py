"""POST /mcp: streamable HTTP without streams. Every answer is one JSON object, and no session is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atf.query.context import Context
from atf.query.mcp.server import Server
from atf.query.rpc import Rpc


def mcp_route(rpc: Rpc, new_context: Callable[[], Context]) -> Route:
    """The route. What guards /rpc (Host, Origin, token, sizes, rates) stands before it."""
    server = Server(rpc)

    async def answer(request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return PlainTextResponse("send application/json\n", 415)
        body = await request.body()
        headers = {name: request.headers[name] for name in ("mcp-protocol-version", "mcp-method", "mcp-name") if name in request.headers}
        status, reply = await asyncio.to_thread(server.answer, body, new_context(), headers)
        return Response(status_code=status) if reply is None else Response(reply, status, media_type="application/json")

    return Route("/mcp", answer, methods=["POST"])
