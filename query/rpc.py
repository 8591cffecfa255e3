"""JSON-RPC 2.0: bytes in, bytes out. Knows no trace and no transport.

Rules beyond the specification: an id is a string, a number or null of at most MAX_ID_BYTES and comes back as it was sent, byte
for byte; NaN, invalid UTF-8, trailing bytes and nesting that is too deep are parse errors; a batch has at most MAX_BATCH members;
members of a request object that JSON-RPC does not know are ignored; of a member that is given twice the last one counts.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from atf.errors import AtfError, UsageError
from atf.query.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, MESSAGES, METHOD_NOT_FOUND, PARSE_ERROR
from atf.query.errors import TOO_LARGE as TOO_LARGE
from atf.query.errors import TOO_MANY_CONNECTIONS as TOO_MANY_CONNECTIONS
from atf.query.errors import TOO_MANY_REQUESTS as TOO_MANY_REQUESTS
from atf.query.errors import TRACE_DAMAGED as TRACE_DAMAGED
from atf.query.errors import TRACE_NOT_FOUND as TRACE_NOT_FOUND
from atf.query.errors import RpcError as RpcError
from atf.query.errors import shown
from atf.query.params import BadParams, bind

MAX_BATCH = 100
MAX_ID_BYTES = 1024
_MAX_DATA_BYTES = 4096
_BARE_ERROR_BYTES = 128  # an error without data and id, its comma included

log = logging.getLogger("atf.query")


class Run(Protocol):
    def __call__(self, context: Any, params: Any, /) -> Any: ...


@dataclass(frozen=True)
class Method:
    """params: the Struct that validates the params; result: the type of what `run(context, params)` returns."""

    name: str
    params: type[msgspec.Struct]
    result: Any
    run: Run
    summary: str


@dataclass
class Done:
    """What became of one call, for the access log: code 0 is success; rows: of a listing; method: "" unless there is one."""

    method: str
    code: int
    rows: int | None = None
    duration_ms: float = 0.0


@dataclass
class Reply:
    """body: the bytes to send, None: only notifications. calls: what was done."""

    body: bytes | None
    calls: list[Done] = field(default_factory=list)


class Caller:
    """Whom a call is made for; contexts derive from it and bound what is done. This one bounds nothing."""

    answer_bytes = 1 << 62

    def one(self, room: int) -> Caller:
        """The caller for one call of a request body, whose result may take `room` bytes. RpcError: the call may not be made."""
        return self

    def run(self, method: Method, params: Any) -> Any:
        return method.run(self, params)

    def finish(self, result: Any) -> bytes:
        """The result as JSON. RpcError when it is too large."""
        return msgspec.json.encode(result)


class Request(NamedTuple):
    """One member of a body, read. id: its bytes, None: a notification. error: why it cannot be called."""

    id: bytes | None
    method: str = ""
    params: Any = None
    error: RpcError | None = None

    @property
    def silent(self) -> bool:
        """Whether it gets no answer, whatever becomes of it. A request that is none at all is no notification."""
        return self.id is None and (self.error is None or self.error.code != INVALID_REQUEST)


def error_body(code: int, data: Any = None, id: bytes = b"null") -> bytes:
    error: dict[str, Any] = {"code": code, "message": MESSAGES[code]}
    if data is not None:
        try:
            encoded = msgspec.json.encode(data)
        except (TypeError, ValueError):  # of what cannot be said in JSON: half a surrogate pair
            data, encoded = repr(data), b" " * (_MAX_DATA_BYTES + 1)
        error["data"] = data if len(encoded) <= _MAX_DATA_BYTES else {"reason": ascii(data)[: _MAX_DATA_BYTES // 2], "shortened": True}
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id, msgspec.json.encode(error))


class Rpc:
    """The methods, and how a request reaches one."""

    def __init__(self, methods: Iterable[Method]) -> None:
        self.methods: Mapping[str, Method] = {method.name: method for method in methods}

    def call(self, context: Any, name: str, params: Any = None) -> Any:
        """Runs one method. Raises RpcError, and nothing else."""
        method = self.methods.get(name)
        if method is None:
            near = difflib.get_close_matches(name, list(self.methods), 3) if len(name) <= 100 else []
            raise RpcError(METHOD_NOT_FOUND, {"method": shown(name), "didYouMean": near})
        try:
            bound = bind(method.params, params)
        except BadParams as why:
            raise RpcError(INVALID_PARAMS, why.data) from None
        try:
            return (context or Caller()).run(method, bound)
        except RpcError:
            raise
        except BadParams as why:
            raise RpcError(INVALID_PARAMS, why.data) from None
        except UsageError as why:
            raise RpcError(INVALID_PARAMS, {"param": None, "reason": str(why)}) from None
        except AtfError as why:
            raise RpcError(TRACE_DAMAGED, {"reason": str(why)}) from None
        except Exception:
            raise self._failed(name) from None

    @staticmethod
    def _failed(name: str) -> RpcError:
        log.exception("%s failed", name)
        return RpcError(INTERNAL_ERROR, {"method": name, "hint": "the server's log has more"})

    def answer(self, body: bytes, context: Any = None) -> Reply:
        """Runs what a request body asks for; the answer takes at most the context's `answer_bytes`, but for ids."""
        return self._answer(body, lambda request, room: self._one(request, context or Caller(), room), (context or Caller()).answer_bytes)

    def refuse(self, body: bytes, code: int, data: Any) -> Reply:
        """The same error to everything that a request body asks for, under the ids that it has."""
        return self._answer(body, lambda request, room: (error_body(code, data, request.id or b"null"), Done("", code)), 1 << 62)

    def _answer(self, body: bytes, one: Any, room: int) -> Reply:
        try:
            members = _members(body)
            many = len(members) if members is not None else 1
            requests = [_read(member) for member in (members or [msgspec.Raw(body)])] if 0 < many <= MAX_BATCH else []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
            deep = isinstance(why, RecursionError)
            return Reply(error_body(PARSE_ERROR, {"reason": "nested too deeply" if deep else str(why)}), [Done("", PARSE_ERROR)])
        if members is None:
            text, done = one(requests[0], room)
            return Reply(None if requests[0].silent else text, [done])
        if not requests:
            reason = f"a batch has 1 to {MAX_BATCH} members, this one {many}"
            return Reply(error_body(INVALID_REQUEST, {"reason": reason}), [Done("", INVALID_REQUEST)])
        # What is left of the room when each of those that follow gets an error without data.
        kept = sum(_BARE_ERROR_BYTES + len(request.id or b"") for request in requests)
        bodies, calls = [], []
        for request in requests:
            kept -= _BARE_ERROR_BYTES + len(request.id or b"")
            text, done = one(request, room - kept)
            calls.append(done)
            if request.silent:
                continue
            if done.code and len(text) + 1 > room - kept:
                text = error_body(done.code, None, request.id or b"null")
            bodies.append(text)
            room -= len(text) + 1
        return Reply(b"[" + b",".join(bodies) + b"]" if bodies else None, calls)

    def _one(self, request: Request, context: Any, room: int) -> tuple[bytes, Done]:
        """The answer to one request, and what was done. Its bytes are made for notifications too when they failed."""
        id, name = request.id or b"null", request.method
        if request.error:
            return error_body(request.error.code, request.error.data, id), Done("", request.error.code)
        started = time.perf_counter()
        done = Done(name if name in self.methods else "", 0)
        text = b""
        try:
            context = context.one(room - 64 - len(id))
            result = self.call(context, name, request.params)
            if request.id is not None:
                try:
                    text = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, context.finish(result))
                except (TypeError, ValueError, RecursionError):
                    raise self._failed(name) from None
            done.rows = getattr(getattr(result, "metadata", None), "returned_count", None)
        except RpcError as why:
            done.code, text = why.code, error_body(why.code, why.data, id)
        done.duration_ms = round((time.perf_counter() - started) * 1000, 3)
        return text, done


def _members(body: bytes) -> list[msgspec.Raw] | None:
    """The members of a batch, or None: the body is one request. Raises what msgspec does for a body that is not JSON."""
    body.decode()  # what is only stepped over below is not looked into
    if body.lstrip(b" \t\r\n").startswith(b"["):
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    msgspec.json.decode(body, type=msgspec.Raw)
    return None


def _read(member: msgspec.Raw) -> Request:
    """One request, from bytes that are known to be JSON."""
    try:
        said = {name: bytes(raw) for name, raw in msgspec.json.decode(member, type=dict[str, msgspec.Raw]).items()}
    except msgspec.ValidationError:
        return _invalid(None, "a request is an object")
    id = said.get("id")
    if id is not None and (not id.startswith((b'"', b"-", b"n")) and not id[:1].isdigit()):
        return _invalid(None, "id is a string, a number or null")
    if id is not None and len(id) > MAX_ID_BYTES:
        return _invalid(None, f"id is longer than {MAX_ID_BYTES} bytes")
    if not said.get("jsonrpc", b"").startswith(b'"') or _value(said["jsonrpc"]) != "2.0":
        return _invalid(id, 'jsonrpc must be "2.0"')
    if not said.get("method", b"").startswith(b'"'):
        return _invalid(id, "method must be a string")
    name = _value(said["method"])
    try:
        params = _value(said.get("params"))
    except msgspec.ValidationError as why:  # a number that no float can hold
        return Request(id, error=RpcError(INVALID_PARAMS, {"param": None, "reason": str(why)}))
    if "params" in said and not isinstance(params, (dict, list)):
        return _invalid(id, "params must be an object or an array")
    return Request(id, name, params)


def _value(text: bytes | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _invalid(id: bytes | None, reason: str) -> Request:
    return Request(id, error=RpcError(INVALID_REQUEST, {"reason": reason}))
