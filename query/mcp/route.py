"""POST /mcp: streamable HTTP without streams. Every answer is one JSON object, and no session is kept."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atf.query.errors import TOO_LARGE
from atf.query.mcp.server import Server
from atf.query.rpc import Reply
from atf.query.serve.app import OverTime, Service
from atf.query.serve.limits import Gone, Refused, read_body

_HEADERS = ("mcp-protocol-version", "mcp-method", "mcp-name")


def mcp_route(service: Service) -> Route:
    """The route: behind the same guard, with the same limits, workers, logs and counts as /rpc."""
    server, settings = Server(service.rpc), service.settings

    async def answer(request: Request) -> Response:
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        try:
            body = await read_body(request.scope, request.receive, settings.body_bytes, settings.body_timeout_s)
            context = service.context(request.scope)
            try:
                found = await service.perform(request.receive, context, lambda: server.answer(body, context, headers))
            except OverTime:
                reason = f"took longer than {settings.timeout_s:g} s"
                data = {"reason": reason, "hint": "narrow the time window, name functions or threads"}
                found = server.refuse(body, TOO_LARGE, data, headers)
        except Refused as why:
            service.refused(why.status, request.scope)
            return PlainTextResponse(why.said + "\n", why.status)
        except Gone:
            service.refused(499, request.scope)
            return Response(status_code=499)  # nobody reads it
        service.done(request.scope, Reply(found.body, found.calls))
        more = {"Connection": "close"} if context.crowded else None
        return Response(found.body, found.status, more, "application/json" if found.body is not None else None)

    return Route("/mcp", answer, methods=["POST"])
