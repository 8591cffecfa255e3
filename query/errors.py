"""The error codes of the contract, and an answer that is an error."""

from __future__ import annotations

from typing import Any

from atf.errors import AtfError

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


class RpcError(AtfError):
    """An answer that is an error: code (one of MESSAGES), and data that says what happened and what to do."""

    def __init__(self, code: int, data: Any = None) -> None:
        message = MESSAGES.get(code, f"Error {code}")
        super().__init__(f"{message}: {data}" if data is not None else message)
        self.code, self.data = code, data


def sentence(error: RpcError) -> str:
    """The error for people: one line, what happened first and then what to do."""
    data = error.data if isinstance(error.data, dict) else {"reason": error.data}
    about = [data.get(name) for name in ("method", "traceId", "param", "reason")]
    said = [": ".join(str(one) for one in (MESSAGES.get(error.code, f"Error {error.code}"), *about) if one)]
    if data.get("hint"):
        said.append(str(data["hint"]))
    if data.get("didYouMean"):
        said.append(f"did you mean {' or '.join(map(str, data['didYouMean']))}?")
    elif error.code == METHOD_NOT_FOUND:
        said.append("rpc.discover describes those that there are")
    return "; ".join(said)


def shown(text: Any, most: int = 200) -> str:
    """What a client sent, for an error: as text, and not longer than needed to recognise it."""
    text = str(text)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
