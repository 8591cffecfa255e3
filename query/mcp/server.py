"""What a message is answered, in every revision of the protocol that clients speak. Knows no transport but its headers.

Two eras on one endpoint. Revisions up to 2025-11-25 begin with `initialize`; we keep no session, so any request may come
first. From 2026-07-28 on every request carries its revision and the client's capabilities in `_meta`, over HTTP in headers too.
A message belongs to the later era when it says so in `_meta`, in the header, or asks `server/discover`.
"""

from __future__ import annotations

import base64
import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from atf import __version__
from atf.query.context import Context
from atf.query.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, RpcError, shown
from atf.query.mcp.answers import ask
from atf.query.mcp.schemas import input_schema, output_schema
from atf.query.mcp.tools import INSTRUCTIONS, offered
from atf.query.mcp.wire import HEADER_MISMATCH, UNSUPPORTED_VERSION, Message, Refusal, parse, result_body
from atf.query.rpc import Rpc, error_body, log

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
BATCHES_IN = "2025-03-26"  # and in no other
PREFIX = "io.modelcontextprotocol/"
CAPABILITIES = {"tools": {"listChanged": False}}
_BARE = b'{"jsonrpc":"2.0","id":null,'
_CACHE = {"ttlMs": 300_000, "cacheScope": "public"}
_HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}

Headers = Mapping[str, str] | None  # by lower-case name; None: a transport that has none


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

    def answer(self, body: bytes, context: Context, headers: Headers = None) -> tuple[int, bytes | None]:
        """(HTTP status, the body to send): 202 and None when there is nothing to answer."""
        try:
            found = parse(body)
            if isinstance(found, Message):
                return self.handle(found, context, headers)
            if headers is not None and headers.get("mcp-protocol-version", BATCHES_IN) != BATCHES_IN:
                raise Refusal(INVALID_REQUEST, f"batches are of revision {BATCHES_IN} only")
        except Refusal as why:
            return why.status, why.body()
        answers = [one.body() if isinstance(one, Refusal) else self.handle(one, context, headers)[1] for one in found]
        bodies = [one for one in answers if one is not None]
        return (200, b"[" + b",".join(bodies) + b"]") if bodies else (202, None)

    def handle(self, message: Message, context: Context, headers: Headers = None) -> tuple[int, bytes | None]:
        """As `answer`, for one message that was parsed."""
        if message.id is None or message.method is None:
            return 202, None
        modern = False
        try:
            modern = self._is_modern(message, headers)
            if modern and headers is not None:
                _check_names(message, headers)
            return 200, result_body(message.id, self._modern(message, context) if modern else self._legacy(message, context))
        except Refusal as why:
            return why.status if modern or why.code in (HEADER_MISMATCH, UNSUPPORTED_VERSION) else 200, why.body(message.id)
        except Exception:  # a client over standard input would wait for ever
            log.exception("%s failed", message.method)
            return 500 if modern else 200, Refusal(INTERNAL_ERROR, "the server's log has more").body(message.id)

    def _is_modern(self, message: Message, headers: Headers) -> bool:
        claimed = message.meta.get(PREFIX + "protocolVersion")
        header = None if headers is None else headers.get("mcp-protocol-version")
        if claimed is not None and headers is not None and header != claimed:
            raise Refusal(HEADER_MISMATCH, f"MCP-Protocol-Version is {header!r}, _meta says {claimed!r}")
        version = claimed if claimed is not None else header
        if version is not None and version != MODERN and version not in LEGACY:
            raise Refusal(UNSUPPORTED_VERSION, shown(version), {"supported": [MODERN, *LEGACY], "requested": shown(version)})
        return version == MODERN or message.method == "server/discover"

    def _modern(self, message: Message, context: Context) -> dict[str, Any]:
        if PREFIX + "protocolVersion" not in message.meta or not isinstance(message.meta.get(PREFIX + "clientCapabilities"), dict):
            raise Refusal(INVALID_PARAMS, f"_meta needs {PREFIX}protocolVersion and {PREFIX}clientCapabilities")
        match message.method:
            case "server/discover":
                found = {"supportedVersions": [MODERN, *LEGACY], "capabilities": CAPABILITIES, "instructions": INSTRUCTIONS, **_CACHE}
            case "tools/list":
                found = {**self._list(message), **_CACHE}
            case "tools/call":
                found = self._call(message, context)
            case _:
                raise Refusal(METHOD_NOT_FOUND, shown(message.method), status=404)
        return {"resultType": "complete", **found, "_meta": {PREFIX + "serverInfo": self.info}}

    def _legacy(self, message: Message, context: Context) -> dict[str, Any]:
        match message.method:
            case "initialize":
                asked = message.params.get("protocolVersion")
                version = asked if asked in LEGACY else LEGACY[0]
                return {"protocolVersion": version, "capabilities": CAPABILITIES, "serverInfo": self.info, "instructions": INSTRUCTIONS}
            case "ping":
                return {}
            case "tools/list":
                return self._list(message)
            case "tools/call":
                return self._call(message, context)
        raise Refusal(METHOD_NOT_FOUND, shown(message.method))

    def _list(self, message: Message) -> dict[str, Any]:
        if message.params.get("cursor") is not None:
            raise Refusal(INVALID_PARAMS, "the tools are on one page: there is no cursor", status=200)
        return {"tools": self.listing}

    def _call(self, message: Message, context: Context) -> dict[str, Any]:
        name, arguments = message.params.get("name"), message.params.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, (dict, type(None))):
            raise Refusal(INVALID_PARAMS, "tools/call takes name, a string, and arguments, an object", status=200)
        tool = self.tools.get(name.replace(".", "_"))
        if tool is None:
            near = difflib.get_close_matches(name[:100], list(self.tools), 3)
            raise Refusal(INVALID_PARAMS, f"unknown tool {name!r}", {"known": list(self.tools), "didYouMean": near}, status=200)
        try:
            text = ask(self.rpc, context, tool, arguments or {})
        except RpcError as why:
            error = b"{" + error_body(why.code, why.data).removeprefix(_BARE)
            return {"content": [{"type": "text", "text": error.decode()}], "isError": True}
        return {"content": [{"type": "text", "text": text.decode()}], "structuredContent": msgspec.Raw(text), "isError": False}


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
