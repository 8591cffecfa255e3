"""Names as people write them: C++ (by the machine's own libstdc++) and Rust's two manglings."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable
from typing import Any

from atf.native.rust import demangle_v0

_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")
_RUST_LEGACY = re.compile(r"^_?_ZN.*17h[0-9a-f]{16}E")
_ESCAPES = {"$SP$": "@", "$BP$": "*", "$RF$": "&", "$LT$": "<", "$GT$": ">", "$LP$": "(", "$RP$": ")", "$C$": ","}
_CLONE = re.compile(r"\.(?:cold|part|isra|constprop|lto_priv|localalias|llvm|clone)\b.*$")


@functools.cache
def _library() -> Callable[[bytes], bytes | None] | None:
    """The C++ runtime's own demangler; None on a machine without one."""
    for name in ("libstdc++.so.6", "libc++abi.so.1", "libc++.so.1"):
        try:
            return _callable(ctypes.CDLL(name).__cxa_demangle, ctypes.CDLL(None).free)
        except (OSError, AttributeError):
            continue
    return None


def _callable(function: Any, free: Any) -> Callable[[bytes], bytes | None]:
    free.argtypes, free.restype = [ctypes.c_void_p], None
    function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
    function.restype = ctypes.c_void_p

    def call(mangled: bytes) -> bytes | None:
        status = ctypes.c_int()
        text = function(mangled, None, None, ctypes.byref(status))
        if not text:
            return None
        try:
            return ctypes.string_at(text)
        finally:
            free(text)

    return call


def demangle(name: str) -> str:
    """The full name, with parameter types; the name itself when it is not mangled."""
    if name.startswith("_R"):
        return demangle_v0(name) or name
    if not name.startswith(("_Z", "__Z")):
        return name
    library = _library()
    clone = _CLONE.search(name)
    text = library(name[: clone.start()].encode() if clone else name.encode()) if library is not None else None
    if text is None:
        return name
    full = text.decode("utf-8", "replace") + (f" [{clone[0][1:]}]" if clone else "")
    return _rust(full) if _RUST_LEGACY.match(name) else full


def _rust(text: str) -> str:
    text = _RUST_HASH.sub("", text)
    for escape, sign in _ESCAPES.items():
        text = text.replace(escape, sign)
    text = re.sub(r"\$u([0-9a-f]+)\$", lambda match: chr(int(match[1], 16)), text)
    return "::".join(part[1:] if part.startswith("_<") else part for part in text.replace("..", "::").split("::"))


def qualified(full: str) -> str:
    """A demangled name without return type and parameters: ``Shop::add`` of ``int Shop::add(Item const&) const``."""
    depth, start, end, at = 0, 0, len(full), 0
    while at < len(full):
        if full.startswith("operator", at) and (at == 0 or not (full[at - 1].isalnum() or full[at - 1] == "_")):
            at = _past_operator(full, at + 8)
            continue
        sign = full[at]
        if sign == "(" and depth == 0:
            if full.startswith("(anonymous namespace)", at):
                at += len("(anonymous namespace)")
                continue
            if not full.startswith("::", _closing(full, at) + 1):  # else a local name: f(int)::{lambda()#1}
                end = at
                break
            at = _closing(full, at)
        elif sign in "<({[":
            depth += 1
        elif sign in ">)}]":
            depth -= 1
        elif sign == " " and depth == 0 and not full.startswith("[", at + 1):
            start = at + 1
        at += 1
    return full[start:end] or full


def _past_operator(full: str, at: int) -> int:
    """Behind ``operator``'s own sign, which may be brackets; conversion operators keep their type."""
    if full.startswith("()", at):
        return at + 2
    while at < len(full) and full[at] in "<>=!+-*/%^&|~,[]":
        at += 1
    if at < len(full) and full[at] == " ":  # operator new, operator bool
        while at < len(full) and full[at] != "(":
            at += 1
    return at


def _closing(full: str, at: int) -> int:
    depth = 0
    for position in range(at, len(full)):
        depth += (full[position] == "(") - (full[position] == ")")
        if depth == 0:
            return position
    return len(full) - 1
