"""Repeated calls as one line: ``handle ×500``, worked out level by level on the columns of the spans.

Calls of the same function by one caller that follow each other and ended the same way become one node. Where that leaves many, as
below a loop, and below a node of several calls, what was called is folded by function and outcome wherever it stands, in the order in
which each first occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atf.trace_spans import Span, SpanTable

if TYPE_CHECKING:
    from atf.trace_manifest import Function


@dataclass(frozen=True)
class Node:
    """``count`` calls as one; ``span`` is the first of them, durations (ns) are sums. hidden: calls below that were left out."""

    number: int
    span: Span
    count: int
    duration_ns: int
    self_ns: int
    hidden: int


def visible_calls(columns: Any, skipped: Any) -> tuple[Any, Any, Any]:
    """(roots, first, rows): who is left when functions are skipped and their callers call what they called.

    skipped: bool for each function of the columns. The calls of row i are rows[first[i]:first[i + 1]], in their order.
    """
    import numpy

    skip = skipped[columns.function]
    parent = columns.parent.copy()
    while (above := numpy.flatnonzero((parent >= 0) & skip[parent])).size:
        parent[above] = columns.parent[parent[above]]
    rows = numpy.flatnonzero(~skip)
    rows = rows[numpy.argsort(parent[rows], kind="stable")]
    roots = int(numpy.searchsorted(parent[rows], 0))
    counts = numpy.bincount(parent[rows[roots:]], minlength=len(parent))
    first = numpy.concatenate([[0], numpy.cumsum(counts)])
    return rows[:roots], first, rows[roots:]


class Folded:
    """Nodes of a tree, numbered level by level; a node's children have consecutive numbers. Memory is about 100 bytes a node."""

    def __init__(
        self,
        table: SpanTable,
        roots: Any = None,
        *,
        threads: Any = None,
        max_depth: int | None = None,
        min_duration_ns: int = 0,
        fold: bool = True,
        few: int = 20,
        skip: Callable[[Function], bool] | None = None,
    ) -> None:
        """roots: rows to begin at, in order (None: the outermost, of all threads or of these positions). max_depth: levels that are kept, the roots' included.
        min_duration_ns: nodes that took less in all are left out. few: nodes below one call up to
        which their order is kept. skip: functions that are passed over, as if inlined."""
        import numpy

        self._table, self._fold, self._few, self._columns, self._least = table, fold, few, table.columns, min_duration_ns
        skipped = numpy.array([skip is not None and skip(function) for function in table.functions], dtype=bool)
        outermost, self._first_call, self._calls = visible_calls(table.columns, skipped)
        if threads is not None:
            outermost = outermost[numpy.isin(table.columns.thread[outermost], threads)]
        members = outermost if roots is None else numpy.asarray(roots, dtype=numpy.int64)
        owners = numpy.zeros(len(members), dtype=numpy.int64)
        # Nobody called the roots: they are neighbours in their thread, as the calls of one caller are.
        single = numpy.ones(1, dtype=bool)
        self._levels: list[dict[str, Any]] = []
        self._bases: list[int] = []
        base = 0
        while len(members) and (max_depth is None or len(self._levels) < max_depth):
            members, owners, level = self._grouped(members, owners, single)
            self._levels.append(level)
            self._bases.append(base)
            base += len(level["count"])
            single = level["count"] == 1
            members, owners = self._below(members, owners)
        self.roots = range(len(self._levels[0]["count"]) if self._levels else 0)
        for at, (level, under) in enumerate(zip(self._levels, self._levels[1:])):
            # The owners of the level below ascend, so each one's children are a range.
            level["children"] = self._bases[at + 1] + numpy.searchsorted(under["owner"], numpy.arange(len(level["count"]) + 1))
            shown = numpy.zeros(len(level["count"]), dtype=numpy.uint64)
            numpy.add.at(shown, under["owner"], under["count"].astype(numpy.uint64))
            level["calls"] = level["calls"] - shown

    def _grouped(self, members: Any, owners: Any, single: Any) -> tuple[Any, Any, dict[str, Any]]:
        """(members that are kept, the node of each, columns of the nodes). Members come by owner, then in the order of their calls."""
        import numpy

        c = self._columns
        # Roots of several threads have the same owner, none.
        kind = (c.thread[members].astype(numpy.int64) * (len(c.function_ids) + 1) + c.function[members]) * 8 + c.status[members]
        changes = numpy.ones(len(members), dtype=bool)
        if self._fold:
            changes[1:] = (owners[1:] != owners[:-1]) | (kind[1:] != kind[:-1])
        run = numpy.cumsum(changes)
        ordered = single & (numpy.bincount(owners[changes], minlength=len(single)) <= self._few)
        mark = numpy.where(ordered[owners], run, kind) if self._fold else run
        order = numpy.lexsort((mark, owners))
        first = numpy.ones(len(members), dtype=bool)
        first[1:] = (owners[order][1:] != owners[order][:-1]) | (mark[order][1:] != mark[order][:-1])
        group = numpy.empty(len(members), dtype=numpy.int64)
        group[order] = numpy.cumsum(first) - 1
        # lexsort is stable, so the first of a group in it is the first that was called; nodes stand in that order.
        heads = order[first]
        rank = numpy.empty(len(heads), dtype=numpy.int64)
        rank[numpy.argsort(heads)] = numpy.arange(len(heads))
        node_of = rank[group]
        heads = numpy.sort(heads)
        sums = {name: numpy.zeros(len(heads), dtype=numpy.uint64) for name in ("duration", "self", "calls")}
        numpy.add.at(sums["duration"], node_of, c.end_ns[members] - c.start_ns[members])
        numpy.add.at(sums["self"], node_of, c.self_ns[members])
        numpy.add.at(sums["calls"], node_of, (self._first_call[members + 1] - self._first_call[members]).astype(numpy.uint64))
        level = {"row": members[heads], "owner": owners[heads], "count": numpy.bincount(node_of, minlength=len(heads)), **sums}
        kept = level["duration"] >= numpy.uint64(self._least)
        if kept.all():
            return members, node_of, level
        stays, renumbered = kept[node_of], numpy.cumsum(kept) - 1
        return members[stays], renumbered[node_of[stays]], {name: column[kept] for name, column in level.items()}

    def _below(self, members: Any, node_of: Any) -> tuple[Any, Any]:
        """The calls made by members, and the nodes that made them: by node, then in the order of the calls."""
        import numpy

        order = numpy.argsort(node_of, kind="stable")
        members, node_of = members[order], node_of[order]
        starts = self._first_call[members]
        counts = self._first_call[members + 1] - starts
        ends = numpy.cumsum(counts)
        places = numpy.arange(int(ends[-1]) if len(ends) else 0) + numpy.repeat(starts - (ends - counts), counts)
        return self._calls[places], numpy.repeat(node_of, counts)

    def _level(self, number: int) -> tuple[dict[str, Any], int]:
        from bisect import bisect_right

        at = bisect_right(self._bases, number) - 1
        level = self._levels[at]
        return level, number - self._bases[at]

    def node(self, number: int) -> Node:
        level, i = self._level(number)
        span = Span(self._table, int(level["row"][i]))
        return Node(number, span, int(level["count"][i]), int(level["duration"][i]), int(level["self"][i]), int(level["calls"][i]))

    def children(self, number: int) -> range:
        level, i = self._level(number)
        return range(int(level["children"][i]), int(level["children"][i + 1])) if "children" in level else range(0)

    def walk(self) -> Iterator[tuple[Node, int | None]]:
        """(node, number of its parent), parents before children."""
        pending: list[tuple[int, int | None]] = [(number, None) for number in reversed(self.roots)]
        while pending:
            number, parent = pending.pop()
            yield self.node(number), parent
            pending += [(child, number) for child in reversed(self.children(number))]
