"""trace.flamegraph: what the spans of a trace weigh by call path, pruned until it fits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from atf.query.callpaths import CallPaths, Weight, Weights, Window
from atf.query.context import Context
from atf.query.examples import Finder, ids_of
from atf.query.pages import Shape, fit_columns
from atf.query.params import Params, Result
from atf.query.rpc import Method
from atf.query.spanset import SpanSet

METADATA_BYTES = 2048
OTHER = "…"  # a frame for what was pruned below another one


class PathFilters(Params):
    """timeStartNs, timeEndNs: only what lies between; of spans that reach beyond, the part inside counts."""

    time_start_ns: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    time_end_ns: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    thread_ids: list[int] | None = None


class FlamegraphParams(Params):
    """weight: self (ns; sums up the tree), active (ns, of the spans of exactly this path, with what they called) or count.

    byThread: paths begin with the thread. minShare: paths that have less of the whole, themselves and all below, are pruned.
    """

    trace_id: str
    weight: Weight = "self"
    format: Literal["folded", "tree"] = "folded"
    filters: PathFilters = msgspec.field(default_factory=PathFilters)
    by_thread: bool = False
    min_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    max_nodes: Annotated[int, msgspec.Meta(ge=1, le=20_000)] = 1000
    shape: Shape = "rows"


class FlameNode(Result):
    """One path. value: of its own spans; total: with all paths below it, pruned ones too (weight active: as value).

    parentId: null for a root. slowestSpanId: of its spans the one with the longest active time, null for a thread.
    """

    id: int
    parent_id: int | None
    function_name: str
    module_name: str
    value: int
    total: int
    count: int
    slowest_span_id: str | None


class Pruned(Result):
    """What is not shown: paths, the spans on them, and their value."""

    paths: int
    spans: int
    value: int


class Flamegraph(Result):
    """total: of the whole. folded: a line `a;b;c value` for each path that has a value; what was pruned below a path stands
    beside its children as `…` (weight active: it does not, and lines do not add up). nodes: parents before their children,
    the largest total first. estimatedSpans: spans of which only a
    part lies in the window and whose part is estimated, since they were suspended meanwhile."""

    weight: Weight
    unit: Literal["ns", "spans"]
    total: int
    node_count: int
    pruned: Pruned
    execution_time_ms: float
    folded: str | UnsetType = UNSET
    nodes: list[FlameNode] | dict[str, list[Any]] | UnsetType = UNSET
    estimated_spans: int | UnsetType = UNSET
    did_truncate: bool | UnsetType = UNSET
    growing: bool | UnsetType = UNSET
    as_of_ns: int | UnsetType = UNSET


class Chosen:
    """The paths that are shown, parents before children, the heaviest first, and what they weigh."""

    def __init__(self, paths: CallPaths, weights: Weights, weight: Weight, min_share: float, most: int) -> None:
        import numpy

        self.paths, self.weights, self.adds_up = paths, weights, weight != "active"
        self.below = paths.rolled_up(weights.value, largest=not self.adds_up)
        spans = paths.rolled_up(weights.count)
        spans[0] = 0  # the empty path is not shown
        self._seen = spans > 0
        self.whole = int((self.below if self.adds_up else weights.value)[self._seen & (paths.parent == 0)].sum())
        some = numpy.flatnonzero(self._seen & (self.below >= numpy.uint64(min_share * self.whole)))
        # A parent has at least what a child has, and the smaller number: the first of this order are a tree.
        if len(some) > most:
            edge = numpy.partition(self.below[some], len(some) - most)[len(some) - most]
            some = some[self.below[some] >= edge]
        self.order = some[numpy.argsort(~self.below[some], kind="stable")][:most]

    def pruned(self, count: int) -> Pruned:
        """What is not among the first `count` paths."""
        import numpy

        value = self.weights.value
        shown = numpy.zeros(len(value), dtype=bool)
        shown[self.order[:count]] = True
        hidden = self._seen & ~shown
        # Active time contains that of what was called: only the uppermost of what is hidden counts.
        lost = hidden if self.adds_up else hidden & (shown | (self.paths.parent == 0))[self.paths.parent]
        return Pruned(paths=int(hidden.sum()), spans=int(self.weights.count[hidden].sum()), value=int(value[lost].sum()))


def frame(name: str) -> str:
    """A name that does not break a folded line."""
    return " ".join(name.replace(";", ":").split()) or "(no name)"


def folded(chosen: Chosen, count: int, room: int) -> str | None:
    """The lines of the first `count` paths; None: they take more than `room` bytes."""
    paths, shown = chosen.paths, chosen.order[:count].tolist()
    name_of = [frame(f"{label.module}.{label.name}" if label.module else label.name) for label in paths.labels]
    value = dict(zip(shown, chosen.weights.value[shown].tolist()))
    hidden = dict(zip(shown, (chosen.below[shown] - chosen.weights.value[shown]).tolist())) if chosen.adds_up else {}
    hidden[0] = chosen.whole if chosen.adds_up else 0
    parents = dict(zip(shown, paths.parent[shown].tolist()))
    for path, parent in parents.items():
        if chosen.adds_up:
            hidden[parent] -= int(chosen.below[path])
    length = {0: 0}
    for path, parent in parents.items():
        length[path] = length[parent] + len(name_of[paths.label[path]]) + 1
        room_taken = length[path] * ((value[path] > 0) + (hidden.get(path, 0) > 0))
        room -= room_taken
        if room < 0:
            return None

    def line(path: int, end: str, amount: int) -> str:
        return f"{';'.join([name_of[label] for label in paths.path_labels(path)] + [end] * bool(end))} {amount}\n"

    lines = [line(path, "", amount) for path, amount in value.items() if amount > 0]
    lines += [line(path, OTHER, amount) for path, amount in hidden.items() if amount > 0]
    return "".join(sorted(lines))


def run(context: Context, params: FlamegraphParams) -> Flamegraph:
    view = context.traces.view(params.trace_id)
    spans = SpanSet.of(view)
    paths = CallPaths.of(view, params.by_thread, context.check)
    filters = params.filters
    window = None
    if filters.time_start_ns is not None or filters.time_end_ns is not None:
        start, end = filters.time_start_ns or 0, filters.time_end_ns
        window = Window(start, (1 << 63) - 1 if end is None else max(start, end))
    threads = spans.thread_positions(filters.thread_ids)
    weights = paths.weigh(params.weight, window, threads, context.check)
    chosen = Chosen(paths, weights, params.weight, params.min_share, params.max_nodes)
    context.check()
    result = Flamegraph(
        weight=params.weight,
        unit="spans" if params.weight == "count" else "ns",
        total=chosen.whole,
        node_count=len(chosen.order),
        pruned=chosen.pruned(len(chosen.order)),
        execution_time_ms=0.0,
        estimated_spans=weights.estimated or UNSET,
    )
    room = context.answer_bytes - METADATA_BYTES
    if params.format == "folded":
        while (text := folded(chosen, result.node_count, room)) is None or len(msgspec.json.encode(text)) > room:
            result.node_count = result.node_count * 3 // 4
            context.check()
        result.folded = text
    else:
        result.nodes, result.node_count = fit_columns(
            lambda n: _columns(chosen, n, window, threads, context), len(chosen.order), params.shape, room
        )
    if result.node_count < len(chosen.order):
        result.did_truncate = True
        result.pruned = chosen.pruned(result.node_count)
    if view.growing:
        result.growing, result.as_of_ns = True, view.info["time_end_ns"]
    result.execution_time_ms = context.elapsed_ms
    return result


def _columns(chosen: Chosen, count: int, window: Window | None, threads: frozenset[int] | None, context: Context) -> dict[str, list[Any]]:
    paths, shown = chosen.paths, chosen.order[:count]
    labels = [paths.labels[label] for label in paths.label[shown].tolist()]
    finder = Finder(paths.spans, paths.of_rows, len(paths), shown, threads=threads, check=context.check)
    slowest = finder.longest((window.start_ns, window.end_ns) if window else None)
    return {
        "id": shown.tolist(),
        "parentId": [parent or None for parent in paths.parent[shown].tolist()],
        "functionName": [label.name for label in labels],
        "moduleName": [label.module for label in labels],
        "value": chosen.weights.value[shown].tolist(),
        "total": (chosen.below if chosen.adds_up else chosen.weights.value)[shown].tolist(),
        "count": chosen.weights.count[shown].tolist(),
        "slowestSpanId": ids_of(paths.spans, slowest),
    }


METHODS = [
    Method(
        "trace.flamegraph",
        FlamegraphParams,
        Flamegraph,
        run,
        "What calls weigh by call path: folded stacks, or a tree of nodes, pruned to the largest.",
    )
]
