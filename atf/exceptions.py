"""Exceptions as they went through calls: raised in one, leaving it and its callers, until one of them caught it.

The events say which functions an exception left, not which handler took it. An exception passes from a function to its caller when
the caller is left by one directly afterwards, or later by one of the same type and message (a `finally` or `with` ran in between).
The caller of the last function that it left is the one that caught it. One that is caught where it was raised leaves no function,
and is not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from atf import trace_detail

if TYPE_CHECKING:
    from atf.trace_files import Thread
    from atf.window_rows import Rows


def exception_of(thread: Thread, end_seq: int) -> dict[str, Any] | None:
    """{"type": …, "message": …} of an EXCEPTION event; None when it was not recorded."""
    return thread.detail_of(end_seq, int(thread.events["detail_seq"][end_seq]), trace_detail.PYTHON_EXCEPTION)


def type_of(said: dict[str, Any] | None) -> str | None:
    """`module.Name`, of a built-in one the name alone; None: it was not recorded."""
    return str(said["type"]).removeprefix("builtins.") if said and "type" in said else None


def passing(row: Any, parent: Any, end_seq: Any, same: Callable[[int, int], bool]) -> tuple[Any, Any]:
    """Which of the spans of one thread that an exception left belong to one exception.

    row, parent, end_seq: int64 arrays of shape (n,), by row, which all were left by one. same: whether two of them, by position, were left
    by exceptions of one type and message. Returns (origins: bool, where it was raised; top: of each the position of the last that it left).
    """
    import numpy

    n = len(row)
    if not n:
        return numpy.zeros(0, dtype=bool), numpy.zeros(0, dtype=numpy.int64)
    caller = numpy.searchsorted(row, parent)
    left = (parent >= 0) & (row[numpy.minimum(caller, n - 1)] == parent)
    caller = numpy.where(left, numpy.minimum(caller, n - 1), -1)
    # Of several calls of one caller only the last that was left by an exception can be the one that went on through it.
    last = numpy.full(n, -1, dtype=numpy.int64)
    numpy.maximum.at(last, caller[left], end_seq[left])
    goes_on = left & (last[caller] == end_seq)
    for at in numpy.flatnonzero(goes_on & (end_seq[caller] != end_seq + 1)).tolist():
        goes_on[at] = same(at, int(caller[at]))
    origins = numpy.ones(n, dtype=bool)
    origins[caller[goes_on]] = False
    top = numpy.where(goes_on, caller, numpy.arange(n))
    while (top[top] != top).any():
        top = top[top]
    return origins, top


class Thrown(NamedTuple):
    """One exception. Rows of the table of spans: where it was raised, the last that it left, and who caught it (-1: nothing that was
    recorded). type, message: None where they were not recorded. at_ns: when it left the first."""

    origin: int
    top: int
    catcher: int
    type: str | None
    message: Any
    at_ns: int


def thrown(rows: Rows) -> list[Thrown]:
    """The exceptions that were raised in a window, by time."""
    import numpy

    c, found = rows.table.columns, []
    for thread, first, end in rows.threads():
        own = numpy.flatnonzero(c.status[first:end] == 1) + first
        if not len(own):
            continue
        end_seq, parent = c.end_seq[own].astype(numpy.int64), rows.parent[own].astype(numpy.int64)

        def same(one: int, other: int, thread: Thread = thread, end_seq: Any = end_seq) -> bool:
            said = exception_of(thread, int(end_seq[one]))
            return said is not None and said == exception_of(thread, int(end_seq[other]))

        origins, top = passing(own.astype(numpy.int64), parent, end_seq, same)
        for at in numpy.flatnonzero(origins).tolist():
            at_ns = int(c.end_ns[own[at]])
            if rows.start_ns <= at_ns < rows.end_ns:
                said = exception_of(thread, int(end_seq[at]))
                last = int(top[at])
                found.append(Thrown(int(own[at]), int(own[last]), int(parent[last]), type_of(said), (said or {}).get("message"), at_ns))
    return sorted(found, key=lambda one: one.at_ns)


def chain(rows: Rows, one: Thrown) -> list[int]:
    """The rows that an exception left, the outermost first."""
    found = [one.origin]
    while found[-1] != one.top:
        found.append(int(rows.parent[found[-1]]))
    return found[::-1]
