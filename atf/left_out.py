"""Which names a recording's filters and level left out: of these a trace cannot say that they were not called.

A process's manifest says what it recorded: level, and filters {"include": […], "exclude": […], "python": true}, globs on names of
modules, where a plain name stands for the module and all below it. One without that key recorded everything, as far as known.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atf.trace_files import Process

_COMPILED = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType)
_WILD = re.compile(r"[*?[]")
_SAID = 4  # filters that a message names
# What runs a test is never meant by a name without a module.
_HARNESS = ("_pytest", "pytest", "pluggy", "xdist", "execnet", "atf")


def left_out(process: Process, pattern: str, found: bool) -> str | None:
    """Why functions that a pattern means may not have been recorded in a process, as a sentence; None: they were.

    found: whether the trace has functions of that name; then a plain name means these.
    """
    data = process.manifest.data
    level = str(data.get("level") or "").split(",")
    filters = data.get("filters")
    filters = filters if isinstance(filters, dict) else {}
    include, exclude = (_texts(filters.get(key)) for key in ("include", "exclude"))
    plain = not _WILD.search(pattern)
    if found and plain:
        return None
    if filters.get("python") is False:
        return None if found else "only spans and events of the program's own were recorded (python=False)"
    modules = list(modules_of(pattern))
    anywhere = not modules or _WILD.match(modules[0]) is not None
    if anywhere:
        exclude = [one for one in exclude if one.partition(".")[0].rstrip("*") not in _HARNESS]
        if found or not (include or exclude):
            return None
        said = _said(include, exclude)
        return f"it was recorded with {said}, and {pattern!r} may be the name of a function left out: write its module too, as in 'shop.tax.rate'"
    for one in exclude:
        if overlap(pattern, f"{one}.*"):
            return f"the recording's filters left out {one!r} (exclude): let it be recorded to ask about it"
    if include and pattern not in include and not any(_within(module, one) for module in modules for one in include):
        return f"the recording's filters left it out ({_said(include, [])}): include it too to ask about it"
    if not found and "c" not in level and data.get("level") is not None and is_compiled(pattern):
        return f"it is a function written in C, and the level was {data['level']!r}: record with level='c' (or 'c,args')"
    return None


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _said(include: list[str], exclude: list[str]) -> str:
    said = []
    for name, globs in (("include", include), ("exclude", exclude)):
        if globs:
            more = f", … ({len(globs)})" if len(globs) > _SAID else ""
            said.append(f"{name} {', '.join(map(repr, globs[:_SAID]))}{more}")
    return " and ".join(said)


def modules_of(pattern: str) -> Iterator[str]:
    """What could be the name, or pattern, of the module: everything before one of its dots."""
    parts = re.sub(r"\[[^]]*\]", "?", pattern).split(".")  # no dot in brackets is one between names
    for end in range(1, len(parts)):
        yield ".".join(parts[:end])


def _within(module: str, glob: str) -> bool:
    """Whether all that the pattern `module` means passes an include glob: a star in it is taken as a letter that only a star fits."""
    return fnmatchcase(module, glob) or (not _WILD.search(glob) and module.startswith(f"{glob}."))


def _elements(pattern: str) -> list[tuple[bool, str]]:
    """[(is a star, what one character must fit)]."""
    return [(part == "*", part) for part in re.findall(r"\[!?\]?[^]]*\]|.", pattern, re.S)]


def _meet(one: str, other: str) -> bool:
    """Whether some character fits both elements."""
    if one == "?" or other == "?":
        return True
    if len(one) == 1 and len(other) == 1:
        return one == other
    characters = map(chr, range(32, 127)) if len(one) > 1 and len(other) > 1 else [min(one, other, key=len)]
    return any(fnmatchcase(c, one) and fnmatchcase(c, other) for c in characters)


def overlap(one: str, other: str) -> bool:
    """Whether some text fits both patterns."""
    heads = [pattern[: match.start()] if (match := _WILD.search(pattern)) else pattern for pattern in (one, other)]
    if not heads[0].startswith(heads[1]) and not heads[1].startswith(heads[0]):
        return False  # soon, since there may be hundreds of filters
    a, b = _elements(one), _elements(other)
    reached = {(0, 0)}
    pending = [(0, 0)]
    while pending:
        i, j = pending.pop()
        if i == len(a) and j == len(b):
            return True
        steps = []
        if i < len(a) and a[i][0]:
            steps += [(i + 1, j), *([(i, j + 1)] if j < len(b) else [])]
        if j < len(b) and b[j][0]:
            steps += [(i, j + 1), *([(i + 1, j)] if i < len(a) else [])]
        if i < len(a) and j < len(b) and not a[i][0] and not b[j][0] and _meet(a[i][1], b[j][1]):
            steps.append((i + 1, j + 1))
        for step in steps:
            if step not in reached:
                reached.add(step)
                pending.append(step)
    return False


@lru_cache(maxsize=256)
def is_compiled(pattern: str) -> bool:
    """Whether a pattern means a function written in C, as far as the modules say that this process has loaded; nothing is imported."""
    parts = pattern.split(".")
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        module = sys.modules.get(name)
        if module is None and name not in sys.builtin_module_names:
            continue
        if _WILD.search(parts[end]):
            file = getattr(module, "__file__", None)
            return (file is None and name in sys.builtin_module_names) or str(file).endswith((".so", ".pyd"))
        found: Any = module
        for part in parts[end:]:
            found = getattr(found, part, None)
        return isinstance(found, _COMPILED)
    return False
