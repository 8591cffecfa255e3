"""Details of native calls: registers and stack as recorded, and the arguments and results that they are where the types are known."""

from __future__ import annotations

import math
import struct
from typing import Any

_REGISTERS = struct.Struct("<Q8QQQQHH")
_BLOCK = struct.Struct("<HH")
_NAMES = {
    1: ("rdi", "rsi", "rdx", "rcx", "r8", "r9", "rbp", "rsp"),
    2: tuple(f"x{n}" for n in range(8)),
}
_RETURN, _X86_64 = 4, 1
_VECTORS, _BACKTRACE, _TEXTS = 1, 2, 3
# Of an architecture: the registers of arguments, those of floats, and those of results.
_ARGUMENTS = {1: (_NAMES[1][:6], tuple(f"xmm{n}" for n in range(8))), 2: (_NAMES[2], tuple(f"d{n}" for n in range(8)))}
_RESULTS = {1: ("rax", "rdx", "xmm0", "xmm1"), 2: ("x0", "x1", "d0", "d1", "d2", "d3")}
_FOLLOWED = 6  # argument registers that may hold texts which are read
# As the recorder of Python has them (_core/vm/secrets.c).
_SECRET = ("password", "passwd", "secret", "token", "api_key", "apikey", "authorization", "credential", "private_key", "cookie", "session_id")


class Natives:
    """What a manifest says of native functions: signatures, and names of addresses that calls return to."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._signatures: dict[int, dict[str, Any]] = {}
        self._names: dict[int, str] = {}
        symbols, places = data.get("symbols"), data.get("return_places")
        for one in symbols if isinstance(symbols, list) else ():
            if isinstance(one, dict) and isinstance(one.get("function_id"), str):
                try:
                    id = int(one["function_id"], 16)
                except ValueError:
                    continue
                self._names[id] = str(one.get("name") or one["function_id"])
                if isinstance(one.get("parameters"), list):
                    self._signatures[id] = one
        self._places: dict[str, Any] = places if isinstance(places, dict) else {}

    def signature(self, function_id: int) -> dict[str, Any] | None:
        return self._signatures.get(function_id)

    def name(self, function_id: int) -> str | None:
        return self._names.get(function_id)

    def place(self, address: int) -> str:
        """``name+0x1f``, or the address."""
        text = f"0x{address:x}"
        found = self._places.get(text)
        return found if isinstance(found, str) else text


def decode(kind: int, payload: Any, arch: int, natives: Natives | None) -> dict[str, Any]:
    """args or value (where argument registers were asked for), registers, lr, fp, sp, stack (bytes behind the return address), backtrace."""
    function_id, *values, lr, fp, sp, stack_bytes, _ = _REGISTERS.unpack_from(payload)
    names = _NAMES.get(arch, tuple(f"r{n}" for n in range(8)))
    if kind == _RETURN and arch == _X86_64:
        names = ("rax", *names[1:])
    registers = dict(zip(names, values, strict=True))
    stack = bytes(payload[_REGISTERS.size : _REGISTERS.size + stack_bytes])
    blocks = _blocks(payload, _REGISTERS.size + stack_bytes)
    found: dict[str, Any] = {}
    if _VECTORS in blocks and arch in _ARGUMENTS:
        vectors = blocks[_VECTORS]
        numbers = (number for (number,) in struct.iter_unpack("<Q", vectors[: len(vectors) // 8 * 8]))
        found = dict(zip(_ARGUMENTS[arch][1], numbers, strict=False))
        registers.update(found)
        signature = natives.signature(function_id) if natives is not None else None
        found = _result(registers, signature, arch) if kind == _RETURN else _arguments(registers, stack, signature, _texts(blocks, arch), arch)
    found.update({"function_id": function_id, "registers": registers, "lr": lr, "fp": fp, "sp": sp, "stack": stack})
    if _BACKTRACE in blocks:
        walk = blocks[_BACKTRACE]
        pairs = struct.iter_unpack("<QQ", walk[: len(walk) // 16 * 16])
        known = natives or Natives({})
        found["backtrace"] = [{"returns_to": known.place(address), "in": known.name(id) if id else None} for address, id in pairs]
    return found


def _blocks(payload: Any, at: int) -> dict[int, bytes]:
    """What stands behind the stack, by its tag; what does not fit is left out."""
    found = {}
    while at + _BLOCK.size <= len(payload):
        tag, size = _BLOCK.unpack_from(payload, at)
        at += _BLOCK.size
        if at + size > len(payload):
            break
        found[tag] = bytes(payload[at : at + size])
        at += size
    return found


def text_register(at: Any) -> int | None:
    """The number of an argument register whose text is read where that is asked for; None for any other place."""
    followed = [names[:_FOLLOWED] for names, _ in _ARGUMENTS.values()]
    return next((names.index(at) for names in followed if at in names), None)


def _texts(blocks: dict[int, bytes], arch: int) -> dict[str, str]:
    """{register: the text that it points to}; one that was cut ends in "…"."""
    integers = _ARGUMENTS[arch][0]
    found, content, at = {}, blocks.get(_TEXTS, b""), 0
    while at + 2 <= len(content):
        number, size = content[at], content[at + 1]
        text = content[at + 2 : at + 2 + (size & 0x7F)]
        if number < len(integers):
            found[integers[number]] = text.decode("utf-8", "replace") + ("…" if size & 0x80 else "")
        at += 2 + (size & 0x7F)
    return found


def _arguments(registers: dict[str, int], stack: bytes, signature: dict[str, Any] | None, texts: dict[str, str], arch: int) -> dict[str, Any]:
    if signature is None:
        integers, vectors = _ARGUMENTS[arch]
        raw = [*integers, *vectors]
        return {"args": {f"arg{n}" if n < len(integers) else name: f"0x{registers.get(name, 0):x}" for n, name in enumerate(raw)}}
    args: dict[str, Any] = {}
    for number, one in enumerate(signature["parameters"]):
        if isinstance(one, dict):
            name = str(one.get("name") or f"arg{number}")
            at = one.get("at")
            known = texts.get(at) if isinstance(at, str) else None
            args[name] = "***" if is_secret(name) else known if known is not None else value(one, registers, stack)
    return {"args": args}


def _result(registers: dict[str, int], signature: dict[str, Any] | None, arch: int) -> dict[str, Any]:
    told = signature.get("returns") if signature is not None else None
    if not isinstance(told, dict):
        return {"value": {name: f"0x{registers.get(name, 0):x}" for name in _RESULTS[arch]}}
    return {"value": value(told, registers, b"")}


def is_secret(name: str) -> bool:
    low = name.lower().replace("-", "_")
    return any(word in low for word in _SECRET)


def value(told: dict[str, Any], registers: dict[str, int], stack: bytes) -> Any:
    """One argument or result. "…": not recorded; pointers and what is no scalar as hexadecimal text; an enumeration's value by its name."""
    at, shown_as = told.get("at"), told.get("as")
    if shown_as == "void":
        return None
    words = [_word(place, registers, stack) for place in (at if isinstance(at, list) else [at])]
    if shown_as == "rest":
        return {str(place): f"0x{word:x}" for place, word in zip(at if isinstance(at, list) else [], words, strict=False) if word is not None}
    if None in words or not words:
        return "…"
    raw = [word for word in words if word is not None]
    if shown_as == "memory":
        return f"at 0x{raw[0]:x}"
    if shown_as == "c64" and len(raw) == 2:  # aarch64: each half in a register of its own
        raw = [raw[0] & 0xFFFFFFFF | (raw[1] & 0xFFFFFFFF) << 32]
    if shown_as in _FLOATS and len(raw) == _FLOATS[shown_as][0]:
        _, layout, packed = _FLOATS[shown_as]
        numbers = struct.unpack_from(layout, struct.pack(packed, *raw))
        return numbers[0] if len(numbers) == 1 else list(numbers)
    if shown_as == "f80" and len(raw) == 2:
        return _extended(*raw)
    if isinstance(shown_as, str) and shown_as[:1] in "iu" and shown_as[1:].isdecimal():
        number = _integer(shown_as, sum(word << 64 * k for k, word in enumerate(raw)))
        names = told.get("names")
        return names.get(str(number), number) if isinstance(names, dict) else number
    if shown_as == "bool":
        return bool(raw[0] & 0xFF)
    return " ".join(f"0x{word:x}" for word in raw)


# How many words, and what they are: a complex number of floats stands in one.
_FLOATS = {"f32": (1, "<f", "<Q"), "f64": (1, "<d", "<Q"), "c64": (1, "<2f", "<Q"), "c128": (2, "<2d", "<2Q")}


def _extended(mantissa: int, rest: int) -> float:
    """A long double of x86, as near as a float comes."""
    exponent, sign = rest & 0x7FFF, -1.0 if rest & 0x8000 else 1.0
    if exponent == 0x7FFF:
        return sign * math.inf if mantissa << 1 & (1 << 64) - 1 == 0 else math.nan
    try:
        return sign * math.ldexp(mantissa, exponent - 16383 - 63)
    except OverflowError:
        return sign * math.inf


def _integer(shown_as: str, raw: int) -> int:
    bits = min(int(shown_as[1:]), 256)
    number = raw & ((1 << bits) - 1)
    return number - (1 << bits) if shown_as[0] == "i" and number >> (bits - 1) & 1 else number


def _word(place: Any, registers: dict[str, int], stack: bytes) -> int | None:
    if not isinstance(place, str):
        return None
    if not place.startswith("stack+"):
        return registers.get(place)
    offset = place.removeprefix("stack+")
    at = int(offset) if offset.isdecimal() else len(stack)
    return int.from_bytes(stack[at : at + 8], "little") if at + 8 <= len(stack) else None
