"""Values of a recorded program as JSON can carry them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def jsonable(value: Any) -> Any:
    """The same value of str, int, float, bool, None, list and dict: what a detail holds can be anything that msgpack carries.

    NaN and infinities become text, keys text, bytes hexadecimal text, numpy numbers and arrays Python's, anything else str(value).
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    return str(value)
