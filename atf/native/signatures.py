"""Parameters and results of functions, from a program's DWARF: their names, their types, and where the calling convention of its processor puts them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from atf._core.errors import AtfError
from atf.native import aapcs64, abi
from atf.native.abi import Layout
from atf.native.types import Types

BUDGET_S = 5.0  # a recording's end does not wait longer than this for types
CHANGED = (".isra.", ".constprop.", ".part.")  # copies whose parameters the compiler has changed


class Signatures:
    """What the debug information of one file, or of the separate debug file of the same build, says of its functions."""

    def __init__(self, path: str):
        self.path = path

    def of(self, addresses: Iterable[int]) -> dict[int, dict[str, Any]]:
        """{address: {"parameters": [{name, type, as, at}], "returns": {type, as, at}}} of those that are known; {} without DWARF
        or pyelftools. at: a register, registers, ``stack+N`` (bytes behind the return address), or None: not known."""
        wanted = set(addresses)
        try:
            from elftools.common.exceptions import DWARFError, ELFError
            from elftools.elf.elffile import ELFFile
        except ImportError:
            return {}
        found: dict[int, dict[str, Any]] = {}
        try:
            with open(self._with_types(), "rb") as file:
                elf = ELFFile(file)
                if elf.has_dwarf_info():
                    convention = aapcs64.Places if elf["e_machine"] == "EM_AARCH64" else abi.Places
                    _read(elf.get_dwarf_info(), wanted, found, time.monotonic() + BUDGET_S, convention)
        except (AtfError, OSError, ELFError, DWARFError, ValueError, KeyError, IndexError, AttributeError, AssertionError, RecursionError):
            pass  # types are an extra: debug information that cannot be read leaves registers as they are
        return found

    def _with_types(self) -> str:
        from atf.native.elf import ElfFile

        file = ElfFile(self.path)
        separate = None if file.section(".debug_info") else file.debug_file()
        return separate or self.path


def _read(dwarf: Any, wanted: set[int], found: dict[int, dict[str, Any]], until: float, convention: Any) -> None:
    for unit in _units(dwarf, wanted):
        types = Types(unit)
        for die in _functions(unit.get_top_DIE()):
            if time.monotonic() > until or len(found) == len(wanted):
                return
            for address in _begins(dwarf, unit, die):
                if address in wanted and address not in found:
                    found[address] = _signature(types, die, convention())


def _units(dwarf: Any, wanted: set[int]) -> Iterable[Any]:
    ranges = dwarf.get_aranges()
    if ranges is None:
        return dwarf.iter_CUs()
    offsets = {offset for address in wanted if (offset := ranges.cu_offset_at_addr(address)) is not None}
    return (dwarf.get_CU_at(offset) for offset in sorted(offsets))


def _functions(parent: Any) -> Iterator[Any]:
    for die in parent.iter_children():
        if die.tag == "DW_TAG_subprogram":
            yield die
        elif die.tag == "DW_TAG_namespace":
            yield from _functions(die)


def _begins(dwarf: Any, unit: Any, die: Any) -> list[int]:
    """Where a function's code begins; [] for a declaration."""
    begin = die.attributes.get("DW_AT_low_pc") or die.attributes.get("DW_AT_entry_pc")
    if begin is not None:
        return [begin.value]
    ranges = die.attributes.get("DW_AT_ranges")  # a function in two parts, hot and cold
    if ranges is None:
        return []
    base = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
    entries = dwarf.range_lists().get_range_list_at_offset(ranges.value, unit)
    from_base = base.value if base is not None else 0
    return [entry.begin_offset + (0 if getattr(entry, "is_absolute", False) else from_base) for entry in entries if hasattr(entry, "begin_offset")]


def _signature(types: Types, die: Any, places: Any) -> dict[str, Any]:
    source = types.follow(die, "DW_AT_abstract_origin") or die
    declared = types.follow(source, "DW_AT_specification") or source
    result = types.of(source) if "DW_AT_type" in source.attributes else types.of(declared)
    at = places.returned(result)
    returns = _told(result, at, hidden=(at == "rax" and result.in_memory) or places.points(result))
    parameters = []
    for child in source.iter_children():
        if child.tag == "DW_TAG_unspecified_parameters":
            parameters.append({"name": "…", "type": "…", "as": "rest", "at": places.rest()})
        elif child.tag == "DW_TAG_formal_parameter":
            whole = types.follow(child, "DW_AT_abstract_origin") or child
            layout = types.of(whole)
            name = whole.attributes.get("DW_AT_name")
            text = name.value.decode("utf-8", "replace") if name is not None else f"arg{len(parameters)}"
            parameters.append({"name": text, **_told(layout, places.taken(layout), hidden=places.points(layout))})
    return {"parameters": parameters, "returns": returns}


def _told(layout: Layout, at: str | list[str] | None, hidden: bool = False) -> dict[str, Any]:
    told: dict[str, Any] = {"type": layout.type, "as": "memory" if hidden or layout.by_reference else layout.shown_as, "at": at}
    if layout.names:
        told["names"] = layout.names
    return told
