"""Spans by group: function, module, file or thread; sums and percentiles over numpy columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from atf._core.spans import SpanColumns
    from atf.trace_files import Thread
    from atf.trace_manifest import Function

Group = Literal["function", "module", "file", "thread"]


class Label(NamedTuple):
    """What a group is called; members that do not fit the kind of group are empty. tid: of a thread, else None."""

    name: str
    module: str
    file: str
    line: int
    tid: int | None = None


@dataclass(frozen=True)
class Groups:
    """labels: by number of the group. by_thread: whether `member` (uint32) is indexed by thread position, else by function key."""

    labels: list[Label]
    member: Any
    by_thread: bool

    def of(self, columns: SpanColumns, rows: Any) -> Any:
        """The group of each row: uint32."""
        return self.member[(columns.thread if self.by_thread else columns.function)[rows]]


@dataclass(frozen=True)
class Totals:
    """Arrays of uint64, one value a group. Times are active times: what a span was suspended is left out.

    active_ns: the plain sum. total_ns: without spans that have a span of the same group above them that passes too, so that
    recursion counts once. exceptions: spans of status exception.
    """

    groups: Groups
    count: Any
    total_ns: Any
    active_ns: Any
    self_ns: Any
    min_ns: Any
    max_ns: Any
    exceptions: Any


def group_spans(functions: Sequence[Function], threads: Sequence[Thread], group: Group) -> Groups:
    """Functions of one name and place in two processes are one group; threads stay apart even when their names are the same."""
    import numpy

    if group == "thread":
        labels = [Label(t.name, "", "", 0, t.tid) for t in threads]
        return Groups(labels, numpy.arange(len(threads), dtype=numpy.uint32), True)
    numbers: dict[Any, int] = {}
    labels, member = [], []
    for f in functions:
        label = _label(f, group)
        # A module or file is one group, whatever files or modules its functions name.
        key = label if group == "function" else label.name
        if key not in numbers:
            numbers[key] = len(numbers)
            labels.append(label)
        member.append(numbers[key])
    return Groups(labels, numpy.array(member, dtype=numpy.uint32), False)


def _label(function: Function, group: Group) -> Label:
    if group == "module":
        return Label(function.module or "(user)", function.module, function.file if function.module else "", 0)
    if group == "file":
        return Label(function.file or function.module or "(no file)", "", function.file, 0)
    return Label(function.name, function.module, function.file, function.line)


def sum_groups(columns: SpanColumns, rows: Any, groups: Groups, check: Callable[[], Any] | None = None) -> Totals:
    """Sums over the rows (rising) of the table."""
    import numpy

    count = len(groups.labels)
    group = groups.of(columns, rows)
    active, self_ns = columns.active_ns[rows], columns.self_ns[rows]
    exceptions = numpy.bincount(group[columns.status[rows] == 1], minlength=count).astype(numpy.uint64)
    inside = _inside(columns, rows, group, groups, check)
    low = numpy.full(count, 0xFFFFFFFFFFFFFFFF, dtype=numpy.uint64)
    high = numpy.zeros(count, dtype=numpy.uint64)
    numpy.minimum.at(low, group, active)
    numpy.maximum.at(high, group, active)
    counts = numpy.bincount(group, minlength=count).astype(numpy.uint64)
    low[counts == 0] = 0

    def added(values: Any, of: Any) -> Any:
        result = numpy.zeros(count, dtype=numpy.uint64)
        numpy.add.at(result, of, values)  # bincount would add as floats
        return result

    outer = ~inside
    return Totals(
        groups, counts, added(active[outer], group[outer]), added(active, group), added(self_ns, group), low, high, exceptions
    )


def _inside(columns: SpanColumns, rows: Any, group: Any, groups: Groups, check: Callable[[], Any] | None) -> Any:
    """Which of the rows have one of the rows above them that is of the same group: bool."""
    import numpy

    passes = numpy.zeros(len(columns), dtype=bool)
    passes[rows] = True
    inside = numpy.zeros(len(rows), dtype=bool)
    going, above = numpy.arange(len(rows)), columns.parent[rows]
    while True:
        more = above >= 0
        going, above = going[more], above[more]
        if not len(going):
            return inside
        same = passes[above] & (groups.of(columns, above) == group[going])
        inside[going[same]] = True
        going, above = going[~same], columns.parent[above[~same]]
        if check:
            check()


def ranks_of(columns: SpanColumns, rows: Any, groups: Groups, members: Sequence[int], percents: Sequence[int]) -> Any:
    """Active times by nearest rank, shape (len(members), len(percents)): uint64."""
    import numpy

    result = numpy.zeros((len(members), len(percents)), dtype=numpy.uint64)
    group = groups.of(columns, rows)
    wanted = numpy.zeros(max(len(groups.labels), 1), dtype=bool)
    wanted[list(members)] = True
    keep = wanted[group]
    group, active = group[keep], columns.active_ns[rows[keep]]
    order = numpy.lexsort((active, group))
    group, active = group[order], active[order]
    numbers = numpy.array(members, dtype=numpy.uint32)
    first, last = numpy.searchsorted(group, numbers), numpy.searchsorted(group, numbers, side="right")
    some = last > first
    for column, percent in enumerate(percents):
        rank = (percent * (last - first) + 99) // 100 - 1
        result[some, column] = active[(first + rank)[some]]
    return result
