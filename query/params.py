"""Params as Structs: what every method takes, how it is checked, and errors that a program can repair itself from."""

from __future__ import annotations

import difflib
import functools
import types
import typing
from typing import Any

import msgspec

from atf.errors import UsageError
from atf.query.errors import shown


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


def near(name: str, known: list[str]) -> list[str]:
    """The names among `known` that may have been meant, the nearest first."""
    if len(name) > 100:
        return []
    return difflib.get_close_matches(name, known, 3) or difflib.get_close_matches(name.lower(), known, 3)


@functools.cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """{name on the wire: what msgspec knows of it, with the type of a Struct inside}, in the order of the positions."""
    return {one.encode_name: (one, _struct_of(one.type)) for one in msgspec.structs.fields(struct)}


def bind(struct: type[msgspec.Struct], params: Any) -> Any:
    """An instance of `struct` from params by name (dict), by position (list), or none. Raises BadParams."""
    fields = fields_of(struct)
    if params is None:
        params = {}
    if isinstance(params, list):
        if len(params) > len(fields):
            raise BadParams(None, f"{len(params)} params by position; there are at most {len(fields)}", f"in this order: {', '.join(fields)}")
        params = dict(zip(fields, params))
    if not isinstance(params, dict):
        raise BadParams(None, "params must be an object or an array")
    known = _known(struct, params, "")
    for name, (one, _) in fields.items():
        if one.required and name not in known:
            raise BadParams(name, "is required")
    try:
        return msgspec.convert(known, struct)
    except msgspec.ValidationError as why:
        reason, _, place = str(why).partition(" - at `$")
        place = place.rstrip("`").lstrip(".")
        choices, said = _choices(struct, known, place)
        if not choices:
            hint = "a list, also of one" if reason.startswith("Expected `array") else None
            raise BadParams(place or None, reason, hint) from None
        close = near(said, choices) if isinstance(said, str) else []
        raise BadParams(place, f"there is no {shown(said)!r}", f"one of: {', '.join(choices)}", close) from None


def _known(struct: type[msgspec.Struct], params: dict[str, Any], above: str) -> dict[str, Any]:
    """params with their names as the Struct has them; a name that it does not have is an error."""
    fields = fields_of(struct)
    result: dict[str, Any] = {}
    for name, value in params.items():
        mine = name if name in fields or len(name) > 100 else camel(name)
        if mine not in fields:
            raise BadParams(above + shown(name), "there is no such member", f"known: {', '.join(fields)}", near(mine, list(fields)))
        if mine in result:
            raise BadParams(above + mine, f"was given twice, as {name} too")
        one, inner = fields[mine]
        if value is None and not one.required and types.NoneType not in _parts(one.type):
            continue  # null says nothing, as an absent member does
        result[mine] = _known(inner, value, f"{above}{mine}.") if inner is not None and isinstance(value, dict) else value
    return result


def _parts(kind: Any) -> list[Any]:
    """The types that a value of this type may have: those of a union, without what annotations add."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _parts(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for one in typing.get_args(kind) for part in _parts(one)]
    return [kind]


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    return next((one for one in _parts(kind) if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)


def _choices(struct: type[msgspec.Struct], value: Any, place: str) -> tuple[list[str], Any]:
    """(the values that a Literal at `place` allows, else []; what was given there)."""
    inside: Any = struct
    for step in place.replace("[", ".[").split("."):
        if step.startswith("["):
            inside = next((typing.get_args(one)[0] for one in _parts(inside) if typing.get_args(one)), None)
            value = value[int(step[1:-1])] if isinstance(value, list) and step[1:-1].isdigit() else None
        else:
            found = _struct_of(inside)
            if found is None or step not in fields_of(found) or not isinstance(value, dict):
                return [], None
            inside, value = fields_of(found)[step][0].type, value.get(step)
    literals = [one for one in _parts(inside) if typing.get_origin(one) is typing.Literal]
    return [str(choice) for one in literals for choice in typing.get_args(one)], value
