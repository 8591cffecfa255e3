"""What every listing shares: pages, cursors, rows or columns, and a bound on the bytes of an answer."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from atf.query.params import BadParams, Result
from atf.query.rpc import INVALID_PARAMS, TOO_LARGE, RpcError

if TYPE_CHECKING:
    from atf.query.context import Context
    from atf.query.traces import View

Shape = Literal["rows", "columns"]
Limit = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
_VERSION = 1


class Metadata(Result):
    """total_count: rows that pass the filters. as_of_ns: the newest event, when the trace is still being recorded.

    problems: what of the trace could not be read, so that the rows do not have it; left out when there is nothing of the kind.
    """

    total_count: int
    returned_count: int
    offset: int | None
    limit: int
    has_more: bool
    execution_time_ms: float
    next_cursor: str | msgspec.UnsetType = msgspec.UNSET
    did_truncate: bool | msgspec.UnsetType = msgspec.UNSET
    growing: bool | msgspec.UnsetType = msgspec.UNSET
    as_of_ns: int | msgspec.UnsetType = msgspec.UNSET
    problems: list[str] | msgspec.UnsetType = msgspec.UNSET


M = TypeVar("M", bound=Metadata)


def query_of(params: msgspec.Struct, *but: str) -> bytes:
    """Eight bytes that stand for what a cursor belongs to: all params but offset, limit, cursor, shape and projection."""
    skip = {"offset", "limit", "cursor", "shape", "projection", *but}
    members = {name: value for name, value in msgspec.to_builtins(params).items() if name not in skip}
    return hashlib.blake2b(msgspec.json.encode(members, order="sorted"), digest_size=8).digest()


def make_cursor(query: bytes, key: Sequence[int]) -> str:
    """An opaque string: the question, and the key of the last row given. Holds no state of a server."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((_VERSION, query, tuple(key)))).decode().rstrip("=")


def read_cursor(cursor: str, query: bytes, length: int) -> tuple[int, ...]:
    """The key in a cursor. BadParams when it is none of ours, or of another question."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, asked, key = msgspec.msgpack.decode(packed, type=tuple[int, bytes, tuple[int, ...]])
    except (ValueError, msgspec.DecodeError, msgspec.ValidationError):
        raise BadParams("cursor", "is not a cursor of this server", "begin without one") from None
    if version != _VERSION or len(key) != length or any(not 0 <= part < 1 << 64 for part in key):
        raise BadParams("cursor", "is not a cursor of this method", "begin without one")
    if asked != query:
        raise BadParams("cursor", "belongs to other filters, another order or another trace", "give the same params as for the page before")
    return key


def columns_of(rows: Sequence[msgspec.Struct]) -> dict[str, list[Any]]:
    """The same values by column: {member: [one value a row]}, null where a row has none."""
    if not rows:
        return {}
    fields = [(one.name, one.encode_name) for one in msgspec.structs.fields(rows[0])]
    found = {wire: [getattr(row, name) for row in rows] for name, wire in fields}
    return {
        wire: [None if v is msgspec.UNSET else v for v in values]
        for wire, values in found.items()
        if any(v is not msgspec.UNSET for v in values)
    }


def fit(rows: Sequence[msgspec.Struct], shape: Shape, room: int) -> tuple[Any, int]:
    """(the rows in their shape as encoded JSON, how many of them): as many from the front as fit into `room` bytes."""
    count = len(rows)
    while True:
        content = msgspec.json.encode(list(rows[:count]) if shape == "rows" else columns_of(rows[:count]))
        if len(content) <= room or not count:
            return msgspec.Raw(content), count
        if count == 1:
            raise _no_room(len(content), room)
        count = max(1, min(count - 1, int(count * room / len(content) * 0.98)))


def _no_room(row_bytes: int, room: int) -> RpcError:
    """Not even one row fits: it is long, or the calls before it in a batch took the room."""
    reason = f"one row takes {row_bytes} bytes; there is room for {max(0, room)}"
    return RpcError(TOO_LARGE, {"reason": reason, "hint": "send fewer calls in a batch, or leave out members in projection"})


def invalid(param: str, reason: str, hint: str | None = None) -> RpcError:
    """-32602 about one param."""
    return RpcError(INVALID_PARAMS, BadParams(param, reason, hint).data)


def fit_columns(build: Callable[[int], Mapping[str, Sequence[Any]]], count: int, shape: Shape, room: int) -> tuple[Any, int]:
    """As `fit`, for rows that are made as columns: `build(n)` gives {member: [one value a row]} of the first n of `count` rows.

    Values that are UNSET are left out of rows, and null in columns. `build` is asked for no more rows than may fit.
    """
    made, wanted = 0, min(count, 1000)
    while True:
        if wanted > made:
            columns, made = build(wanted), wanted
        content = msgspec.json.encode(_shaped(columns, wanted, shape) if count else [] if shape == "rows" else {})
        if len(content) > room:
            if wanted == 1:
                raise _no_room(len(content), room)
            wanted = max(1, min(wanted - 1, int(wanted * room / len(content) * 0.98)))
        elif wanted == count or wanted < made or len(content) > 0.8 * room:
            return msgspec.Raw(content), wanted
        else:
            wanted = min(count, max(wanted + 1, int(wanted * room / len(content) * 0.98)))


def _shaped(columns: Mapping[str, Sequence[Any]], count: int, shape: Shape) -> Any:
    unset = msgspec.UNSET
    sparse = [name for name, values in columns.items() if any(value is unset for value in values)]
    if shape == "columns":
        return {
            name: [None if v is unset else v for v in values[:count]] if name in sparse else values[:count]
            for name, values in columns.items()
        }
    if not columns:
        return [{}] * count
    names = tuple(columns)
    rows = [dict(zip(names, values)) for values in zip(*(values[:count] for values in columns.values()))] if columns else [{}] * count
    for name in sparse:
        for row in rows:
            if row[name] is unset:
                del row[name]
    return rows


def page_metadata(
    kind: type[M], context: Context, view: View, params: Any, total: int, returned: int, more: bool, next_key: Sequence[int], **rest: Any
) -> M:
    """The metadata of a page of `params` (offset, limit, cursor). next_key: of the last row returned. more: rows come after it."""
    result = kind(
        total_count=total,
        returned_count=returned,
        offset=None if params.cursor else params.offset,
        limit=params.limit,
        has_more=more,
        execution_time_ms=context.elapsed_ms,
        **rest,
    )
    if more and returned:
        result.next_cursor = make_cursor(query_of(params), next_key)
    if more and returned < params.limit:
        result.did_truncate = True
    if view.growing:
        result.growing = True
        result.as_of_ns = view.info["time_end_ns"]
    if view.problems:
        result.problems = view.problems
    return result
