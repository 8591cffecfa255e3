"""An answer within a number of tokens: as much as fits, and a word on what is left and how to get it."""

from __future__ import annotations

from typing import Any

import msgspec

from atf.query.context import Context
from atf.query.errors import INVALID_PARAMS, TOO_LARGE, RpcError
from atf.query.mcp.tools import BYTES_PER_TOKEN, DEFAULT_TOKENS, LEAST_TOKENS, MOST_TOKENS, Tool
from atf.query.pages import Metadata
from atf.query.params import camel
from atf.query.rpc import Rpc

_NOTE_BYTES = 400  # kept free for the note
_MOST_TRIES = 6


def ask(rpc: Rpc, context: Context, tool: Tool, arguments: dict[str, Any]) -> tuple[bytes, int | None]:
    """(the result of a tool as a JSON object of at most `maxTokens`, its rows when it is a listing). Raises RpcError."""
    method = rpc.methods[tool.method]
    names = {one.encode_name for one in msgspec.structs.fields(method.params)}
    params = {name if name in names else camel(name): value for name, value in arguments.items()}
    tokens = params.get("maxTokens", DEFAULT_TOKENS) if "maxTokens" in names else params.pop("maxTokens", DEFAULT_TOKENS)
    if not isinstance(tokens, int) or not LEAST_TOKENS <= tokens <= MOST_TOKENS:
        raise RpcError(INVALID_PARAMS, {"param": "maxTokens", "reason": f"is an integer from {LEAST_TOKENS} to {MOST_TOKENS}"})
    for name, value in tool.defaults.items():
        if name in names and isinstance(value, dict) and isinstance(params.get(name, {}), dict):
            params[name] = {**value, **{key if key in value else camel(key): one for key, one in params.get(name, {}).items()}}
        elif name in names:
            params.setdefault(name, value)
    if "maxTokens" in names:
        params["maxTokens"] = int(tokens * tool.share)
    room = tokens * BYTES_PER_TOKEN - _NOTE_BYTES
    bounded = context.one(room)
    result: Any = None
    for _ in range(_MOST_TRIES):
        try:
            result = rpc.call(bounded, tool.method, params)
        except RpcError as why:
            if why.code != TOO_LARGE or bounded.answer_bytes >= context.answer_bytes:
                raise
            bounded.answer_bytes = context.answer_bytes  # it cannot be that short by itself: then we shorten it
            continue
        text = msgspec.json.encode(result)
        rows = getattr(getattr(result, "metadata", None), "returned_count", None)
        if len(text) <= room or rows is None or rows < 2 or "limit" not in names:
            break
        params["limit"] = max(1, min(rows - 1, int(rows * room / len(text) * 0.9)))  # the method left the bytes to us
    note = _left(result, tool)
    if len(text) > room:
        text, cut = shortened(text, room)
        note = " ".join([*cut, *([note] if note else [])])
    return _noted(text, note), rows


def _left(result: Any, tool: Tool) -> str:
    """What the method itself left out, in words."""
    metadata = getattr(result, "metadata", None)
    if isinstance(metadata, Metadata) and metadata.has_more:
        rest = "narrow the filters"
        if metadata.next_cursor is not msgspec.UNSET:
            rest = f"repeat the call with cursor = metadata.nextCursor for the next, or {rest}"
        return f"{metadata.returned_count} of {metadata.total_count} rows; {rest}"
    if isinstance(metadata, Metadata) and metadata.total_count == 0:
        return tool.empty
    if getattr(metadata, "did_truncate", None) is True:
        return "shortened to fit: ask narrower, or with a larger maxTokens"
    return ""


def _noted(text: bytes, note: str) -> bytes:
    if not note:
        return text
    return b'{"note":%b%b' % (msgspec.json.encode(note[: _NOTE_BYTES - 20]), b"," + text[1:] if text != b"{}" else b"}")


def shortened(text: bytes, room: int) -> tuple[bytes, list[str]]:
    """The JSON object with its largest lists cut at the end until it fits, and what was cut. RpcError when no list can be."""
    value = msgspec.json.decode(text)
    cut: dict[str, tuple[int, int]] = {}
    while len(text) > room:
        found = _largest(value, "")
        if found is None:
            need = len(text) // BYTES_PER_TOKEN + _NOTE_BYTES
            raise RpcError(TOO_LARGE, {"reason": f"the answer takes about {need} tokens", "hint": f"ask with maxTokens {need}, or narrower"})
        size, lists, place = found
        count = len(lists[0])
        keep = max(1, min(count - 1, int(count * (1 - (len(text) - room) / size) * 0.97)))
        for one in lists:
            del one[keep:]
        cut[place] = (keep, cut.get(place, (0, count))[1])
        text = msgspec.json.encode(value)
    return text, [f"{place}: {kept} of {count} shown; a larger maxTokens shows more." for place, (kept, count) in cut.items()]


def _largest(value: Any, place: str) -> tuple[int, list[list[Any]], str] | None:
    """(bytes, the lists to cut alike, their name) of the largest list that has more than one member. Columns are cut alike."""
    found = None
    if isinstance(value, dict):
        columns = list(value.values())
        table = len(columns) > 1 and all(isinstance(one, list) and len(one) == len(columns[0]) for one in columns)
        if table and len(columns[0]) > 1:
            return len(msgspec.json.encode(value)), columns, place
        inside = [_largest(one, f"{place}.{name}".lstrip(".")) for name, one in value.items()]
    elif isinstance(value, list):
        inside = [_largest(one, place) for one in value]
        if len(value) > 1:
            inside.append((len(msgspec.json.encode(value)), [value], place))
    else:
        return None
    for one in inside:
        if one is not None and (found is None or one[0] > found[0]):
            found = one
    return found
