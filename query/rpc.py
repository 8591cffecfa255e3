"""JSON-RPC 2.0: bytes in, bytes out. Knows no trace and no transport.

Rules beyond the specification: an id is a string, a number or null and comes back as it was sent, byte for byte; NaN,
invalid UTF-8, trailing bytes and nesting that is too deep are parse errors; a batch has at most MAX_BATCH members.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from atf.errors import AtfError, UsageError
from atf.query.params import BadParams, bind

MAX_BATCH = 100

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
TRACE_NOT_FOUND, TOO_MANY_REQUESTS, TOO_MANY_CONNECTIONS, TOO_LARGE, TRACE_DAMAGED = -32000, -32001, -32002, -32003, -32004
MESSAGES = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid request",
    METHOD_NOT_FOUND: "Method not found",
    INVALID_PARAMS: "Invalid params",
    INTERNAL_ERROR: "Internal error",
    TRACE_NOT_FOUND: "Trace not found",
    TOO_MANY_REQUESTS: "Too many requests",
    TOO_MANY_CONNECTIONS: "Too many concurrent connections",
    TOO_LARGE: "Query too large",
    TRACE_DAMAGED: "Trace damaged",
}
log = logging.getLogger("atf.query")


class RpcError(AtfError):
    """An answer that is an error: code (one of MESSAGES), and data that says what happened and what to do."""

    def __init__(self, code: int, data: Any = None) -> None:
        message = MESSAGES.get(code, f"Error {code}")
        super().__init__(f"{message}: {data}" if data is not None else message)
        self.code, self.data = code, data


@dataclass(frozen=True)
class Method:
    """params: the Struct that validates the params; result: the type of what `run(context, params)` returns."""

    name: str
    params: type[msgspec.Struct]
    result: Any
    run: Callable[[Any, Any], Any]
    summary: str


@dataclass
class Done:
    """What became of one call, for the access log: code 0 is success; rows: of a listing."""

    method: str
    code: int
    rows: int | None = None


@dataclass
class Reply:
    """body: the bytes to send, None: only notifications. calls: what was done."""

    body: bytes | None
    calls: list[Done] = field(default_factory=list)


def error_body(code: int, data: Any = None, id: bytes = b"null") -> bytes:
    error: dict[str, Any] = {"code": code, "message": MESSAGES[code]}
    if data is not None:
        error["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id, msgspec.json.encode(error))


class Rpc:
    """The methods, and how a request reaches one. `finish` turns a result into bytes (and bounds their number)."""

    def __init__(self, methods: Iterable[Method], finish: Callable[[Any, Any], bytes] | None = None) -> None:
        self.methods: Mapping[str, Method] = {method.name: method for method in methods}
        self._finish = finish or (lambda context, result: msgspec.json.encode(result))

    def call(self, context: Any, name: str, params: Any = None) -> Any:
        """Runs one method. Raises RpcError, and nothing else."""
        method = self.methods.get(name)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, {"method": name, "didYouMean": difflib.get_close_matches(name, list(self.methods), 3)})
        try:
            bound = bind(method.params, params)
        except BadParams as why:
            raise RpcError(INVALID_PARAMS, why.data) from None
        try:
            return method.run(context, bound)
        except RpcError:
            raise
        except UsageError as why:
            raise RpcError(INVALID_PARAMS, {"param": None, "reason": str(why)}) from None
        except AtfError as why:
            raise RpcError(TRACE_DAMAGED, {"reason": str(why)}) from None
        except Exception:
            log.exception("%s failed", name)
            raise RpcError(INTERNAL_ERROR, {"method": name, "hint": "the server's log has more"}) from None

    def answer(self, body: bytes, context: Any) -> Reply:
        """Runs what a request body asks for."""
        try:
            decoded = msgspec.json.decode(body)
            raw: Any = msgspec.json.decode(body, type=list[msgspec.Raw]) if isinstance(decoded, list) else msgspec.Raw(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
            return Reply(error_body(PARSE_ERROR, {"reason": str(why) or "nested too deeply"}), [Done("", PARSE_ERROR)])
        if not isinstance(decoded, list):
            body_out, done = self._one(decoded, raw, context)
            return Reply(body_out, [done])
        if not decoded or len(decoded) > MAX_BATCH:
            reason = f"a batch has 1 to {MAX_BATCH} members, this one {len(decoded)}"
            return Reply(error_body(INVALID_REQUEST, {"reason": reason}), [Done("", INVALID_REQUEST)])
        bodies, calls = [], []
        for member, text in zip(decoded, raw):
            body_out, done = self._one(member, text, context)
            calls.append(done)
            if body_out is not None:
                bodies.append(body_out)
        return Reply(b"[" + b",".join(bodies) + b"]" if bodies else None, calls)

    def _one(self, request: Any, raw: msgspec.Raw, context: Any) -> tuple[bytes | None, Done]:
        id: bytes | None = None
        try:
            if not isinstance(request, dict):
                raise RpcError(INVALID_REQUEST, {"reason": "a request is an object"})
            if "id" in request:
                if isinstance(request["id"], (bool, dict, list)):
                    raise RpcError(INVALID_REQUEST, {"reason": "id is a string, a number or null"})
                id = bytes(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])["id"])
            self._check(request)
            name = request["method"]
        except RpcError as why:
            return error_body(why.code, why.data, id or b"null"), Done("", why.code)
        try:
            result = self.call(context, name, request.get("params"))
            text = self._finish(context, result) if id is not None else b""
        except RpcError as why:
            return None if id is None else error_body(why.code, why.data, id), Done(name if name in self.methods else "", why.code)
        rows = getattr(getattr(result, "metadata", None), "returned_count", None)
        return None if id is None else b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, text), Done(name, 0, rows)

    @staticmethod
    def _check(request: dict[str, Any]) -> None:
        if request.get("jsonrpc") != "2.0":
            raise RpcError(INVALID_REQUEST, {"reason": 'jsonrpc must be "2.0"'})
        if not isinstance(request.get("method"), str):
            raise RpcError(INVALID_REQUEST, {"reason": "method must be a string"})
        if not isinstance(request.get("params", {}), (dict, list)):
            raise RpcError(INVALID_REQUEST, {"reason": "params must be an object or an array"})
        if unknown := set(request) - {"jsonrpc", "method", "params", "id"}:
            raise RpcError(INVALID_REQUEST, {"reason": f"a request has no member {min(unknown)!r}"})
