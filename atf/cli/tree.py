"""``atf tree``: who called whom, with repeated calls folded."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from atf.cli import present, text
from atf.cli.common import THREAD, add_common, add_limit, duration_ns, open_named, print_json_list, thread, whole

if TYPE_CHECKING:
    from atf.cli.fold import Folded, Node
    from atf.trace_manifest import Function

_STYLES = {"exception": "red", "unwound": "yellow", "open": "cyan", "lost": "magenta", "untimed": "dim"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("tree", help="who called whom", description="Calls as a tree; repeated calls are folded into one line.")
    add_common(parser)
    parser.add_argument("--function", metavar="GLOB", help="begin at the calls of functions whose name fits")
    parser.add_argument("--thread", metavar="THREAD", type=thread, help=THREAD)
    parser.add_argument("--max-depth", metavar="N", type=whole, default=12, help="at most N levels (default: 12)")
    help = "leave out lines that took less in all, e.g. 1ms"
    parser.add_argument("--min-duration", dest="min_duration_ns", metavar="TIME", type=duration_ns, default=0, help=help)
    parser.add_argument("--imports", action="store_true", help="show how modules were found and loaded, not only what they did")
    parser.add_argument("--no-fold", action="store_true", help="a line for every call")
    add_limit(parser, 200, "lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from atf.cli.fold import Folded

    with open_named(args) as trace:
        roots = trace.tree(thread=args.thread, function=args.function)
        folded = Folded(
            trace.table(),
            roots.rows if args.function is not None else None,
            threads=None if args.thread is None else trace.table().columns.thread[roots.rows],
            max_depth=args.max_depth,
            min_duration_ns=args.min_duration_ns,
            fold=not args.no_fold,
            skip=None if args.imports else is_import_machinery,
        )
        if args.json:
            objects = (node_json(node, parent) for node, parent in folded.walk())
            print_json_list({"trace": str(trace.path)}, "nodes", objects)
        else:
            show(lines(folded), args.limit)
    return 0


def is_import_machinery(function: Function) -> bool:
    """Python's own way from an import statement to the code of a module: ten lines for each import, all alike."""
    return function.module in ("zipimport", "importlib._bootstrap", "importlib._bootstrap_external") or function.module.startswith("_frozen_importlib")


def node_json(node: Node, parent: int | None) -> dict[str, Any]:
    sums = {"count": node.count, "duration_ns": node.duration_ns, "self_ns": node.self_ns, "hidden": node.hidden}
    return {"id": node.number, "parent_id": parent, **sums, "span": present.span_json(node.span)}


def lines(folded: Folded) -> Iterator[tuple[str, Node | None]]:
    """Lines and the nodes that they show, under a line for each thread; no recursion, since programs recurse deeply."""
    shown = None
    for root in folded.roots:
        thread = folded.node(root).span.thread
        if thread is not shown:
            shown = thread
            yield f"{thread.name} (thread {thread.tid} of process {thread.process.pid})", None
        pending = [("", "", root)]
        while pending:
            before, below, number = pending.pop()
            node = folded.node(number)
            yield before + describe(node), node
            children = folded.children(number)
            for child in reversed(children):
                turn, on = ("└─ ", "   ") if child == children[-1] else ("├─ ", "│  ")
                pending.append((below + turn, below + on, child))


def describe(node: Node) -> str:
    """``module.name(arguments) ×N  1.23 ms  [raised ValueError: …]``; arguments only where the line stands for one call."""
    parts = [f"{node.span.name} ×{text.count(node.count)}" if node.count > 1 else present.call(node.span), text.duration(node.duration_ns)]
    if ended := present.outcome(node.span):
        parts.append(f"[{ended}]" if node.count == 1 else f"[{ended}, …]" if ":" in ended else f"[{ended}]")
    if node.hidden:
        parts.append(f"… {text.count(node.hidden)} more call{'s' * (node.hidden > 1)} below")
    return "  ".join(parts)


def show(shown: Iterator[tuple[str, Node | None]], limit: int) -> None:
    write = painter() if text.on_terminal() else plain
    for number, (line, node) in enumerate(shown):
        if number == limit:
            print("… there is more: --limit shows more lines, --function, --thread and --max-depth choose among them")
            return
        write(text.clean(line), node)


def plain(line: str, node: Node | None) -> None:
    print(line)


def painter() -> Callable[[str, Node | None], None]:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def paint(line: str, node: Node | None) -> None:
        style = "bold" if node is None else _STYLES.get(node.span.status, "")
        console.print(Text(line, style=style, no_wrap=True, overflow="ellipsis"))

    return paint
