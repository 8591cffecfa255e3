"""Turns the payload of a detail into Python values. What cannot be decoded is shown as bytes, never guessed."""

import struct
from typing import Any

from atf import trace_native
from atf._core.layout import DETAIL_TYPES

NATIVE_CALL, NATIVE_RETURN = 3, 4
PYTHON_CALL, PYTHON_RETURN, PYTHON_EXCEPTION, TRACE_EVENT, SIGNAL = 16, 17, 18, 19, 20


def decode(record: Any, arch: int = 1, natives: trace_native.Natives | None = None) -> dict[str, Any]:
    """A DetailRecord as a dict: the values of a Python detail as they were recorded (an object of an unknown type is
    {"~": "module.Class"}, a value that was cut ends in {"…": n}), args or value and registers of a native one, else {"payload": bytes}.
    """
    import msgspec

    try:
        if record.type in (NATIVE_CALL, NATIVE_RETURN):
            return trace_native.decode(record.type, record.payload, arch, natives)
        if record.type in DETAIL_TYPES:
            value = msgspec.msgpack.decode(record.payload)
            return value if isinstance(value, dict) else {"value": value}
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return {"undecodable": bytes(record.payload)}
    return {"payload": bytes(record.payload)}
