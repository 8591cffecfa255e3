"""A window's shape against a baseline: a text file, or another recording."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from atf._core.errors import FormatError, OutputError, TraceIncomplete, UsageError
from atf.shapes import FIRST_WORDS, Item, Shape, read_shape, shape_of
from atf.trace_filters import glob

if TYPE_CHECKING:
    from atf.windows import Window

UPDATE = "ATF_UPDATE"
_SHOWN = 40
_NEAR = 200


def same_shape(window: Window, path: str | os.PathLike[str], ignore: Iterable[str], update: bool | None) -> None:
    """See Window.same_shape_as."""
    __tracebackhide__ = True
    place = os.path.join(window.baselines or "", os.fspath(path))
    missing = window.missing(nested=True)
    if missing is not None:
        raise TraceIncomplete(f"the shape of this window is not known, so it cannot be that of {place}: {missing}")
    ignored = _ignored(ignore)
    found = shape_of(window.rows, ignored)
    if os.environ.get(UPDATE, "") not in ("", "0") if update is None else update:
        _write(place, found)
        return
    wanted = _read(place, ignored)
    if wanted.threads != found.threads:
        raise AssertionError("\n".join(difference(wanted, found, place)))


def _ignored(ignore: Iterable[str]) -> Callable[[str], bool]:
    if isinstance(ignore, str):
        ignore = [ignore]
    fits = [glob("ignore", pattern) for pattern in ignore]
    return lambda name: any(fit(name) for fit in fits)


def _read(place: str, ignored: Callable[[str], bool]) -> Shape:
    __tracebackhide__ = True
    if os.path.isdir(place):
        from atf.trace import open_trace

        with open_trace(place) as trace:
            other = trace.window()
            missing = other.missing(nested=True)
            if missing is not None:
                raise TraceIncomplete(f"{place}: is a recording that cannot be a baseline: {missing}")
            return shape_of(other.rows, ignored)
    try:
        with open(place, encoding="utf-8", errors="replace", newline="") as file:
            return read_shape(file.read(), place, ignored)
    except FileNotFoundError:
        raise UsageError(f"{place}: there is no baseline yet; --atf-update (or ATF_UPDATE=1) writes it") from None
    except OSError as why:
        raise UsageError(f"{place}: the baseline cannot be read: {why.strerror}") from None


def _write(place: str, shape: Shape) -> None:
    """As a whole, and only when it differs: a file that is the same keeps its time."""
    __tracebackhide__ = True
    if os.path.isdir(place):
        raise UsageError(f"{place}: is a recording, not a text: it is not rewritten; record it again, or name a file")
    text = shape.text()
    temporary = f"{place}.{os.getpid()}.tmp"
    try:
        try:
            with open(place, encoding="utf-8", errors="replace", newline="") as file:
                before = file.read()
            if before == text:
                return
            if before and not before.startswith(FIRST_WORDS):
                raise FormatError(f"{place}: is no baseline, and is not overwritten by one; choose another name, or remove it")
        except FileNotFoundError:
            pass
        os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(temporary, place)
    except OSError as why:
        raise OutputError(f"{place}: the baseline cannot be written: {why.strerror}") from None


def difference(wanted: Shape, found: Shape, name: str) -> list[str]:
    """Where two shapes differ first, and how, as lines."""
    before, after = list(wanted.calls()), list(found.calls())
    at = next((i for i, (one, other) in enumerate(zip(before, after)) if one[0] != other[0]), min(len(before), len(after)))
    deeper = max((side for side in (before, after) if at < len(side)), key=lambda side: _level(side[at][1]))
    way = _callers(deeper, at)
    said = [repr(side[at][0].strip()) if at < len(side) and _level(side[at][1]) == _level(deeper[at][1]) else "nothing more" for side in (before, after)]
    lines = [
        f"the calls are not those of {name} (if they should be now: --atf-update, or ATF_UPDATE=1)",
        f"first difference {f'below {way}' if way else 'at the top'}: expected {said[0]}, found {said[1]}",
    ]
    if wanted.recorded != found.recorded:
        lines.append(f"the baseline was recorded with {wanted.recorded or 'no filters'}, this with {found.recorded or 'no filters'}")
    # Long shapes are compared around the first difference only.
    near = slice(max(at - _NEAR, 0), at + 10 * _NEAR)
    texts = [[line for line, _ in side[near]] for side in (before, after)]
    changed = list(difflib.unified_diff(texts[0], texts[1], n=3, lineterm=""))
    body = [line for line in changed[2:] if not line.startswith("@@")]
    return [*lines, *(f"  {line}" for line in body[:_SHOWN]), *([f"  … and {len(body) - _SHOWN} lines more"] if len(body) > _SHOWN else [])]


def _level(item: Item | None) -> int:
    return -1 if item is None else item.level


def _callers(side: list[tuple[str, Item | None]], at: int) -> str:
    """The way to a line from the outermost call on."""
    level, names = _level(side[at][1]), []
    for _, item in reversed(side[:at]):
        if item is None or level <= 0:
            break
        if item.level < level:
            names.append(item.name)
            level = item.level
    return " › ".join(reversed(names))
