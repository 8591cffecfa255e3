"""Spans by group: function, module, file or thread; sums and percentiles over the span indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from atf._core.index_marks import SUMS, ranks
from atf.query.spantypes import ANY, Check, Filter

if TYPE_CHECKING:
    from atf.query.spanset import SpanSet
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
    """labels: by number of the group. by_thread: whether `member` (uint32) is indexed by thread position, else by function key.
    mixed: bool, by number of the group: several functions of one process are in it, so that one may run inside another."""

    labels: list[Label]
    member: Any
    by_thread: bool
    mixed: Any

    def of(self, spans: SpanSet, position: int) -> Any:
        """The group of each function of a thread's index: uint32."""
        import numpy

        keys = spans.keys[position]
        return numpy.full(len(keys), self.member[position], dtype=numpy.uint32) if self.by_thread else self.member[keys]


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


def group_spans(functions: Sequence[Function], space: Sequence[int], threads: Sequence[Thread], group: Group) -> Groups:
    """Functions of one name and place in two processes are one group; threads stay apart even when their names are the same."""
    import numpy

    if group == "thread":
        labels = [Label(t.name, "", "", 0, t.tid) for t in threads]
        return Groups(labels, numpy.arange(len(threads), dtype=numpy.uint32), True, numpy.ones(len(labels), dtype=bool))
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
    seen: set[tuple[int, int]] = set()
    mixed = numpy.zeros(len(labels), dtype=bool)
    for one in zip(member, space):
        mixed[one[0]] |= one in seen
        seen.add(one)
    return Groups(labels, numpy.array(member, dtype=numpy.uint32), False, mixed)


def _label(function: Function, group: Group) -> Label:
    if group == "module":
        return Label(function.module or "(user)", function.module, function.file if function.module else "", 0)
    if group == "file":
        return Label(function.file or function.module or "(no file)", "", function.file, 0)
    return Label(function.name, function.module, function.file, function.line)


def _by_names_only(filter: Filter) -> bool:
    """Whether a filter takes all spans of a function in a thread, or none."""
    return replace(filter, threads=None, functions=None) == ANY


def sum_groups(spans: SpanSet, filter: Filter, groups: Groups, check: Check | None = None) -> Totals:
    """Sums over the spans that pass. Where the tables of the indexes say it already, no span is looked at."""
    import numpy

    count = len(groups.labels)
    sums = {name: numpy.zeros(count, dtype=numpy.uint64) for name in SUMS}
    told = ~groups.mixed if _by_names_only(filter) else numpy.zeros(count, dtype=bool)
    if told.any():
        for position, numbers in spans.parts(filter):
            table, group = spans.indexes[position].functions, groups.of(spans, position)
            use = told[group] if numbers is None else told[group] & numpy.isin(numpy.arange(len(group)), numbers)
            _add(sums, group[use], table[use])
    if not told.all():
        if told.any():
            rest = frozenset(numpy.flatnonzero(~told[groups.member]).tolist())
            filter = replace(filter, functions=rest if filter.functions is None else rest & filter.functions)
        for marks in spans.marks(filter, check):
            marks.sums(groups.of(spans, spans.position(marks.index)), count, sums, check)
    return Totals(groups, **sums)


def _add(sums: dict[str, Any], group: Any, table: Any) -> None:
    """Adds rows of a table of functions, each with its group. `table` has only functions with spans."""
    import numpy

    first = sums["count"] == 0
    for name in ("count", "total_ns", "active_ns", "self_ns", "exceptions"):
        numpy.add.at(sums[name], group, table[name].astype(numpy.uint64))
    least = numpy.where(first, numpy.uint64((1 << 64) - 1), sums["min_ns"])
    numpy.minimum.at(least, group, table["min_ns"])
    sums["min_ns"][:] = numpy.where(sums["count"] == 0, numpy.uint64(0), least)
    numpy.maximum.at(sums["max_ns"], group, table["max_ns"])


def ranks_of(
    spans: SpanSet, filter: Filter, groups: Groups, members: Sequence[int], percents: Sequence[int], check: Check | None = None
) -> Any:
    """Active times by nearest rank, shape (len(members), len(percents)): uint64."""
    import numpy

    result = numpy.zeros((len(members), len(percents)), dtype=numpy.uint64)
    place = {number: row for row, number in enumerate(members)}
    wanted = numpy.zeros(len(groups.labels), dtype=bool)
    wanted[list(members)] = True
    # The indexes order spans by duration; where spans were suspended that is not their active time.
    indexed: list[list[Any]] = [[] for _ in members]
    suspended = numpy.zeros(len(members), dtype=bool)
    plain = _by_names_only(filter)
    for position, numbers in spans.parts(filter):
        index, group = spans.indexes[position], groups.of(spans, position)
        for number in numpy.flatnonzero(wanted[group]).tolist() if numbers is None else [n for n in numbers if wanted[group[n]]]:
            row = place[int(group[number])]
            indexed[row].append((index, number))
            suspended[row] |= not plain or index.functions["suspended"][number] > 0
    marks = {id(one.index): one for one in spans.marks(filter, check)} if suspended.any() else {}
    for row, parts in enumerate(indexed):
        if check:
            check()
        if not suspended[row]:
            result[row] = ranks(parts, percents)
        else:
            result[row] = _ranks_of_times(_times(marks, parts), percents)
    return result


def _times(marks: dict[int, Any], parts: list[Any]) -> Any:
    """The active times of the marked spans of some functions: uint64."""
    import numpy

    by_index: dict[int, list[int]] = {}
    for index, number in parts:
        by_index.setdefault(id(index), []).append(number)
    found = [marks[key].actives(numbers) for key, numbers in by_index.items() if key in marks]
    return numpy.concatenate(found) if found else numpy.empty(0, dtype=numpy.uint64)


def _ranks_of_times(times: Any, percents: Sequence[int]) -> Any:
    import numpy

    if not len(times):
        return 0
    places = [(percent * len(times) + 99) // 100 - 1 for percent in percents]
    return numpy.partition(times, sorted(set(places)))[places]
