"""Names of native functions as manifests have them: entries, which of them occur, and where they stand in the source."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from atf.native.choice import Chosen, Module
from atf.native.lines import Lines


def module_entry(module: Module) -> dict[str, Any]:
    return {
        "module_id": module.id,
        "name": module.name,
        "path": module.path,
        "base_address": "0x0",
        "size": module.size,
        "uuid": module.build_id.hex(),
    }


def symbol_entry(module: Module, one: Chosen) -> dict[str, Any]:
    symbol = {
        "function_id": f"0x{module.function_id(one):016x}",
        "module_id": module.id,
        "symbol_index": one.number,
        "name": one.name,
        "address": f"0x{one.vaddr:x}",
    }
    if one.linkage != one.name:
        symbol["linkage_name"] = one.linkage
    return symbol


def name_entries(modules: list[Module]) -> list[tuple[int, int, int, str, str]]:
    """Modules and functions as entries of a names log."""
    names = [(1, module.id, 0, module.name, "") for module in modules]
    return names + [(2, module.function_id(one), 0, one.name, "") for module in modules for one in module.chosen]


def occurring(path: str) -> set[int]:
    """Function ids in the index files of a process."""
    event = np.dtype([("timestamp_ns", "<u8"), ("function_id", "<u8"), ("rest", "<u4", 4)])
    found: set[int] = set()
    for place in os.scandir(path):
        index = os.path.join(place.path, "index.atf")
        if not place.name.startswith("thread_") or not os.path.exists(index):
            continue
        count = (os.path.getsize(index) - 64) // 32
        if count <= 0:
            continue
        events = np.memmap(index, event, "r", 64, (count,))
        for first in range(0, count, 1 << 20):
            found.update(np.unique(events["function_id"][first : first + (1 << 20)]).tolist())
    return found


class Places:
    """Files and lines of functions, looked up once for all processes of a program."""

    def __init__(self) -> None:
        self._known: dict[str, dict[int, tuple[str, int] | None]] = {}

    def fill(self, modules: list[Module], symbols: list[dict[str, Any]]) -> bool:
        """Give symbols of these modules their file and line; whether one got any."""
        changed = False
        for module in modules:
            mine = [symbol for symbol in symbols if symbol["module_id"] == module.id]
            known = self._known.setdefault(module.file, {})
            wanted = [address for symbol in mine if (address := int(symbol["address"], 16)) not in known]
            if wanted:
                known.update(dict.fromkeys(wanted, None))
                known.update(Lines(module.file).of(wanted))
            for symbol in mine:
                place = known[int(symbol["address"], 16)]
                if place is not None and "line" not in symbol:
                    symbol["file"], symbol["line"] = place
                    changed = True
        return changed
