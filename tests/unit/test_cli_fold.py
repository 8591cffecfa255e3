"""Folding of repeated calls."""

from dataclasses import dataclass, field
from types import SimpleNamespace

from atf.cli import fold


@dataclass
class Call:
    """A span as far as folding looks at it."""

    name: str
    children: list = field(default_factory=list)
    status: str = "ok"
    duration_ns: int = 10
    self_ns: int = 1

    @property
    def function(self):
        return SimpleNamespace(module="m", name=self.name, file="m.py", line=1)


def shown(nodes):
    return [f"{node.span.name}×{node.count}" + ("!" if node.span.status != "ok" else "") for node in nodes]


def children_of(call):
    return call.children


def test_neighbours_fold_and_order_is_kept():
    calls = [Call("a"), Call("a"), Call("b"), Call("a")]
    nodes = fold.folded(calls, children_of)
    assert shown(nodes) == ["a×2", "b×1", "a×1"]
    assert [node.duration_ns for node in nodes] == [20, 10, 10]
    assert nodes[0].self_ns == 2


def test_an_exception_is_not_folded_into_returns():
    (root,) = fold.folded([Call("f", [Call("a"), Call("a", status="exception"), Call("a")])], children_of)
    assert shown(root.children) == ["a×1", "a×1!", "a×1"]


def test_below_repeated_calls_children_fold_by_function():
    handle = [Call("parse"), Call("check")]
    failed = [Call("parse"), Call("check", status="exception")]
    (node,) = fold.folded([Call("handle", handle), Call("handle", failed), Call("handle", handle)], children_of)
    assert shown([node]) == ["handle×3"]
    assert shown(node.children) == ["parse×3", "check×2", "check×1!"]


def test_counts_add_up_to_the_calls():
    def tree(depth):
        return Call(f"level {depth}", [tree(depth - 1) for _ in range(3)] if depth else [])

    def calls(node):
        return node.count + sum(map(calls, node.children))

    (root,) = fold.folded([tree(5)], children_of)
    assert calls(root) == sum(3**n for n in range(6))


def test_deep_recursion_of_the_program_is_no_recursion_here():
    call = Call("f")
    for _ in range(50_000):
        call = Call("f", [call])
    for root in (fold.plain(call, children_of), fold.folded([call], children_of)[0]):
        depth = 0
        while root.children:
            (root,) = root.children
            depth += 1
        assert depth == 50_000
