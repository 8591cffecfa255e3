"""Repeated calls as one line: ``handle ×500``.

Siblings that stand side by side, are calls of the same function and ended the same way become one node, whose children are the
children of all of them, folded by function and outcome in the order in which each first occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Node:
    """One line of the tree: one call, or ``count`` alike ones. Durations are sums in nanoseconds."""

    span: Any
    count: int = 1
    duration_ns: int = 0
    self_ns: int = 0
    children: list[Node] = field(default_factory=list)


def plain(span: Any, children_of: Callable[[Any], Iterable[Any]]) -> Node:
    """The tree below a span with a line for every call."""
    root = _one(span)
    pending = [root]
    while pending:
        node = pending.pop()
        node.children = [_one(child) for child in children_of(node.span)]
        pending.extend(node.children)
    return root


def folded(spans: Iterable[Any], children_of: Callable[[Any], Iterable[Any]]) -> list[Node]:
    """Top-level calls, folded where they repeat, with everything below them."""
    roots: list[tuple[Node, list[Any]]] = []
    for span in spans:
        if roots and _key(roots[-1][0].span) == _key(span):
            _add(roots[-1][0], span)
            roots[-1][1].append(span)
        else:
            roots.append((_one(span), [span]))
    # Deep recursion in the recorded program must not become recursion here.
    pending = list(roots)
    while pending:
        node, members = pending.pop()
        groups = _grouped(members, children_of)
        node.children = [child for child, _ in groups]
        pending.extend(groups)
    return [node for node, _ in roots]


def _grouped(members: list[Any], children_of: Callable[[Any], Iterable[Any]]) -> list[tuple[Node, list[Any]]]:
    groups: list[tuple[Node, list[Any]]] = []
    latest: dict[Any, int] = {}
    for member in members:
        for child in children_of(member):
            key = _key(child)
            position = latest.get(key)
            # Below one call order counts, so only neighbours fold; below many alike ones every repetition does.
            if position is None or (len(members) == 1 and position != len(groups) - 1):
                latest[key] = len(groups)
                groups.append((_one(child), [child]))
            else:
                _add(groups[position][0], child)
                groups[position][1].append(child)
    return groups


def _key(span: Any) -> tuple[Any, ...]:
    function = span.function
    return (function.module, function.name, function.file, function.line, span.status)


def _one(span: Any) -> Node:
    return Node(span, 1, span.duration_ns or 0, span.self_ns or 0)


def _add(node: Node, span: Any) -> None:
    node.count += 1
    node.duration_ns += span.duration_ns or 0
    node.self_ns += span.self_ns or 0
