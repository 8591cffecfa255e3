"""The shape of a window: which calls made which, in which order, without times, values or numbers of threads.

As text it is a baseline that people read and review:

    atf shape 1
    recorded include shop
    thread MainThread
      shop.views.item
        shop.tax.rate ×3

Two spaces a level; `×3` repeats a call with all that is below it. Equal calls that follow one another are always folded so, numbers in
names of threads are `#`, and comprehensions are no calls of their own (from Python 3.12 on they are not): a shape has one text only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from atf import wording
from atf._core.errors import FormatError, UsageError

if TYPE_CHECKING:
    from atf.window_rows import Rows

VERSION = 1
FIRST_WORDS = "atf shape "
MOST_LINES, MOST_LEVELS = 20_000, 200
_MOST_GLOBS = 8
_COMPREHENSION = re.compile(r"<(list|dict|set)comp>$")
_LINE = re.compile(r"((?:  )+)(\S.*?)(?: ×(\d+))?")
_REPEATED = re.compile(r" ×(?=\d+$)")


class Item(NamedTuple):
    """A call, the outermost at level 0, and how often it follows itself with the same calls below. Callers come before what they call."""

    level: int
    name: str
    times: int


class Shape(NamedTuple):
    """threads: [(name, its items)], sorted, and folded so that equal shapes are equal. recorded: what the recording left out, in words."""

    recorded: str
    threads: list[tuple[str, list[Item]]]

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines())

    def lines(self) -> list[str]:
        head = [f"{FIRST_WORDS}{VERSION}", *([f"recorded {self.recorded}"] if self.recorded else [])]
        return [*head, *(line for line, _ in self.calls())]

    def calls(self) -> Iterator[tuple[str, Item | None]]:
        """The lines of the threads, and what they say."""
        for name, items in self.threads:
            yield f"thread {name}".rstrip(), None
            for item in items:
                yield f"{'  ' * (item.level + 1)}{item.name}{f' ×{item.times}' if item.times > 1 else ''}", item


def folded(items: Iterable[Item], ignored: Callable[[str], bool] = lambda name: False) -> list[Item]:
    """The same calls with equal neighbours as one; what is ignored is left out with all below it. A level may be left out: only what is
    deeper counts.
    """
    numbers: dict[tuple[str, tuple[tuple[int, int], ...]], int] = {}  # of each different call with what is below it
    kinds: list[tuple[str, tuple[tuple[int, int], ...]]] = []
    roots: list[tuple[int, int]] = []
    pending: list[tuple[Item, list[tuple[int, int]]]] = []

    def close(level: int) -> None:
        while pending and pending[-1][0].level >= level:
            item, below = pending.pop()
            kind = (item.name, tuple(below))
            number = numbers.setdefault(kind, len(numbers))
            if number == len(kinds):
                kinds.append(kind)
            siblings = pending[-1][1] if pending else roots
            if siblings and siblings[-1][0] == number:
                siblings[-1] = (number, siblings[-1][1] + item.times)
            else:
                siblings.append((number, item.times))

    skipped: int | None = None
    for item in items:
        if skipped is not None and item.level > skipped:
            continue
        skipped = item.level if ignored(item.name) else None
        if skipped is None:
            close(item.level)
            pending.append((item, []))
    close(-1)
    found, waiting = [], [(0, *root) for root in reversed(roots)]
    while waiting:
        level, number, times = waiting.pop()
        name, below = kinds[number]
        found.append(Item(level, name, times))
        if len(found) > MOST_LINES or level > MOST_LEVELS:
            raise UsageError(
                f"the shape has more than {MOST_LINES} lines, or {MOST_LEVELS} levels: choose a smaller window, or ignore=['module.*'] what does not matter"
            )
        waiting += [(level + 1, *child) for child in reversed(below)]
    return found


def shape_of(rows: Rows, ignored: Callable[[str], bool]) -> Shape:
    """Of the calls that began in a window."""
    threads = []
    by_thread: dict[int, list[int]] = {}
    for row in rows.rows.tolist():
        by_thread.setdefault(int(rows.table.columns.thread[row]), []).append(row)
    for thread, own in by_thread.items():
        items = folded(_items(rows, sorted(own)), ignored)
        if items:
            threads.append((_plain_name(str(rows.table.threads[thread])), items))
    said = dict.fromkeys(_recorded(p.manifest.data) for p in rows.trace.processes)
    return Shape("; ".join(one for one in said if one), sorted(threads))


def _plain_name(name: str) -> str:
    return re.sub(r"\d+", "#", wording.clean(name)).strip()


def _items(rows: Rows, own: list[int]) -> Iterator[Item]:
    """Callers before what they called, also where coroutines took turns."""
    below: dict[int, list[int]] = {}
    among = set(own)
    for row in own:
        caller = int(rows.parent[row])
        below.setdefault(caller if caller in among else -1, []).append(row)
    waiting = [(0, row) for row in reversed(below.get(-1, []))]
    while waiting:
        level, row = waiting.pop()
        name = rows.function(row).qualified
        if not _COMPREHENSION.search(name):
            yield Item(level, _REPEATED.sub(" x", wording.clean(name)).strip() or "?", 1)
        waiting += [(level + 1, child) for child in reversed(below.get(row, []))]


def _recorded(data: dict[str, object]) -> str:
    filters = data.get("filters")
    said = []
    if isinstance(filters, dict):
        for key in ("include", "exclude"):
            globs = filters.get(key)
            if isinstance(globs, list) and globs:  # many are what happens to be installed, and no baseline's business
                said.append(f"{key} {', '.join(map(str, globs)) if len(globs) <= _MOST_GLOBS else 'many modules'}")
        said += ["without Python's calls"] if filters.get("python") is False else []
    return ", ".join([*said, *(["C functions too"] if "c" in str(data.get("level")).split(",") else [])])


def read_shape(text: str, name: str, ignored: Callable[[str], bool]) -> Shape:
    """A baseline's text. FormatError: it is none, is of another version, or has a line that is no call."""
    first, *lines = text.split("\n")
    match = re.fullmatch(rf"{FIRST_WORDS}(\d+)\r?", first)
    if match is None:
        raise FormatError(f"{name}: is no baseline of atf (its first line is {first[:40]!r}, not 'atf shape {VERSION}'); choose another name, or remove it")
    if int(match[1]) != VERSION:
        raise FormatError(f"{name}: is a baseline of version {match[1]}, and this release knows version {VERSION}; --atf-update (ATF_UPDATE=1) rewrites it")
    recorded, threads = "", list[tuple[str, list[Item]]]()
    for number, line in enumerate(lines, 2):
        line = line.removesuffix("\r")
        if line.startswith("recorded ") and not threads:
            recorded = line.removeprefix("recorded ")
        elif line == "thread" or line.startswith("thread "):
            threads.append((line.removeprefix("thread").strip(), []))
        elif found := _LINE.fullmatch(line):
            level, items = len(found[1]) // 2 - 1, threads[-1][1] if threads else None
            if items is None or level > (items[-1].level + 1 if items else 0):
                raise FormatError(f"{name}, line {number}: {line.strip()[:60]!r} is deeper than the line before it allows; two spaces are one level")
            items.append(Item(level, found[2], int(found[3] or 1)))
        elif line.strip():
            raise FormatError(f"{name}, line {number}: {line[:60]!r} is no call: write two spaces a level, and the function's name")
    # What is ignored now may stand in the file.
    kept = [(thread, folded(items, ignored)) for thread, items in threads]
    return Shape(recorded, sorted((thread, items) for thread, items in kept if items))
