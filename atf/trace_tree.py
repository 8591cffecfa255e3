"""The call tree, and sums over its groups."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from atf._core.errors import UsageError
from atf._core.spans import totals
from atf.trace_spans import Span, SpanTable, smallest_first

if TYPE_CHECKING:
    from atf.trace_manifest import Function


class Node:
    """A span in a tree. level: 1 for a root of this tree."""

    __slots__ = ("_max_depth", "level", "span")

    def __init__(self, span: Span, level: int, max_depth: int | None) -> None:
        self.span, self.level, self._max_depth = span, level, max_depth

    @property
    def children(self) -> "list[Node]":
        """Empty below the tree's max_depth; `span.children` goes on."""
        if self._max_depth is not None and self.level >= self._max_depth:
            return []
        return [Node(child, self.level + 1, self._max_depth) for child in self.span.children]

    def __repr__(self) -> str:
        return f"<node {self.level} {self.span!r}>"


class Tree:
    """Iterates over its roots; `walk()` over all nodes, parents before children.

    limit bounds the nodes of a walk; `truncated` says afterwards whether it cut something.
    """

    def __init__(self, table: SpanTable, rows: Any, max_depth: int | None, limit: int | None) -> None:
        self._table, self.rows, self._max_depth, self._limit = table, rows, max_depth, limit
        self.truncated = False

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Node]:
        for row in self.rows:
            yield Node(Span(self._table, int(row)), 1, self._max_depth)

    def walk(self) -> Iterator[Node]:
        self.truncated = False
        left = self._limit
        for root in self:
            waiting = [root]
            while waiting:
                if left is not None:
                    if left == 0:
                        self.truncated = True
                        return
                    left -= 1
                node = waiting.pop()
                yield node
                waiting += reversed(node.children)

    def __repr__(self) -> str:
        return f"<tree of {len(self)} roots>"


class TopRow(NamedTuple):
    """Sums of one group. total_ns and mean_ns are of active time; recursion counts once in total_ns."""

    name: str
    module: str
    file: str
    line: int
    count: int  # type: ignore[assignment]  # the field hides tuple.count
    total_ns: int
    self_ns: int
    min_ns: int
    max_ns: int
    mean_ns: int
    exceptions: int


_ORDERS = {"self": "self_ns", "total": "total_ns", "count": "count", "mean": "mean_ns"}


def _label(function: "Function", group: str) -> tuple[str, str, str, int]:
    if group == "module":
        return function.module or "(user)", function.module, function.file if function.module else "", 0
    if group == "file":
        return function.file or function.module or "(no file)", function.module if function.file else "", function.file, 0
    return function.name, function.module, function.file, function.line


def top(table: SpanTable, n: int | None, by: str, group: str) -> list[TopRow]:
    """The n groups with the largest `by`: self, total, count or mean; by function, module, file or thread."""
    import numpy

    if by not in _ORDERS:
        raise UsageError(f"by={by!r}: choose one of {', '.join(_ORDERS)}")
    columns = table.columns
    if group == "thread":
        labels: Any = [(str(thread), "", "", 0) for thread in table.threads]
        key = columns.thread
    elif group in ("function", "module", "file"):
        labels = [_label(function, group) for function in table.functions]
        key = columns.function
    else:
        raise UsageError(f"group={group!r}: choose one of function, module, file, thread")
    if not len(columns) or n == 0:
        return []
    numbers: dict[Any, int] = {}
    # Threads stay apart even when their names are the same; functions of one name in two processes are one.
    members = [numbers.setdefault((i, label) if group == "thread" else label, len(numbers)) for i, label in enumerate(labels)]
    first = dict(zip(members, labels, strict=True))
    sums = totals(columns, key, numpy.array(members, dtype=numpy.uint32), len(numbers))
    sums["mean_ns"] = sums["active_ns"] // numpy.maximum(sums["count"], 1)
    order = smallest_first(~sums[_ORDERS[by]], n)
    names = TopRow._fields[4:]
    return [TopRow(*first[g], *(int(sums[name][g]) for name in names)) for g in order.tolist() if sums["count"][g]]
