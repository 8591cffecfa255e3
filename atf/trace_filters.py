"""What a filter may be: patterns, numbers and limits, checked before anything is read."""

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import Any

from atf._core.errors import UsageError

LAST_NS = 0xFFFFFFFFFFFFFFFF
DEEPEST = 0xFFFFFFFF


def glob(name: str, pattern: str | None) -> Callable[[str], bool]:
    if pattern is None:
        return lambda text: True
    if not isinstance(pattern, str):
        raise UsageError(f"{name}={pattern!r}: give a name or a pattern like 'json.*' as a string")
    match = re.compile(translate(pattern)).match
    # The name itself counts too: `<lambda>` needs nothing, but `f[int]` is no valid pattern for itself.
    return lambda text: text == pattern or match(text) is not None


def refuse(unknown: dict[str, Any], known: Iterable[str]) -> None:
    if unknown:
        import difflib

        name = next(iter(unknown))
        near = difflib.get_close_matches(name, list(known), 1)
        raise UsageError(f"there is no filter {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"))


def number(name: str, value: Any, default: int, largest: int = LAST_NS) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UsageError(f"{name}={value!r}: give a whole number")
    return min(max(value.__index__(), 0), largest)


def most(value: Any) -> int | None:
    return None if value is None else number("limit", value, 0)
