"""Calls of a trace as an indented tree in plain text, for failure messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from atf import wording
from atf.window_rows import only_calls

if TYPE_CHECKING:
    from atf.trace_spans import Span
    from atf.window_rows import Rows

MOST_INDENTED = 16  # levels; what is deeper says how deep it is
_CHAIN = 4  # callers that a line names
_OK = 0


def describe(rows: Rows, row: int) -> str:
    """``module.name(arguments) → result  1.23 ms  [raised ValueError: …]``."""
    span = rows.span(row)
    if _untimed(span):
        return wording.clean(wording.call(span))
    waits = span.status in ("open", "unwound") and rows.ended_by_yield(row)
    if waits and span.function.id >> 32 == 0:
        return wording.clean(f"{wording.call(span)}  [around an await]")  # its end is in the file, but not which one of several it is
    parts = [wording.call(span), wording.duration(span.duration_ns)]
    if ended := "suspended" if waits else wording.outcome(span):
        parts.append(f"[{wording.first_line(ended)}]")
    return wording.clean("  ".join(parts))


def _untimed(span: Span) -> bool:
    """Whether nobody knows how long it took: at level `calls` only spans of the program's own have an end."""
    return span.status == "untimed" or (span.function.id >> 32 != 0 and only_calls(span.thread.process.manifest.data.get("level")))


def last_groups(rows: Rows, most: int) -> list[int]:
    """The last rows of the window, by time, of so many groups: calls without calls of their own that follow one another below one
    caller are one group when they are of one function.
    """
    found: list[int] = []
    groups, before = 0, None
    for row in rows.rows[::-1].tolist():
        group = _group(rows, row)
        if group is None or group != before:
            if groups == most:
                break
            groups += 1
        before = group
        found.append(row)
    return found[::-1]


def _group(rows: Rows, row: int) -> tuple[int, int, int] | None:
    c = rows.table.columns
    if c.child_count[row] or c.status[row] != _OK:
        return None
    return int(c.thread[row]), int(rows.parent[row]), int(c.function[row])


def tree(rows: Rows, shown: Sequence[int], *, marked: Collection[int] = (), most: int = 40, fold: bool = False) -> list[str]:
    """The rows `shown` (by time) and who called them, at most `most` of them; those in `marked` with a `>` before them.

    Callers that are not shown for their own sake stand in one line with ` › ` between them, as long as there is one way through them.
    fold: groups, as `last_groups` has them, are one line.
    """
    chosen = set(shown[:most])
    below = _children(rows, chosen)
    threads = rows.table.columns.thread
    # Threads come in the order in which something was first seen in them, not in that of their numbers.
    first_seen = list(dict.fromkeys(int(threads[row]) for row in shown[:most]))
    lines: list[str] = []
    for thread in first_seen:
        if len(first_seen) > 1:
            lines.append(f"  {wording.clean(str(rows.table.threads[thread]))}:")
        pending = [([row], 0) for row in reversed(below[-1]) if int(threads[row]) == thread]
        while pending:
            group, level = pending.pop()
            row, chain = group[0], []
            while row not in chosen and len(below.get(row, ())) == 1:
                chain.append(rows.function(row).qualified)
                row = below[row][0]
            if chain:
                names = chain if len(chain) <= _CHAIN else [chain[0], f"… {len(chain) - _CHAIN + 1} more", *chain[1 - _CHAIN + 1 :]]
                lines.append(_indented("  ", level, wording.clean(" › ".join(names)) + " ›"))
                level += 1
            if row not in chosen:
                text = wording.clean(rows.function(row).qualified)
            else:
                text = describe(rows, row) if len(group) == 1 else _described(rows, group)
            lines.append(_indented("> " if row in marked else "  ", level, text))
            pending += [(child, level + 1) for child in reversed(_folded(rows, below.get(row, []), chosen if fold else set()))]
    if len(shown) > most:
        lines.append(f"  … and {len(shown) - most} more")
    return lines


def _children(rows: Rows, chosen: Collection[int]) -> dict[int, list[int]]:
    """{row: those of `chosen`, and of who called them, that it called}; -1 called those without a caller."""
    included = set(chosen)
    for row in chosen:
        above = int(rows.parent[row])
        while above >= 0 and above not in included:
            included.add(above)
            above = int(rows.parent[above])
    below: dict[int, list[int]] = {}
    for row in sorted(included):
        below.setdefault(int(rows.parent[row]), []).append(row)
    return below


def _folded(rows: Rows, siblings: Sequence[int], chosen: Collection[int]) -> list[list[int]]:
    """Groups of siblings; only what is in `chosen` is grouped."""
    found: list[list[int]] = []
    before = None
    for row in siblings:
        group = _group(rows, row) if row in chosen else None
        if group is not None and group == before:
            found[-1].append(row)
        else:
            found.append([row])
        before = group
    return found


def _described(rows: Rows, group: Sequence[int]) -> str:
    spans = [rows.span(row) for row in group]
    name = wording.clean(f"{spans[0].name} ×{wording.count(len(group))}")
    return name if _untimed(spans[0]) else f"{name}  {wording.duration(sum(span.duration_ns for span in spans))}"


def _indented(sign: str, level: int, text: str) -> str:
    deep = f"[{level - MOST_INDENTED} deeper] " if level > MOST_INDENTED else ""
    return f"{sign}{'  ' * min(level, MOST_INDENTED)}{deep}{text}"
