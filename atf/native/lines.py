"""File and line of functions, from a program's DWARF, by pyelftools; lazily, since most programs have none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from atf._core.errors import AtfError

BUDGET_S = 5.0  # a recording's end does not wait longer than this for lines


class Lines:
    """The line table of one file, or of the separate debug file of the same build."""

    def __init__(self, path: str):
        self.path = path

    def of(self, addresses: Iterable[int]) -> dict[int, tuple[str, int]]:
        """{address: (file, line)} for those functions whose place is known; {} without DWARF or without pyelftools."""
        wanted = sorted(set(addresses))
        try:
            from elftools.common.exceptions import ELFError
            from elftools.elf.elffile import ELFFile
        except ImportError:
            return {}
        found: dict[int, tuple[str, int]] = {}
        try:
            with open(self._with_lines(), "rb") as file:
                elf = ELFFile(file)
                if elf.get_section_by_name(".debug_line") is not None or elf.get_section_by_name(".zdebug_line") is not None:
                    _read(elf.get_dwarf_info(), wanted, found, time.monotonic() + BUDGET_S)
        except (AtfError, OSError, ELFError, ValueError, KeyError, IndexError, AttributeError, AssertionError):
            pass  # lines are an extra: a table that cannot be read leaves names without them
        return found

    def _with_lines(self) -> str:
        from atf.native.elf import ElfFile

        file = ElfFile(self.path)
        separate = None if file.section(".debug_line") else file.debug_file()
        return separate or self.path


def _read(dwarf: Any, wanted: list[int], found: dict[int, tuple[str, int]], until: float) -> None:
    for unit in _units(dwarf, wanted):
        if time.monotonic() > until or len(found) == len(wanted):
            return
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        missing = {address for address in wanted if address not in found}
        directory = _text(unit.get_top_DIE().attributes.get("DW_AT_comp_dir"))
        for entry in program.get_entries():
            state = entry.state
            if state is not None and not state.end_sequence and state.address in missing and state.line:
                missing.discard(state.address)
                found[state.address] = (_file(program, state.file, directory), state.line)


def _units(dwarf: Any, wanted: list[int]) -> Iterable[Any]:
    """The compilation units that hold these addresses; all of them where the file has no table of ranges."""
    ranges = dwarf.get_aranges()
    if ranges is None:
        return dwarf.iter_CUs()
    offsets = {offset for address in wanted if (offset := ranges.cu_offset_at_addr(address)) is not None}
    return (dwarf.get_CU_at(offset) for offset in sorted(offsets))


def _file(program: Any, number: int, directory: str) -> str:
    header = program.header
    entry = header.file_entry[number if header.version >= 5 else number - 1]
    folders = header.include_directory
    if header.version >= 5:
        folder = folders[entry.dir_index].decode("utf-8", "replace") if entry.dir_index < len(folders) else ""
    else:
        folder = folders[entry.dir_index - 1].decode("utf-8", "replace") if entry.dir_index else ""
    return os.path.normpath(os.path.join(directory, folder, entry.name.decode("utf-8", "replace")))


def _text(attribute: Any) -> str:
    value = getattr(attribute, "value", b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
