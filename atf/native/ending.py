"""How a recorded program ended: which signal, and what its last thread was doing."""

from __future__ import annotations

import os
import signal
import struct
from typing import Any

CALL, RETURN = 1, 2
_LOOK_BACK = 65536  # records; deeper frames of a stack that old are not told


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_calls(manifest: dict[str, Any], path: str, limit: int = 8) -> tuple[int, list[str]] | None:
    """(tid, names of the calls still open, outermost first) of the thread that recorded last; None without records."""
    newest: tuple[int, str] | None = None
    for place in os.scandir(path):
        index = os.path.join(place.path, "index.atf")
        if place.name.startswith("thread_") and os.path.exists(index):
            records = _tail(index, 1)
            if records and (newest is None or records[-1][0] > newest[0]):
                newest = (records[-1][0], index)
    if newest is None:
        return None
    names = {int(symbol["function_id"], 16): symbol["name"] for symbol in manifest["symbols"]}
    open_calls: list[str] = []
    records = _tail(newest[1], _LOOK_BACK)
    lowest = 1 << 32
    for _, function_id, _, kind, depth, _ in reversed(records):
        if depth < lowest and kind in (CALL, RETURN, 3):
            lowest = depth
            if kind == CALL:
                open_calls.append(names.get(function_id, f"0x{function_id:x}"))
    open_calls.reverse()
    if len(open_calls) > limit:
        open_calls = [*open_calls[:2], "…", *open_calls[-(limit - 2) :]]
    return records[-1][2], open_calls


def _tail(index: str, wanted: int) -> list[tuple[int, ...]]:
    with open(index, "rb") as file:
        footer = struct.unpack("<Q", file.read(64)[40:48])[0]
        size = os.fstat(file.fileno()).st_size
        end = footer if footer > 64 else 64 + (size - 64) // 32 * 32
        first = max(64, end - 32 * wanted)
        file.seek(first)
        return list(struct.iter_unpack("<QQIIII", file.read(end - first)))


def describe(code: int, manifest: dict[str, Any] | None, path: str | None) -> str | None:
    """One line for a program that a signal ended; None for one that ended by itself."""
    if code >= 0:
        return None
    text = f"the program was killed by {signal_name(-code)}"
    found = None if manifest is None or path is None else last_calls(manifest, path)
    if found is not None:
        tid, calls = found
        text += f"; last in thread {tid}: {' > '.join(calls) if calls else 'between two calls'}"
    return text
