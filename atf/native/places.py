"""The addresses that recorded calls return to, and their names."""

from __future__ import annotations

import bisect
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from atf._core.errors import AtfError
from atf._core.reader import DetailFile
from atf.native.choice import Module
from atf.native.elf import ElfFile

PLACES_MOST = 20000  # more are left as numbers
BUDGET_S = 5.0  # a recording's end does not wait longer than this
_HEAD = struct.Struct("<HH")
_STACK_BYTES_AT, _REGISTERS_BYTES, _BACKTRACE = 96, 100, 2


def returns_of(threads: Iterator[str]) -> set[int]:
    """The addresses in the backtraces of detail files."""
    found: set[int] = set()
    until = time.monotonic() + BUDGET_S
    for path in threads:
        try:
            file = DetailFile(path)
        except AtfError:
            continue
        for number in range(len(file)):
            record = file.record(number)
            if record.type == 3:
                _add(record.payload, found)
            if len(found) > PLACES_MOST or (number % 1024 == 0 and time.monotonic() > until):
                return found
    return found


def _add(payload: Any, found: set[int]) -> None:
    at = _REGISTERS_BYTES + int.from_bytes(payload[_STACK_BYTES_AT : _STACK_BYTES_AT + 2], "little")
    while at + _HEAD.size <= len(payload):
        tag, size = _HEAD.unpack_from(payload, at)
        at += _HEAD.size
        if tag == _BACKTRACE and at + size <= len(payload):
            found.update(struct.unpack_from(f"<{size // 8}Q", payload, at)[::2])
        at += size


def name_places(addresses: set[int], modules: list[tuple[Module, int]], name: Callable[[str], str]) -> dict[str, str]:
    """{"0x…": "function+0x1f"} of the addresses that lie in functions of these modules: (module, load bias)."""
    found: dict[str, str] = {}
    for module, bias in modules:
        inside = [address for address in addresses if 0 <= address - bias < module.size]
        if not inside:
            continue
        try:
            functions = sorted(ElfFile(module.file or module.path).functions(), key=lambda one: one.vaddr)
        except AtfError:
            continue
        starts = [one.vaddr for one in functions]
        for address in inside:
            at = bisect.bisect_right(starts, address - bias - 1) - 1  # the call ends where it returns to
            if at >= 0 and address - bias <= starts[at] + max(functions[at].size, 1):
                found[f"0x{address:x}"] = f"{name(functions[at].name)}+0x{address - bias - starts[at]:x}"
    return found
