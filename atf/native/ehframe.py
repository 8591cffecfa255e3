"""Where functions begin, from the unwind table (``.eh_frame``): for programs whose symbols were stripped."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_FORMATS = {0x0: "<Q", 0x2: "<H", 0x3: "<I", 0x4: "<Q", 0xA: "<h", 0xB: "<i", 0xC: "<q"}
PCREL = 0x10
_NO_CALLER = b"\x07\x10"  # the return address is undefined: where a program or thread begins
# Frame instructions that move the frame before the first byte ran: such a piece is the rest of another function.
_MOVES = frozenset({0x0C, 0x0D, 0x0E, 0x0F, 0x12, 0x13})


def _uleb(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


class _Common:
    """A CIE: how the pointers of its entries are written, and whether a function can begin under it."""

    def __init__(self, data: bytes, at: int, end: int):
        version = data[at]
        stop = data.index(b"\0", at + 1)
        augmentation = data[at + 1 : stop].decode("ascii", "replace")
        at = stop + 1
        _, at = _uleb(data, at)  # code alignment
        _, at = _uleb(data, at)  # data alignment, signed; only its length counts
        at = at + 1 if version == 1 else _uleb(data, at)[1]
        self.augmented = augmentation.startswith("z")
        self.encoding = 0
        self.signal = "S" in augmentation
        if self.augmented:
            length, at = _uleb(data, at)
            body = at
            for letter in augmentation[1:]:
                if letter == "R":
                    self.encoding = data[body]
                    body += 1
                elif letter == "L":
                    body += 1
                elif letter == "P":
                    size = struct.calcsize(_FORMATS.get(data[body] & 0xF, "<Q"))
                    body += 1 + size
            at += length
        self.begins = b"\x90\x01" + _NO_CALLER not in data[at:end]
        self.format = _FORMATS.get(self.encoding & 0xF)


def entries(data: bytes, address: int) -> Iterator[tuple[int, int]]:
    """``(vaddr, bytes)`` of every entry at which a function can begin. data: the section; address: where it is linked to.

    What is damaged ends the walk: the entries before it stay.
    """
    at, commons = 0, {}
    try:
        while at + 4 <= len(data):
            start = at
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
            if length == 0:
                continue  # a terminator; files joined by the linker may go on behind it
            if length == 0xFFFFFFFF:
                (length,) = struct.unpack_from("<Q", data, at)
                at += 8
            end = at + length
            (pointer,) = struct.unpack_from("<I", data, at)
            if pointer == 0:
                commons[start] = _Common(data, at + 4, end)
            else:
                common = commons.get(at - pointer)
                if common is not None and common.format is not None and not common.signal and common.begins:
                    found = _entry(data, at + 4, end, common, address)
                    if found is not None:
                        yield found
            at = end
    except (struct.error, IndexError, ValueError):
        return


def _entry(data: bytes, at: int, end: int, common: _Common, address: int) -> tuple[int, int] | None:
    size = struct.calcsize(common.format or "<Q")
    (vaddr,) = struct.unpack_from(common.format or "<Q", data, at)
    (length,) = struct.unpack_from({4: "<I", 8: "<Q", 2: "<H"}[size], data, at + size)
    if common.encoding & 0x70 == PCREL:
        vaddr += address + at
    vaddr &= 0xFFFFFFFFFFFFFFFF
    at += 2 * size
    if common.augmented:
        skip, at = _uleb(data, at)
        at += skip
    if not vaddr or not length or (at < end and data[at] in _MOVES) or data[at : at + 2] == _NO_CALLER:
        return None
    return vaddr, length
