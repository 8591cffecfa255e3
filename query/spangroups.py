"""Spans by group: function, module, file or thread; sums and percentiles over numpy columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from atf._core.spans import totals

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


def sum_groups(columns: SpanColumns, rows: Any, groups: Groups) -> Totals:
    """Sums over the rows (rising) of the table. All rows are walked: what passes may lie below what does not."""
    import numpy

    count = len(groups.labels)  # which is also the number of the group of all that do not pass
    key = numpy.full(len(columns), count, dtype=numpy.uint32)
    key[rows] = groups.of(columns, rows)
    sums = totals(columns, key, numpy.arange(count + 1, dtype=numpy.uint32), count + 1)
    return Totals(groups, **{name: values[:count] for name, values in sums.items()})


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
