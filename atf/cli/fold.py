"""Repeated calls as one line: ``handle ×500``, worked out level by level on the columns of the spans.

Calls of the same function by one caller that follow each other and ended the same way become one node. Below a node of several calls,
what they called is folded by function and outcome wherever it stands, in the order in which each first occurs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atf.trace_spans import Span, SpanTable


@dataclass(frozen=True)
class Node:
    """``count`` calls as one; ``span`` is the first of them, durations (ns) are sums. hidden: calls below that were left out."""

    number: int
    span: Span
    count: int
    duration_ns: int
    self_ns: int
    hidden: int


class Folded:
    """Nodes of a tree, numbered level by level; a node's children have consecutive numbers. Memory is about 100 bytes a node."""

    def __init__(self, table: SpanTable, rows: Any, max_depth: int | None = None, fold: bool = True) -> None:
        """rows: those of the roots, in their order. max_depth: levels that are kept, the roots' included."""
        import numpy

        from atf._core.spans import children_of

        self._table, self._fold, self._columns = table, fold, table.columns
        self._first_child, self._calls = children_of(table.columns)
        self._levels: list[dict[str, Any]] = []
        members = numpy.asarray(rows, dtype=numpy.int64)
        owners = numpy.zeros(len(members), dtype=numpy.int64)
        # Nobody called the roots: they are neighbours in their thread, as the calls of one caller are.
        single = numpy.ones(1, dtype=bool)
        base = 0
        while len(members) and (max_depth is None or len(self._levels) < max_depth):
            node_of, level = self._grouped(members, owners, single)
            level["base"] = base
            base += len(level["count"])
            self._levels.append(level)
            single = level["count"] == 1
            members, owners = self._below(members, node_of)
        self.roots = range(len(self._levels[0]["count"]) if self._levels else 0)
        self._bases = [level["base"] for level in self._levels]
        for level, under in zip(self._levels, self._levels[1:]):
            # The owners of the level below ascend, so each one's children are a range.
            numbers = numpy.arange(len(level["count"]) + 1)
            level["children"] = under["base"] + numpy.searchsorted(under["owner"], numbers)

    def _grouped(self, members: Any, owners: Any, single: Any) -> tuple[Any, dict[str, Any]]:
        """Nodes of one level: (node of each member, columns of the nodes). Members are in order of their owners, then of their calls."""
        import numpy

        c = self._columns
        kind = c.function[members].astype(numpy.int64) * 8 + c.status[members]
        changes = numpy.ones(len(members), dtype=bool)
        if self._fold:
            thread = c.thread[members]
            changes[1:] = (owners[1:] != owners[:-1]) | (kind[1:] != kind[:-1]) | (thread[1:] != thread[:-1])
        run = numpy.cumsum(changes)
        mark = numpy.where(single[owners], run, kind) if self._fold else run
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
        numpy.add.at(sums["calls"], node_of, c.child_count[members].astype(numpy.uint64))
        count = numpy.bincount(node_of, minlength=len(heads))
        return node_of, {"row": members[heads], "owner": owners[heads], "count": count, **sums}

    def _below(self, members: Any, node_of: Any) -> tuple[Any, Any]:
        """The calls made by members, and the nodes that made them: by node, then in the order of the calls."""
        import numpy

        order = numpy.argsort(node_of, kind="stable")
        members, node_of = members[order], node_of[order]
        starts = self._first_child[members].astype(numpy.int64)
        counts = self._first_child[members + 1].astype(numpy.int64) - starts
        ends = numpy.cumsum(counts)
        places = numpy.arange(int(ends[-1]) if len(ends) else 0) + numpy.repeat(starts - (ends - counts), counts)
        return self._calls[places].astype(numpy.int64), numpy.repeat(node_of, counts)

    def _level(self, number: int) -> tuple[dict[str, Any], int]:
        from bisect import bisect_right

        level = self._levels[bisect_right(self._bases, number) - 1]
        return level, number - level["base"]

    def node(self, number: int) -> Node:
        level, i = self._level(number)
        hidden = 0 if "children" in level else int(level["calls"][i])
        span = Span(self._table, int(level["row"][i]))
        return Node(number, span, int(level["count"][i]), int(level["duration"][i]), int(level["self"][i]), hidden)

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
