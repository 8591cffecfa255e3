"""What a window of a trace says about a failure, as plain text for the report of a test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from atf import call_lines, exceptions, wording
from atf._core.spans import NO_SEQ

if TYPE_CHECKING:
    from atf.window_rows import Rows
    from atf.windows import Window

_SECTION = 8  # lines of each section but the calls
_OPEN = 3
_CONTROL_FLOW = ("StopIteration", "StopAsyncIteration", "GeneratorExit")


def report(window: Window, *, tail: int = 40) -> str:
    """The last `tail` calls as an indented tree (repeated ones count once), the chain of the last exception that escaped marked with `>`;
    exceptions that were swallowed, the program's own spans that were open at the end, its last events, what each thread was in, and what
    is missing. Sections with nothing in them are left out; without lines at the end.
    """
    rows = window.rows
    at_ns = _end(window)
    raised = exceptions.thrown(rows)
    escaped = [one for one in raised if not rows.holds(one.catcher)]
    lines = [*_calls(rows, tail, escaped[-1:])]
    lines += _section("exceptions swallowed before the end:", _swallowed(rows, raised))
    lines += _section("open spans:", _open_spans(rows, at_ns))
    lines += _section("last events:", _events(window, at_ns))
    lines += _section("threads:", _threads(rows, at_ns))
    if window.lost is not None:
        lines.append(f"incomplete: {window.lost}")
    return "\n".join(line.rstrip() for line in lines)


def _end(window: Window) -> int:
    times = window.trace.times
    return min(window.end_ns, times[1] if times is not None else window.end_ns)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    found = list(lines)
    return [title, *(f"  {wording.clean(line)}" for line in found)] if found else []


def _calls(rows: Rows, tail: int, escaped: list[exceptions.Thrown]) -> list[str]:
    if tail <= 0:
        return []
    if not len(rows.rows):
        return ["no calls were recorded"]
    marked = {row for one in escaped for row in exceptions.chain(rows, one) if rows.holds(row)}
    last = call_lines.last_groups(rows, tail)
    shown = sorted({*last, *marked}, key=rows.position)
    cut = len(rows.rows) - len(shown)
    title = f"last {wording.count(len(shown))} of {wording.count(len(rows.rows))} calls:" if cut else f"{wording.count(len(shown))} calls:"
    return [title, *call_lines.tree(rows, shown, marked=marked, most=len(shown), fold=True)]


def _swallowed(rows: Rows, raised: list[exceptions.Thrown]) -> Iterator[str]:
    """By type, message and place, the last first: what was swallowed late is more often the cause."""
    groups: dict[tuple[Any, ...], int] = {}
    for one in reversed(raised):
        if rows.holds(one.catcher) and one.type not in _CONTROL_FLOW:
            said = wording.first_line(wording.exception({"type": one.type, "message": one.message})) if one.type else "an exception"
            key = (said, rows.function(one.origin).qualified, rows.function(one.catcher).qualified)
            groups[key] = groups.get(key, 0) + 1
    for (said, origin, catcher), number in list(groups.items())[:_SECTION]:
        yield f"{said}  raised in {origin}, caught in {catcher}{f'  ×{number}' if number > 1 else ''}"
    if len(groups) > _SECTION:
        yield f"… and {len(groups) - _SECTION} others"


class _State(NamedTuple):
    """Rows of one thread at a moment: what runs, outermost first, and the generators and coroutines that are suspended."""

    running: list[int]
    suspended: list[int]


def _state(rows: Rows, first: int, end: int, at_ns: int) -> _State:
    import numpy

    c = rows.table.columns
    started = c.start_ns[first:end] <= numpy.uint64(at_ns)
    closed = (c.end_seq[first:end] != NO_SEQ) & (c.end_ns[first:end] <= numpy.uint64(at_ns))
    running = numpy.flatnonzero(started & ~closed) + first
    is_open = numpy.flatnonzero(started & closed & (c.status[first:end] == 3)) + first
    # What is suspended for good ends at its last YIELD.
    return _State(running.tolist(), [row for row in is_open.tolist() if rows.ended_by_yield(row)])


def _ways(rows: Rows, found: list[int]) -> list[list[int]]:
    """Chains of rows of which each called the next, itself or through others."""
    above, among = {}, set(found)
    for row in found:
        caller = int(rows.parent[row])
        while caller >= 0 and caller not in among:
            caller = int(rows.parent[caller])
        above[row] = caller
    ways = []
    for row in sorted(among - set(above.values())):
        way = [row]
        while (caller := above[way[-1]]) >= 0:
            way.append(caller)
        ways.append(way[::-1])
    return ways


def _open_spans(rows: Rows, at_ns: int) -> Iterator[str]:
    for thread, first, end in rows.threads():
        state = _state(rows, first, end, at_ns)
        own = [row for row in state.running if rows.function(row).id >> 32 == 0]
        own += _around_awaits(rows, first, end, state.suspended)
        for row in sorted(own)[-_SECTION:]:
            span = rows.span(row)
            yield f"{wording.call(span)}  for {wording.duration(at_ns - span.start_ns)}  in {thread}"


def _around_awaits(rows: Rows, first: int, end: int, suspended: list[int]) -> list[int]:
    """Spans of the program's own that were open in a coroutine when it was suspended, where it still is."""
    import numpy

    c, waiting = rows.table.columns, set(suspended)
    own = numpy.array([f.id >> 32 == 0 for f in rows.table.functions], dtype=bool)
    found = []
    for row in (numpy.flatnonzero((c.status[first:end] == 2) & own[c.function[first:end]]) + first).tolist() if waiting else ():
        above = int(rows.parent[row])
        while above >= 0 and own[c.function[above]]:
            above = int(rows.parent[above])
        # It ended with the suspension that its coroutine is in: not with one before that.
        if above in waiting and int(c.end_seq[row]) == int(c.end_seq[above]):
            found.append(row)
    return found


def _events(window: Window, at_ns: int) -> list[str]:
    found = []
    for event in window.instants()[-_SECTION:]:
        given = (event.detail or {}).get("attributes")
        found.append(f"{event.function}{wording.arguments(given)}  {wording.duration(at_ns - event.timestamp_ns)} before the end  in {event.thread}")
    return found


def _threads(rows: Rows, at_ns: int) -> Iterator[str]:
    c = rows.table.columns
    for thread, first, end in rows.threads():
        if not len(thread.index) or int(thread.events[0]["timestamp_ns"]) > at_ns:
            continue
        # Without returns nobody knows what had ended.
        knows = thread.process.manifest.data.get("level") != "calls"
        state = _state(rows, first, end, at_ns) if knows else _State([], [])
        name = f"{thread} ({thread.tid})"
        for way in _ways(rows, state.running)[-1:]:
            yield f"{name}: in {_way(rows, way)}  for {wording.duration(at_ns - rows.span(way[-1]).start_ns)}"
        if not state.running and end > first:
            last = first + int((c.start_ns[first:end] <= at_ns).sum()) - 1
            what = "no call"
            if last >= first:
                what = f"last call {rows.function(last).qualified}, {wording.duration(at_ns - int(c.start_ns[last]))} before the end"
            yield f"{name}: {'nothing recorded in progress; ' if knows else ''}{what}"
        ways = _ways(rows, state.suspended)
        for way in ways[-_OPEN:]:
            yield f"  suspended: {_way(rows, way)}  for {wording.duration(at_ns - rows.span(way[-1]).end_ns)}"
        if len(ways) > _OPEN:
            yield f"  … and {len(ways) - _OPEN} others suspended"


def _way(rows: Rows, way: list[int]) -> str:
    names = [rows.function(row).qualified for row in way]
    return " › ".join(names if len(names) <= 5 else [names[0], f"… {len(names) - 4} more", *names[-3:]])
