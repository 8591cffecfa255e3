"""Two traces side by side: which function, thread and process of one is which of the other. Ids differ between runs, names stay."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from atf.query.spangroups import Label

if TYPE_CHECKING:
    from atf.trace_files import Process, Thread


def pair(before: Sequence[Any], after: Sequence[Any], keys: Sequence[Callable[[Any], Hashable]]) -> list[tuple[int | None, int | None]]:
    """Pairs of positions: each of `before` with one of `after` of equal key, or None, in their order.

    keys: from the strictest to the most lenient; what one leaves alone is paired by the next. Of several with an equal key
    the first goes with the first, the second with the second.
    """
    of_before: dict[int, int] = {}
    left = set(range(len(after)))
    for key in keys:
        waiting: dict[Hashable, list[int]] = {}
        for at in sorted(left, reverse=True):
            waiting.setdefault(key(after[at]), []).append(at)
        for at, one in enumerate(before):
            if at not in of_before and (same := waiting.get(key(one))):
                of_before[at] = same.pop()
                left.discard(of_before[at])
    return [(at, of_before.get(at)) for at in range(len(before))] + [(None, at) for at in sorted(left)]


def align(before: Sequence[Hashable], after: Sequence[Hashable], cut: tuple[bool, bool] = (False, False)) -> list[tuple[int | None, int | None]]:
    """Positions of a longest common subsequence side by side, and of what only one side has: before first, where both stand at one place.

    cut: whether a side is the beginning of something longer. What the other side has behind its end may be in the rest: it is left out.
    The same beginnings, and ends of whole sides, cost nothing; between them time and memory grow with the product of the lengths.
    """
    first, ends = 0, 0
    shorter = min(len(before), len(after))
    while first < shorter and before[first] == after[first]:
        first += 1
    while not any(cut) and ends < shorter - first and before[-1 - ends] == after[-1 - ends]:
        ends += 1
    a, b = range(first, len(before) - ends), range(first, len(after) - ends)
    # alone[i][j]: how many stand alone, at least, from the i-th of a and the j-th of b on.
    alone = [[0 if cut[1] else len(a) - i] * (len(b) + 1) for i in range(len(a) + 1)]
    alone[len(a)] = [0 if cut[0] else len(b) - j for j in range(len(b) + 1)]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            same = before[a[i]] == after[b[j]]
            alone[i][j] = alone[i + 1][j + 1] if same else 1 + min(alone[i + 1][j], alone[i][j + 1])
    middle: list[tuple[int | None, int | None]] = []
    i = j = 0
    while (i < len(a) or j < len(b)) and not (j == len(b) and cut[1]) and not (i == len(a) and cut[0]):
        if i < len(a) and j < len(b) and before[a[i]] == after[b[j]]:
            middle.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif j == len(b) or (i < len(a) and alone[i + 1][j] <= alone[i][j + 1]):
            middle.append((a[i], None))
            i += 1
        else:
            middle.append((None, b[j]))
            j += 1
    tail = [(len(before) - n, len(after) - n) for n in range(ends, 0, -1)]
    return [*((n, n) for n in range(first)), *middle, *tail]


def _module(label: Label) -> tuple[Hashable, ...]:
    return label.module, label.name


def _file(label: Label) -> tuple[Hashable, ...]:
    return *_module(label), PurePath(label.file).name


# Directories differ between checkouts and lines between versions: they only tell functions of one name apart.
_FUNCTION_KEYS = (tuple, lambda label: (*_file(label), label.line), _file, _module)


def pair_functions(before: Sequence[Label], after: Sequence[Label]) -> list[tuple[int | None, int | None]]:
    """By module and name; several of one name by file, line and order."""
    return pair(before, after, _FUNCTION_KEYS)


@dataclass(frozen=True)
class Role:
    """What a thread does, as far as names say it: the script of its process, whether that one began it all, and its name."""

    script: str
    first: bool
    name: str


def role_of(process: Process, processes: Sequence[Process], name: str = "") -> Role:
    argv = process.info["argv"]
    words = [word for word in argv if isinstance(word, str)] if isinstance(argv, list) else []
    # The interpreter and its options say nothing.
    modules = [after for word, after in itertools.pairwise(words) if word == "-m"]
    plain = [PurePath(word).name for word in words if not word.startswith("-")]
    scripts = [name for name in plain if name.endswith(".py")] + modules
    others = [name for name in plain if not re.match(r"python|pypy", name)]
    here = {p.pid for p in processes}
    return Role(next(iter(scripts + others), ""), process.info["parent_pid"] not in here, name)


def _without_numbers(role: Role) -> Role:
    return Role(role.script, role.first, re.sub(r"\d+", "#", role.name))


def pair_threads(before: Sequence[Thread], after: Sequence[Thread]) -> list[tuple[int | None, int | None]]:
    """By script and role of the process and name of the thread, then without the numbers in the name, then by name alone."""

    def roles(threads: Sequence[Thread]) -> list[Role]:
        processes = list({id(t.process): t.process for t in threads}.values())
        return [role_of(t.process, processes, t.name) for t in threads]

    keys: tuple[Callable[[Role], Hashable], ...] = (lambda r: r, _without_numbers, lambda r: (r.script, r.name), lambda r: r.name)
    return pair(roles(before), roles(after), keys)
