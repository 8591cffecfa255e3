"""Messages of the protocol: JSON-RPC 2.0 with rules of its own. An id is a string or an integer, never null.

The codes from -32020 to -32099 are the protocol's; tools answer their own errors as results, so ours never meet them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from atf.query.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, shown
from atf.query.errors import MESSAGES as RPC_MESSAGES
from atf.query.rpc import MAX_BATCH, Done

HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
MESSAGES = {
    HEADER_MISMATCH: "Header mismatch",
    UNSUPPORTED_VERSION: "Unsupported protocol version",
    **{code: RPC_MESSAGES[code] for code in (PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR)},
}


class Refusal(Exception):
    """A message that gets an error of the protocol. status: of HTTP."""

    def __init__(self, code: int, reason: str, data: Any = None, status: int = 400, id: bytes | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.data, self.status, self.id = code, reason, data, status, id

    def body(self, id: bytes | None = None) -> bytes:
        error = {"code": self.code, "message": f"{MESSAGES[self.code]}: {shown(self.reason, 300)}"}
        if self.data is not None:
            error["data"] = self.data
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id or self.id or b"null", msgspec.json.encode(error))


@dataclass
class Message:
    """One message. id: as it was sent, None: a notification. method: None: an answer of a client, to nothing we asked."""

    id: bytes | None
    method: str | None
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def meta(self) -> dict[str, Any]:
        found = self.params.get("_meta")
        return found if isinstance(found, dict) else {}


@dataclass
class Answer:
    """status: of HTTP. body: None when there is nothing to answer. calls: what was done, for logs and counts."""

    status: int
    body: bytes | None
    calls: list[Done] = field(default_factory=list)


def result_body(id: bytes, result: Any) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, msgspec.json.encode(result))


def parse(body: bytes) -> Message | list[Message | Refusal]:
    """The message in a body, or the members of a batch, each a message or why it is none. Raises Refusal."""
    try:
        decoded = msgspec.json.decode(body)
        raw: Any = msgspec.json.decode(body, type=list[msgspec.Raw]) if isinstance(decoded, list) else msgspec.Raw(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        raise Refusal(PARSE_ERROR, str(why) or "nested too deeply") from None
    if not isinstance(decoded, list):
        return _message(decoded, raw)
    if not 0 < len(decoded) <= MAX_BATCH:
        raise Refusal(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} members")
    members: list[Message | Refusal] = []
    for one, text in zip(decoded, raw):
        try:
            members.append(_message(one, text))
        except Refusal as why:
            members.append(why)
    return members


def _message(value: Any, raw: msgspec.Raw) -> Message:
    if not isinstance(value, dict):
        raise Refusal(INVALID_REQUEST, "a message is an object")
    id: bytes | None = None
    if "id" in value:
        if isinstance(value["id"], bool) or not isinstance(value["id"], (str, int)):
            raise Refusal(INVALID_REQUEST, "id is a string or an integer")
        id = bytes(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])["id"])
    if value.get("jsonrpc") != "2.0":
        raise Refusal(INVALID_REQUEST, 'jsonrpc must be "2.0"', id=id)
    method, params = value.get("method"), value.get("params", {})
    if method is None and ("result" in value or "error" in value):
        return Message(id, None)
    if not isinstance(method, str):
        raise Refusal(INVALID_REQUEST, "method must be a string", id=id)
    if not isinstance(params, dict):
        raise Refusal(INVALID_REQUEST, "params must be an object", id=id)
    return Message(id, method, params)
