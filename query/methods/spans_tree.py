"""spans.tree: one span, its callers, and what it called, to a depth and a number of nodes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from atf._core.spans import STATUS
from atf.query.context import Context
from atf.query.pages import invalid
from atf.query.params import Params, Result
from atf.query.rpc import TOO_LARGE, Method, RpcError
from atf.query.spanrows import Status, Whole, span_of, unknown_thread, unmatched
from atf.query.spanset import Filter, Ref, Refs, SpanRows, SpanSet, make_refs
from atf.query.traces import View

_MOST_ANCESTORS = 64


class SpansTreeParams(Params):
    """spanId; or threadId and timeNs: the innermost span of the thread at that time; or the roots of threadId, or of all threads."""

    trace_id: str
    span_id: str | None = None
    thread_id: int | None = None
    time_ns: Whole | None = None
    depth: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3
    max_nodes: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 200
    min_duration_ns: Whole = 0


class Node(Result):
    """moreChildren: how many of its direct children are not among `children`, being too deep, too short, or too many."""

    span_id: str
    function_name: str
    module_name: str
    start_relative_ns: int
    duration_ns: int
    self_time_ns: int
    status: Status
    child_count: int
    active_time_ns: int | UnsetType = UNSET  # where it is not the duration
    thread_id: int | UnsetType = UNSET  # of a root of the answer
    depth: int | UnsetType = UNSET  # of a root of the answer
    children: list[Node] | UnsetType = UNSET
    more_children: int | UnsetType = UNSET


class TreeMetadata(Result):
    """rootCount: outermost nodes that there are; `nodes` has fewer where maxNodes cut. nodeCount: nodes given below and with them.
    didTruncate: the answer would have been too large with maxNodes nodes."""

    root_count: int
    node_count: int
    execution_time_ms: float
    did_truncate: bool | UnsetType = UNSET
    growing: bool | UnsetType = UNSET
    as_of_ns: int | UnsetType = UNSET
    unmatched: dict[str, int] | UnsetType = UNSET


class SpansTree(Result):
    """ancestors: the root first, the caller of the span last. more_ancestors: how many more stand above (spans.path has all)."""

    trace_start_ns: int
    ancestors: list[Node]
    nodes: list[Node]
    metadata: TreeMetadata
    more_ancestors: int | UnsetType = UNSET


def run(context: Context, params: SpansTreeParams) -> SpansTree:
    view = context.traces.view(params.trace_id)
    spans = SpanSet.of(view, context.check)
    ref = _asked(spans, params)
    above = spans.path(ref) if ref else make_refs([])
    ancestors = max(0, len(above.row) - 1)
    first = max(0, ancestors - _MOST_ANCESTORS)
    most = params.max_nodes
    while True:
        roots, total, shown = _grown(context, view, spans, ref, params, most)
        result = SpansTree(
            trace_start_ns=view.start_ns,
            ancestors=_nodes(view, spans, Refs(above.thread[first:ancestors], above.row[first:ancestors])),
            nodes=roots,
            metadata=TreeMetadata(
                root_count=total,
                node_count=shown,
                execution_time_ms=context.elapsed_ms,
                did_truncate=most < params.max_nodes or UNSET,
                growing=view.growing or UNSET,
                as_of_ns=view.info["time_end_ns"] if view.growing else UNSET,
                unmatched=unmatched(spans),
            ),
            more_ancestors=first or UNSET,
        )
        size = len(msgspec.json.encode(result))
        if size <= context.answer_bytes:
            return result
        if most == 1:
            raise RpcError(TOO_LARGE, {"reason": f"one node and its ancestors take {size} bytes", "hint": "use spans.path with a projection"})
        most = max(1, min(most - 1, int(shown * context.answer_bytes / size * 0.9)))


def _asked(spans: SpanSet, params: SpansTreeParams) -> Ref | None:
    """The span that was asked for; None: roots were."""
    if params.span_id is not None:
        if params.thread_id is not None or params.time_ns is not None:
            raise invalid("spanId", "was given beside threadId or timeNs", "give spanId alone, or threadId and timeNs")
        return span_of(spans, params.span_id)
    if params.thread_id is None:
        if params.time_ns is not None:
            raise invalid("timeNs", "needs a threadId", "trace.info names the threads")
        return None
    positions = spans.thread_positions([params.thread_id])
    if not positions:
        raise unknown_thread(spans, params.thread_id)
    if params.time_ns is None:
        return None
    found = [ref for position in sorted(positions) if (ref := spans.at(position, params.time_ns)) is not None]
    if not found:
        raise invalid("timeNs", "no span of this thread was running then", "spans.list with threadIds gives those before and after")
    return found[0]


def _grown(
    context: Context, view: View, spans: SpanSet, ref: Ref | None, params: SpansTreeParams, most: int
) -> tuple[list[Node], int, int]:
    """(roots with what is below them, roots that there are, nodes). Level by level, so that what is cut is deep; of a level
    that is too wide the longest spans stay."""
    if ref is not None:
        refs, total = make_refs([ref]), 1
    else:
        threads = None if params.thread_id is None else spans.thread_positions([params.thread_id])
        wanted = Filter(threads=threads, max_depth=0, min_duration_ns=params.min_duration_ns or None)
        total, refs = spans.select(wanted, "duration", False, limit=most, check=context.check)
        refs = _by_start(spans.gather(refs))
    level = roots = _nodes(view, spans, refs, roots=True)
    shown = len(roots)
    for _ in range(params.depth):
        parents, found = _children(context, spans, level, refs)
        if found is None or not len(found):
            break
        keep = _longest(found, params.min_duration_ns, most - shown)
        refs = Refs(found.thread[keep], found.row[keep])
        children = _nodes(view, spans, refs)
        for parent, child in zip(parents[keep].tolist(), children):
            if level[parent].children is UNSET:
                level[parent].children = []
            level[parent].children.append(child)
        _count_missing(level)
        level, shown = children, shown + len(children)
    _count_missing(level)
    return roots, total, shown


def _children(context: Context, spans: SpanSet, level: list[Node], refs: Refs) -> tuple[Any, SpanRows | None]:
    """(the place in the level of each child's parent, the children), in order."""
    import numpy

    parents, below = [], []
    for place, (node, thread, row) in enumerate(zip(level, refs.thread.tolist(), refs.row.tolist())):
        if node.child_count:
            context.check()
            below.append(spans.children((thread, row)))
            parents.append(numpy.full(len(below[-1].row), place))
    if not below:
        return None, None
    found = Refs(numpy.concatenate([b.thread for b in below]), numpy.concatenate([b.row for b in below]))
    return numpy.concatenate(parents), spans.gather(found)


def _longest(rows: SpanRows, min_duration_ns: int, most: int) -> Any:
    """Positions, rising, of those that are long enough; the longest, ties by position, when there are more than `most`."""
    import numpy

    keep = numpy.flatnonzero(rows.duration_ns >= numpy.uint64(min_duration_ns))
    if len(keep) > most:
        keep = numpy.sort(keep[numpy.argsort(~rows.duration_ns[keep], kind="stable")[:most]])
    return keep


def _by_start(rows: SpanRows) -> Refs:
    import numpy

    order = numpy.lexsort((rows.row, rows.thread, rows.start_ns))
    return Refs(rows.thread[order], rows.row[order])


def _count_missing(level: list[Node]) -> None:
    for node in level:
        missing = node.child_count - (0 if node.children is UNSET else len(node.children))
        node.more_children = missing or UNSET


def _nodes(view: View, spans: SpanSet, refs: Refs, roots: bool = False) -> list[Node]:
    rows = spans.gather(refs)
    trace_start_ns = view.start_ns
    columns = (
        *(spans.span_ids(rows), rows.function.tolist(), rows.start_ns.tolist(), rows.duration_ns.tolist(), rows.self_ns.tolist()),
        *(rows.status.tolist(), spans.child_counts(refs).tolist(), rows.active_ns.tolist(), rows.thread.tolist(), rows.depth.tolist()),
    )
    return [
        Node(
            span_id=span_id,
            function_name=spans.functions[function].name,
            module_name=spans.functions[function].module,
            start_relative_ns=start - trace_start_ns,
            duration_ns=duration,
            self_time_ns=self_ns,
            status=STATUS[status],
            child_count=child_count,
            active_time_ns=UNSET if active == duration else active,
            thread_id=spans.threads[thread].tid if roots else UNSET,
            depth=depth if roots else UNSET,
        )
        for span_id, function, start, duration, self_ns, status, child_count, active, thread, depth in zip(*columns)
    ]


METHODS = [
    Method(
        "spans.tree",
        SpansTreeParams,
        SpansTree,
        run,
        "One span with its callers and what it called, to a depth; or the outermost spans of a thread, or of all.",
    )
]
