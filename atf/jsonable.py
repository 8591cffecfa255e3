"""Values of a recorded program as JSON can carry them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_DEEPEST = 100


def jsonable(value: Any, room: int = _DEEPEST) -> Any:
    """The same value of str, int, float, bool, None, list and dict: what a detail holds can be anything that msgpack carries.

    NaN and infinities become text, keys text, bytes hexadecimal text, numpy numbers and arrays Python's, extensions of msgpack
    {"ext": type, "data": hexadecimal text}, anything else str(value). What lies deeper than `room` containers becomes "…".
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (Mapping, list, tuple)) and not room:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, room - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item, room - 1) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if hasattr(value, "tolist"):
        return jsonable(value.tolist(), room)
    if hasattr(value, "code") and hasattr(value, "data"):
        return {"ext": value.code, "data": bytes(value.data).hex()}
    return str(value)


def shortened(value: Any, room_bytes: int) -> tuple[Any, bool]:
    """(a jsonable value, or what fits of it into so many bytes of JSON; whether something was left out).

    What was cut looks as it does in a recording: a text ends in "…", a list in {"…": how many there are}, an object has the key "…".
    """
    most, cut = 1 << 16, value
    while len(json.dumps(cut)) > room_bytes and most:
        most //= 4
        cut = _cut(value, most)
    return cut, cut is not value


def _cut(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= most else value[:most] + "…"
    if isinstance(value, list):
        kept = [_cut(item, most) for item in value[:most]]
        return kept if len(value) <= most else [*kept, {"…": len(value)}]
    if isinstance(value, dict):
        kept_items = {_cut(key, most): _cut(value[key], most) for key in list(value)[:most]}
        return kept_items if len(value) <= most else {**kept_items, "…": len(value)}
    return value
