"""Which arguments are texts: pointers to char that may be followed, by the function's debug information."""

from __future__ import annotations

import re

from atf.native.choice import Module
from atf.native.signatures import CHANGED, Signatures
from atf.trace_native import is_secret, text_register

_TEXT = re.compile(r"((const|volatile) )*char( (const|volatile))* ?\*( (const|volatile|restrict))*")


def texts_of(modules: list[Module]) -> dict[int, int]:
    """{function id: a bit for each argument register that holds a text}. What a parameter's name calls a secret is none."""
    found: dict[int, int] = {}
    for module in modules:
        functions = {one.vaddr: module.function_id(one) for one in module.chosen if not one.role and not any(part in one.linkage for part in CHANGED)}
        for address, signature in Signatures(module.file or module.path).of(functions).items():
            mask = 0
            for one in signature["parameters"]:
                number = text_register(one["at"])
                if number is not None and _TEXT.fullmatch(one["type"]) and not is_secret(one["name"]):
                    mask |= 1 << number
            if mask:
                found[functions[address]] = mask
    return found
