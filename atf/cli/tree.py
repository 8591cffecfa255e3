"""``atf tree``: who called whom, with repeated calls folded."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from atf.cli import fold, present, text
from atf.cli.common import add_common, add_limit, open_named, print_json_list, whole

_STYLES = {"exception": "red", "unwound": "yellow", "open": "cyan", "lost": "magenta"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("tree", help="who called whom", description="Calls as a tree; repeated calls are folded into one line.")
    add_common(parser)
    parser.add_argument("--function", metavar="GLOB", help="begin at the calls of functions whose name fits")
    parser.add_argument("--thread", metavar="N", type=int, help="only this thread, by its number in `atf info`")
    parser.add_argument("--max-depth", metavar="N", type=whole, default=12, help="at most N levels (default: 12)")
    parser.add_argument("--no-fold", action="store_true", help="a line for every call")
    add_limit(parser, 200, "lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with open_named(args) as trace:
        roots = list(trace.tree(thread=args.thread, function=args.function, max_depth=args.max_depth))
        nodes = [fold.plain(root, children_of) for root in roots] if args.no_fold else fold.folded(roots, children_of)
        if args.json:
            print_json_list({"trace": str(trace.info["path"])}, "nodes", node_objects(nodes))
            return 0
        names = {thread.number: thread.name for thread in trace.threads}
        show(lines(nodes, names), args.limit)
    return 0


def children_of(span: Any) -> Iterable[Any]:
    children: Iterable[Any] = span.children
    return children


def node_objects(roots: Iterable[fold.Node]) -> Iterator[dict[str, Any]]:
    """Nodes before their children: ``{id, parentId, count, durationNs, selfNs, span}``. The list is flat, since JSON parsers give up on
    the depth that recursion reaches. Durations are sums over the ``count`` calls that a node stands for; ``span`` is the first of them."""
    number = 0
    for root in roots:
        pending: list[tuple[fold.Node, int | None]] = [(root, None)]
        while pending:
            node, parent = pending.pop()
            yield {
                "id": number,
                "parentId": parent,
                "count": node.count,
                "durationNs": node.duration_ns,
                "selfNs": node.self_ns,
                "span": present.span_json(node.span),
            }
            pending += [(child, number) for child in reversed(node.children)]
            number += 1


def lines(nodes: Iterable[fold.Node], names: dict[int, str]) -> Iterator[tuple[str, fold.Node | None]]:
    """Lines and the nodes that they show, threads in the order of their first call; no recursion, since programs recurse deeply."""
    thread = None
    for root in nodes:
        if root.span.thread != thread:
            thread = root.span.thread
            yield f"thread {thread} {names.get(thread) or ''}".rstrip(), None
        pending = [("", "", root)]
        while pending:
            before, below, node = pending.pop()
            yield before + describe(node), node
            last = len(node.children) - 1
            for position in range(last, -1, -1):
                turn, on = ("└─ ", "   ") if position == last else ("├─ ", "│  ")
                pending.append((below + turn, below + on, node.children[position]))


def describe(node: fold.Node) -> str:
    """``module.name(arguments) ×N  1.23 ms  [raised ValueError: …]``; arguments are those of a single call."""
    span, parts = node.span, [present.label(node.span.function)]
    if node.count > 1:
        parts[0] += f" ×{text.count(node.count)}"
    else:
        parts[0] += present.arguments(span.args)
        if span.result is not None:
            parts[0] += f" → {present.brief(repr(span.result))}"
    parts.append(text.duration(node.duration_ns))
    ended = present.outcome(span)
    return "  ".join([*parts, f"[{ended}]"] if ended else parts)


def show(shown: Iterator[tuple[str, fold.Node | None]], limit: int) -> None:
    write = painter() if text.on_terminal() else plain
    for number, (line, node) in enumerate(shown):
        if number == limit:
            more = text.count(1 + sum(1 for _ in shown))
            print(f"… and {more} more lines: --limit shows more, --function and --max-depth choose")
            return
        write(text.clean(line), node)


def plain(line: str, node: fold.Node | None) -> None:
    print(line)


def painter() -> Callable[[str, fold.Node | None], None]:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def paint(line: str, node: fold.Node | None) -> None:
        style = "bold" if node is None else _STYLES.get(node.span.status, "")
        console.print(Text(line, style=style, no_wrap=True, overflow="ellipsis"))

    return paint
