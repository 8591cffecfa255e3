"""Params as Structs: what every method takes, how it is checked, and errors that a program can repair itself from."""

from __future__ import annotations

import difflib
import typing
from typing import Any

import msgspec

from atf.errors import UsageError


class Params(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The base of all params. Members are camelCase on the wire; snake_case is understood too."""


class Result(msgspec.Struct, kw_only=True, rename="camel"):
    """The base of all results. A member that is UNSET is left out."""


class BadParams(UsageError):
    """data: {param, reason, hint?, didYouMean?}."""

    def __init__(self, param: str | None, reason: str, hint: str | None = None, near: list[str] | None = None) -> None:
        super().__init__(f"{param}: {reason}" if param else reason)
        self.data: dict[str, Any] = {"param": param, "reason": reason}
        if hint:
            self.data["hint"] = hint
        if near:
            self.data["didYouMean"] = near


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def bind(struct: type[msgspec.Struct], params: Any) -> Any:
    """An instance of `struct` from params by name (dict), by position (list), or none. Raises BadParams."""
    fields = msgspec.structs.fields(struct)
    if params is None:
        params = {}
    if isinstance(params, list):
        if len(params) > len(fields):
            raise BadParams(None, f"{len(params)} params by position; there are at most {len(fields)}")
        params = {one.encode_name: value for one, value in zip(fields, params)}
    if not isinstance(params, dict):
        raise BadParams(None, "params must be an object or an array")
    known = _known(struct, params, "")
    for one in fields:
        if one.required and one.encode_name not in known:
            raise BadParams(one.encode_name, "is required")
    try:
        return msgspec.convert(known, struct)
    except msgspec.ValidationError as why:
        reason, _, place = str(why).partition(" - at `$.")
        if not place:
            reason, _, place = str(why).partition(" - at `$")
        raise BadParams(place.rstrip("`") or None, reason) from None


def _known(struct: type[msgspec.Struct], params: dict[str, Any], above: str) -> dict[str, Any]:
    """params with their names as the Struct has them; a name that it does not have is an error."""
    fields = {one.encode_name: one for one in msgspec.structs.fields(struct)}
    result: dict[str, Any] = {}
    for name, value in params.items():
        mine = name if name in fields else camel(name)
        if mine not in fields:
            near = difflib.get_close_matches(mine, list(fields), 3) or difflib.get_close_matches(name.lower(), list(fields), 3)
            raise BadParams(above + name, "there is no such member", f"known: {', '.join(fields)}", near)
        if mine in result:
            raise BadParams(above + name, f"was given twice, as {mine} too")
        inner = _struct_of(fields[mine].type)
        result[mine] = _known(inner, value, f"{above}{mine}.") if inner is not None and isinstance(value, dict) else value
    return result


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    for one in (kind, *typing.get_args(kind)):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None
