"""A JSON encoder written as generators that delegate to generators: every piece of text passes up through all levels.

One resume enters every level of the chain again, which makes this the dearest program for whoever records resumes.
"""

from __future__ import annotations

import zlib

FULL, QUICK = 400, 3
CHECKSUMS = {FULL: 1141708922, QUICK: 3200491177}
ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def quoted(text: str) -> str:
    return '"' + "".join(map(escaped, text)) + '"'


def escaped(character: str) -> str:
    return ESCAPES.get(character, character)


def pieces_of(value, level: int):
    if isinstance(value, dict):
        yield from pieces_of_dict(value, level)
    elif isinstance(value, list):
        yield from pieces_of_list(value, level)
    else:
        yield scalar(value)


def scalar(value) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return quoted(value)
    return repr(value)


def pieces_of_list(items: list, level: int):
    if not items:
        yield "[]"
        return
    separator = "["
    for item in items:
        yield separator + newline(level + 1)
        yield from pieces_of(item, level + 1)
        separator = ","
    yield newline(level) + "]"


def pieces_of_dict(mapping: dict, level: int):
    if not mapping:
        yield "{}"
        return
    separator = "{"
    for key in sorted(mapping):
        yield separator + newline(level + 1) + quoted(key) + ": "
        yield from pieces_of(mapping[key], level + 1)
        separator = ","
    yield newline(level) + "}"


def newline(level: int) -> str:
    return "\n" + "  " * level


def document(number: int) -> dict:
    return {
        "id": number,
        "name": f'part "{number}"',
        "flags": [True, False, None],
        "size": {"width": number * 0.5, "height": 2, "depth": {"near": [1, [2, [3, []]]], "far": {}}},
        "tags": [{"k": f"t{i}", "v": [i, i * i]} for i in range(6)],
        "note": "a\tb\nc\\d",
    }


def main(size: int = FULL) -> int:
    """Encodes `size` documents, two levels deep in one list; CRC-32 of the text."""
    checksum = 0
    for piece in pieces_of({"documents": [document(number) for number in range(size)]}, 0):
        checksum = zlib.crc32(piece.encode(), checksum)
    return checksum
