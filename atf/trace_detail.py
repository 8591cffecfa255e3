"""Turns the payload of a detail into Python values. What cannot be decoded is shown as bytes, never guessed."""

import struct
from typing import Any

from atf._core.layout import DETAIL_TYPES

PYTHON_CALL, PYTHON_RETURN, PYTHON_EXCEPTION, TRACE_EVENT, SIGNAL = 16, 17, 18, 19, 20
_REGISTERS = struct.Struct("<Q8QQQQHH")
_ARGUMENTS = {
    1: ("rdi", "rsi", "rdx", "rcx", "r8", "r9", "rbp", "rsp"),
    2: tuple(f"x{n}" for n in range(8)),
}


def _registers(kind: int, payload: Any, arch: int) -> dict[str, Any]:
    function_id, *values, lr, fp, sp, stack_bytes, _ = _REGISTERS.unpack_from(payload)
    names = _ARGUMENTS.get(arch, tuple(f"r{n}" for n in range(8)))
    if kind == 4 and arch == 1:
        names = ("rax", *names[1:])
    stack = bytes(payload[_REGISTERS.size : _REGISTERS.size + stack_bytes])
    return {"function_id": function_id, "registers": dict(zip(names, values, strict=True)), "lr": lr, "fp": fp, "sp": sp, "stack": stack}


def decode(record: Any, arch: int = 1) -> dict[str, Any]:
    """A DetailRecord as a dict: the values of a Python detail as they were recorded (an object of an unknown type is
    {"~": "module.Class"}, a value that was cut ends in {"…": n}), the registers of a native one, else {"payload": bytes}.
    """
    import msgspec

    try:
        if record.type in (3, 4):
            return _registers(record.type, record.payload, arch)
        if record.type in DETAIL_TYPES:
            value = msgspec.msgpack.decode(record.payload)
            return value if isinstance(value, dict) else {"value": value}
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return {"undecodable": bytes(record.payload)}
    return {"payload": bytes(record.payload)}
