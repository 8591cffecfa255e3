"""Functions that a compiler prepared for tracing: those that call a profiler (``-pg``), or report their entry and exit.

What a call leads to is known from the file alone: the symbol itself, or the slot of the global offset table that the loader fills
for it, reached directly or through a stub of the procedure linkage table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from atf.native.elf import ElfFile, Function, Section

PROFILED, INSTRUMENTED = 8, 16  # flags of a function in the plan
CYG_ROLES = {"__cyg_profile_func_enter": 11, "__cyg_profile_func_exit": 12}
PROFILERS = frozenset({"mcount", "_mcount", "__fentry__"})
HOOKS = PROFILERS | CYG_ROLES.keys() | {"__mcount_internal"}  # never traced themselves: every traced function calls them
_WITHIN = 128  # bytes from a function's start to the end of its call of mcount, at most
_RELOCATION = np.dtype([("place", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_GLOB_DAT, _JUMP_SLOT = 6, 7
_ENDBR = b"\xf3\x0f\x1e\xfa"

Addresses = NDArray[np.int64]


def flags_of(file: ElfFile, functions: list[Function]) -> dict[int, int]:
    """``{vaddr: PROFILED | INSTRUMENTED}`` of the functions that were compiled so; {} for a file that no compiler prepared."""
    slots, own = _slots(file)
    defined = {one.name: one.vaddr for function in functions for one in (function, *_aliases(function)) if one.name in HOOKS}
    names = {name for name, _ in slots} | defined.keys()
    if file.machine != 62 or not names & HOOKS:
        return {}
    found: dict[int, int] = {}
    starts = np.array([one.vaddr for one in functions], np.int64)
    ends = starts + np.array([one.size for one in functions], np.int64)
    for section in file.sections:
        if section.flags & 4 and section.type != 8 and not section.name.startswith(".plt"):
            code = np.frombuffer(file.content(section), np.uint8)
            profiled = _called(file, section, code, PROFILERS, slots, defined)
            for vaddr in _containing(profiled, starts, np.minimum(ends, starts + _WITHIN)):
                found[vaddr] = PROFILED
            entering = _called(file, section, code, {"__cyg_profile_func_enter"}, slots, defined)
            for vaddr in set(_containing(entering, starts, ends)) & set(_named_by_themselves(section, code, starts, ends, own)):
                found[vaddr] = found.get(vaddr, 0) | INSTRUMENTED
    return found


def hook_slots(file: ElfFile) -> list[tuple[str, int]]:
    """(hook's name, vaddr) of the slots by which a file calls what it was compiled to call."""
    return _slots(file)[0]


def _aliases(function: Function) -> list[Function]:
    return [Function(function.vaddr, function.size, name) for name in function.aliases]


def _slots(file: ElfFile) -> tuple[list[tuple[str, int]], dict[int, int]]:
    """(hook's name, slot) of the global offset table, and ``{slot: vaddr}`` of the functions that the file defines itself."""
    hooks: list[tuple[str, int]] = []
    own: dict[int, int] = {}
    for section in file.sections:
        if section.type != 4 or section.link >= len(file.sections):  # RELA
            continue
        table = file.sections[section.link]
        if table.type != 11:  # DYNSYM
            continue
        rows = np.frombuffer(file.data, _RELOCATION, section.size // _RELOCATION.itemsize, section.offset)
        rows = rows[(rows["type"] == _GLOB_DAT) | (rows["type"] == _JUMP_SLOT)]
        texts = file.content(file.sections[table.link])
        for place, symbol in zip(rows["place"].tolist(), rows["symbol"].tolist(), strict=True):
            name_at, _, _, index, value, _ = struct.unpack_from("<IBBHQQ", file.data, table.offset + 24 * symbol)
            name = texts[name_at : texts.find(b"\0", name_at)].decode("utf-8", "replace")
            if name in HOOKS:
                hooks.append((name, place))
            elif index:
                own[place] = value
    return hooks, own


def _displacements(code: NDArray[np.uint8], at: Addresses) -> Addresses:
    """The signed 32-bit numbers that stand at these offsets; at: int64, each at least four bytes before the end."""
    parts = [code[at + i].astype(np.int64) << (8 * i) for i in range(4)]
    value = parts[0] | parts[1] | parts[2] | parts[3]
    return value - ((value >> 31) << 32)


def _find(code: NDArray[np.uint8], length: int, *bytes_: tuple[int, int, int]) -> Addresses:
    """Offsets of instructions of ``length`` bytes with (offset, mask, value) true for each of these."""
    count = len(code) - length + 1
    if count <= 0:
        return np.zeros(0, np.int64)
    good = np.ones(count, bool)
    for offset, mask, value in bytes_:
        good &= (code[offset : offset + count] & mask) == value
    return good.nonzero()[0].astype(np.int64)


def _called(
    file: ElfFile, section: Section, code: NDArray[np.uint8], names: Iterable[str], slots: list[tuple[str, int]], defined: dict[str, int]
) -> Addresses:
    """Addresses of the calls of these hooks in a section."""
    mine = np.array([slot for name, slot in slots if name in names], np.int64)
    targets = np.array([*_stubs(file, set(mine.tolist())), *(defined[name] for name in names if name in defined)], np.int64)
    direct, indirect = _find(code, 5, (0, 0xFF, 0xE8)), _find(code, 6, (0, 0xFF, 0xFF), (1, 0xFF, 0x15))
    direct = direct[np.isin(section.address + direct + 5 + _displacements(code, direct + 1), targets)]
    indirect = indirect[np.isin(section.address + indirect + 6 + _displacements(code, indirect + 2), mine)]
    return np.sort(section.address + np.concatenate([direct, indirect]))


def _stubs(file: ElfFile, slots: set[int]) -> list[int]:
    """Where the stubs that jump through these slots begin."""
    found = []
    for section in file.sections:
        if slots and section.name.startswith(".plt") and section.type != 8:
            content = file.content(section)
            code = np.frombuffer(content, np.uint8)
            jumps = _find(code, 6, (0, 0xFF, 0xFF), (1, 0xFF, 0x25))
            for at, slot in zip(jumps.tolist(), (section.address + jumps + 6 + _displacements(code, jumps + 2)).tolist(), strict=True):
                if slot in slots:
                    begin = at - (content[at - 1 : at] == b"\xf2")  # bnd
                    found.append(section.address + begin - 4 * (content[begin - 4 : begin] == _ENDBR))
    return found


def _containing(places: Addresses, starts: Addresses, ends: Addresses) -> list[int]:
    """The functions in which these addresses lie. starts: sorted."""
    index = np.searchsorted(starts, places, "right") - 1
    inside = (index >= 0) & (places < ends[index])
    return np.unique(starts[index[inside]]).tolist()


def _named_by_themselves(section: Section, code: NDArray[np.uint8], starts: Addresses, ends: Addresses, own: dict[int, int]) -> list[int]:
    """Functions whose code takes their own address, as it is given to __cyg_profile_func_enter.

    One that does not, but has another function inlined, reports that other one only.
    """
    near = _find(code, 7, (0, 0xFB, 0x48), (1, 0xFF, 0x8D), (2, 0xC7, 0x05))  # lea disp(%rip)
    near_to = section.address + near + 7 + _displacements(code, near + 3)
    loaded = _find(code, 7, (0, 0xFB, 0x48), (1, 0xFF, 0x8B), (2, 0xC7, 0x05))  # mov slot(%rip)
    slots = section.address + loaded + 7 + _displacements(code, loaded + 3)
    known = np.isin(slots, np.array(list(own), np.int64))
    loaded, loaded_to = loaded[known], np.array([own[slot] for slot in slots[known].tolist()], np.int64)
    fixed = _find(code, 5, (0, 0xF8, 0xB8))  # mov $address, %r32
    fixed_to = _displacements(code, fixed + 1)
    places = section.address + np.concatenate([near, loaded, fixed])
    index = np.searchsorted(starts, places, "right") - 1
    good = (index >= 0) & (places < ends[index]) & (starts[index] == np.concatenate([near_to, loaded_to, fixed_to]))
    return np.unique(starts[index[good]]).tolist()
