"""A client with the methods of the server, typed: `connect` to a server, or to a directory without one.

    with atf.query.connect("traces") as client:
        for span in client.iter_spans_list(trace_id="session_…", order_by="duration"): ...
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import msgspec

from atf.errors import UsageError
from atf.query.client_methods import RESULTS, ClientMethods
from atf.query.params import camel
from atf.query.rpc import MAX_BATCH, RpcError
from atf.query.transports import Transport, TransportError, http_transport, local_transport

__all__ = ["Client", "RpcError", "TransportError", "connect"]

P = ParamSpec("P")
R = TypeVar("R")


class _Error(msgspec.Struct):
    code: int
    message: str = ""
    data: Any = None


class _Reply(msgspec.Struct):
    id: int | None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Error | msgspec.UnsetType = msgspec.UNSET


class Client(ClientMethods):
    """Methods take params by name, in snake_case, and give Structs. Errors are RpcError (code, data) and TransportError.

    trace_id: what methods take that are given none. May be used by several threads. Close it, or use it with `with`.
    """

    def __init__(self, transport: Transport, trace_id: str | None = None) -> None:
        self._transport = transport
        self.trace_id = trace_id
        self._ids = itertools.count(1)

    def call(self, method: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        """Any method by its name, with params as JSON has them; gives what JSON gives. traceId is not filled in."""
        return self._ask(method, params, Any)

    def batch(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Any]:
        """Up to 100 calls in one request: for each, in order, its result as JSON gives it, or an RpcError (not raised)."""
        if not calls:
            return []
        if len(calls) > MAX_BATCH:
            raise UsageError(f"a batch has at most {MAX_BATCH} calls, these are {len(calls)}")
        ids = [next(self._ids) for _ in calls]
        body = [{"jsonrpc": "2.0", "id": id, "method": name, "params": params} for id, (name, params) in zip(ids, calls)]
        replies = {reply.id: reply for reply in self._decode(self._transport.send(msgspec.json.encode(body)), list[_Reply])}
        try:
            return [_value(replies[id]) for id in ids]
        except KeyError:
            raise TransportError("the answer to a batch lacks members") from None

    def pages(self, method: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        """All pages of a listing, one result after the other: `client.pages(client.spans_list, limit=500)`."""
        while True:
            page = method(*args, **kwargs)
            yield page
            cursor = getattr(getattr(page, "metadata", None), "next_cursor", None)
            if not isinstance(cursor, str):
                return
            kwargs.pop("offset", None)
            kwargs["cursor"] = cursor

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def _typed(self, method: str, given: Mapping[str, Any]) -> Any:
        module, _, name = RESULTS[method].partition(":")
        params = {camel(name): value for name, value in given.items() if value is not None and name != "self"}
        if "trace_id" in given and "traceId" not in params:
            if self.trace_id is None:
                raise UsageError(f"{method} needs a trace_id, here or in connect()")
            params["traceId"] = self.trace_id
        return self._ask(method, params, getattr(import_module(module), name))

    def _rows(self, method: str, member: str, given: Mapping[str, Any]) -> Iterator[Any]:
        params = {name: value for name, value in given.items() if name != "self"}
        for page in self.pages(getattr(self, method.replace(".", "_")), **params):
            yield from getattr(page, member)

    def _ask(self, method: str, params: Any, result: Any) -> Any:
        id = next(self._ids)
        request = {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}
        reply = self._decode(self._transport.send(msgspec.json.encode(request)), _Reply)
        if reply.id not in (id, None):
            raise TransportError(f"the answer is to request {reply.id}, not to {id}")
        value = _value(reply, result)
        if isinstance(value, RpcError):
            raise value
        return value

    @staticmethod
    def _decode(body: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as why:
            raise TransportError(f"the answer is not JSON-RPC: {why}") from None


def _value(reply: _Reply, kind: Any = Any) -> Any:
    """The result, or the RpcError that the reply is."""
    if reply.error is not msgspec.UNSET:
        return RpcError(reply.error.code, reply.error.data)
    if reply.result is msgspec.UNSET:
        raise TransportError("the answer has neither result nor error")
    try:
        return msgspec.json.decode(reply.result, type=kind)
    except msgspec.ValidationError as why:
        raise TransportError(f"the result is not what this version of atf knows: {why}") from None


def connect(
    target: str | os.PathLike[str],
    *,
    trace_id: str | None = None,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    timeout_s: float = 30.0,
) -> Client:
    """A client of what `target` names: http://HOST:PORT, unix:PATH of a socket, a directory of traces, or one trace.

    token, token_file: of a server that asks for one. timeout_s: how long one answer may take. Nothing is sent yet.
    """
    if token_file is not None:
        if token is not None:
            raise UsageError("give token or token_file, not both")
        try:
            token = Path(token_file).read_text().strip()
        except OSError as why:
            raise UsageError(f"the token file cannot be read: {why}") from None
    if isinstance(target, str) and target.startswith(("http://", "https://", "unix:")):
        return Client(http_transport(target, token, timeout_s), trace_id)
    transport, own = local_transport(target, timeout_s)
    return Client(transport, own if trace_id is None else trace_id)
