"""What a message is answered, in every revision of the protocol that clients speak. Knows no transport but its headers.

Two eras on one endpoint. Revisions up to 2025-11-25 begin with `initialize`; we keep no session, so any request may come
first. From 2026-07-28 on every request carries its revision and the client's capabilities in `_meta`, over HTTP in headers too.
A message belongs to the later era when it says so in `_meta`, in the header, or asks `server/discover`.
"""

from __future__ import annotations

import base64
import difflib
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from atf import __version__
from atf.query.context import Context
from atf.query.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, RpcError, shown
from atf.query.mcp.answers import ask
from atf.query.mcp.schemas import input_schema, output_schema
from atf.query.mcp.tools import INSTRUCTIONS, TOOLS, offered
from atf.query.mcp.wire import HEADER_MISMATCH, UNSUPPORTED_VERSION, Answer, Message, Refusal, parse, result_body
from atf.query.rpc import Done, Rpc, error_body, log

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
BATCHES_IN = "2025-03-26"  # and in no other
PREFIX = "io.modelcontextprotocol/"
CAPABILITIES = {"tools": {"listChanged": False}}
_BARE = b'{"jsonrpc":"2.0","id":null,'
_CACHE = {"ttlMs": 300_000, "cacheScope": "public"}
_HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}

Headers = Mapping[str, str] | None  # by lower-case name; None: a transport that has none
Call = Callable[[], tuple[dict[str, Any], Done]]


class Server:
    """Answers messages with the methods of `rpc`. Keeps nothing between them."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc
        self.info = {"name": "atf", "title": "atf traces", "version": __version__}
        tools = offered(rpc.methods)
        self.tools = {tool.name: tool for tool in tools}
        self.listing = [
            {
                "name": tool.name,
                "title": tool.title,
                "description": tool.description,
                "inputSchema": input_schema(tool, rpc.methods[tool.method]),
                "outputSchema": output_schema(rpc.methods[tool.method]),
                "annotations": {"title": tool.title, **_HINTS},
            }
            for tool in tools
        ]

    def answer(self, body: bytes, context: Context, headers: Headers = None) -> Answer:
        """What a body is answered: one message, or in one revision a batch of them."""
        try:
            found = parse(body)
            if isinstance(found, Message):
                return self.handle(found, context, headers)
            if headers is not None and headers.get("mcp-protocol-version", BATCHES_IN) != BATCHES_IN:
                raise Refusal(INVALID_REQUEST, f"batches are of revision {BATCHES_IN} only")
        except Refusal as why:
            return Answer(why.status, why.body(), [Done("", why.code)])
        answers = [Answer(400, one.body(), [Done("", one.code)]) if isinstance(one, Refusal) else self.handle(one, context, headers) for one in found]
        bodies, calls = [one.body for one in answers if one.body is not None], [call for one in answers for call in one.calls]
        return Answer(200, b"[" + b",".join(bodies) + b"]", calls) if bodies else Answer(202, None, calls)

    def handle(self, message: Message, context: Context, headers: Headers = None) -> Answer:
        """As `answer`, for one message that was parsed."""
        return self._handled(message, headers, lambda: self._called(message, context))

    def refuse(self, body: bytes, code: int, data: Any, headers: Headers = None) -> Answer:
        """The answer to a call that was given up."""
        try:
            found = parse(body)
            if isinstance(found, Message):
                return self._handled(found, headers, lambda: (_failed(code, data), Done("", code)))
        except Refusal:
            pass
        return Answer(200, error_body(code, data), [Done("", code)])

    def _handled(self, message: Message, headers: Headers, call: Call) -> Answer:
        if message.id is None or message.method is None:
            return Answer(202, None)
        modern, started, done = False, time.perf_counter(), Done("", 0)
        try:
            modern = self._is_modern(message, headers)
            if modern and headers is not None:
                _check_names(message, headers)
            result, done = self._modern(message, call) if modern else self._legacy(message, call)
            answer = Answer(200, result_body(message.id, result), [done])
        except Refusal as why:
            status = why.status if modern or why.code in (HEADER_MISMATCH, UNSUPPORTED_VERSION) else 200
            answer = Answer(status, why.body(message.id), [Done("", why.code)])
        except Exception:  # a client over standard input would wait for ever
            log.exception("%s failed", message.method)
            body = Refusal(INTERNAL_ERROR, "the server's log has more").body(message.id)
            answer = Answer(500 if modern else 200, body, [Done("", INTERNAL_ERROR)])
        answer.calls[0].duration_ms = round((time.perf_counter() - started) * 1000, 3)
        return answer

    def _is_modern(self, message: Message, headers: Headers) -> bool:
        claimed = message.meta.get(PREFIX + "protocolVersion")
        header = None if headers is None else headers.get("mcp-protocol-version")
        if claimed is not None and headers is not None and header != claimed:
            raise Refusal(HEADER_MISMATCH, f"MCP-Protocol-Version is {header!r}, _meta says {claimed!r}")
        version = claimed if claimed is not None else header
        if version is not None and version != MODERN and version not in LEGACY:
            raise Refusal(UNSUPPORTED_VERSION, shown(version), {"supported": [MODERN, *LEGACY], "requested": shown(version)})
        return version == MODERN or message.method == "server/discover"

    def _modern(self, message: Message, call: Call) -> tuple[dict[str, Any], Done]:
        if PREFIX + "protocolVersion" not in message.meta or not isinstance(message.meta.get(PREFIX + "clientCapabilities"), dict):
            raise Refusal(INVALID_PARAMS, f"_meta needs {PREFIX}protocolVersion and {PREFIX}clientCapabilities")
        done = Done(str(message.method), 0)
        match message.method:
            case "server/discover":
                found = {"supportedVersions": [MODERN, *LEGACY], "capabilities": CAPABILITIES, "instructions": INSTRUCTIONS, **_CACHE}
            case "tools/list":
                found = {**self._list(message), **_CACHE}
            case "tools/call":
                found, done = call()
            case _:
                raise Refusal(METHOD_NOT_FOUND, shown(message.method), status=404)
        return {"resultType": "complete", **found, "_meta": {PREFIX + "serverInfo": self.info}}, done

    def _legacy(self, message: Message, call: Call) -> tuple[dict[str, Any], Done]:
        done = Done(str(message.method), 0)
        match message.method:
            case "initialize":
                asked = message.params.get("protocolVersion")
                version = asked if asked in LEGACY else LEGACY[0]
                found = {"protocolVersion": version, "capabilities": CAPABILITIES, "serverInfo": self.info, "instructions": INSTRUCTIONS}
                return found, done
            case "ping":
                return {}, done
            case "tools/list":
                return self._list(message), done
            case "tools/call":
                return call()
        raise Refusal(METHOD_NOT_FOUND, shown(message.method))

    def _list(self, message: Message) -> dict[str, Any]:
        if message.params.get("cursor") is not None:
            raise Refusal(INVALID_PARAMS, "the tools are on one page: there is no cursor", status=200)
        return {"tools": self.listing}

    def _called(self, message: Message, context: Context) -> tuple[dict[str, Any], Done]:
        name, arguments = message.params.get("name"), message.params.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, (dict, type(None))):
            raise Refusal(INVALID_PARAMS, "tools/call takes name, a string, and arguments, an object", status=200)
        tool = self.tools.get(name.replace(".", "_"))
        if tool is None:
            near = difflib.get_close_matches(name[:100], list(self.tools), 3)
            raise Refusal(INVALID_PARAMS, f"unknown tool {name!r}", {"known": list(self.tools), "didYouMean": near}, status=200)
        try:
            text, rows = ask(self.rpc, context, tool, arguments or {})
        except RpcError as why:
            return _failed(why.code, why.data), Done(tool.method, why.code)
        content = {"content": [{"type": "text", "text": text.decode()}], "structuredContent": msgspec.Raw(text), "isError": False}
        return content, Done(tool.method, 0, rows)


def _failed(code: int, data: Any) -> dict[str, Any]:
    """A tool's error, for a model to read and to repair: methods are called as the tools are."""
    if isinstance(data, dict) and isinstance(data.get("hint"), str):
        hint = data["hint"]
        for tool in TOOLS:
            hint = hint.replace(tool.method, tool.name)
        data = {**data, "hint": hint}
    error = b"{" + error_body(code, data).removeprefix(_BARE)
    return {"content": [{"type": "text", "text": error.decode()}], "isError": True}


def _check_names(message: Message, headers: Mapping[str, str]) -> None:
    """What a proxy saw in the headers is what the body says."""
    if headers.get("mcp-method") != message.method:
        raise Refusal(HEADER_MISMATCH, f"Mcp-Method is {headers.get('mcp-method')!r}, the method {message.method!r}")
    if message.method == "tools/call":
        name = headers.get("mcp-name")
        if name is not None and name.startswith("=?base64?") and name.endswith("?="):
            try:
                name = base64.b64decode(name[9:-2], validate=True).decode()
            except ValueError:
                raise Refusal(HEADER_MISMATCH, "Mcp-Name is no Base64") from None
        if name != message.params.get("name"):
            raise Refusal(HEADER_MISMATCH, f"Mcp-Name is {name!r}, params.name {message.params.get('name')!r}")
