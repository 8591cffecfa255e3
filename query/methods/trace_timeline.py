"""trace.timeline: a window of a trace as a viewer draws it: at most two cells a pixel, for each thread and depth."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from atf._core.timeline import Lanes
from atf.query import scratch
from atf.query.chunks import chunks
from atf.query.context import Context
from atf.query.pages import Shape, fit_columns, invalid
from atf.query.params import Params, Result
from atf.query.rpc import Method
from atf.query.spanset import Refs, SpanSet
from atf.query.traces import View

METADATA_BYTES = 4096
CELL_BYTES = {"rows": 190, "columns": 110}  # about what a cell takes, with its spanId
SPAN_ID_BYTES = 45
LEGIBLE_PX = 50  # below, the deepest lanes are left out rather than that all are drawn coarser
Time = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class TimelineParams(Params):
    """startNs, endNs: the window, both inclusive; default: the whole trace. widthPx: cells are not narrower than the window by this.

    maxDepth: depths below are not shown; 0: roots only.
    """

    trace_id: str
    start_ns: Time | None = None
    end_ns: Time | None = None
    width_px: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    thread_ids: list[int] | None = None
    max_depth: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 30
    include_span_ids: bool = True
    shape: Shape = "rows"


class Cell(Result):
    """count spans of one thread and depth that begin within one cellNs, or began before the window and reach into it. One that
    takes cellNs or more stands alone, unless spans of its depth overlap (generators and coroutines).

    startNs: of the first begun, endNs: of the last ended, also where that lies outside the window. functionName: of the function that
    took most of their time; of many spans without overlap, 32 at equal distances are looked at. spanId: when it is one span.
    """

    thread_id: int
    depth: int
    start_ns: int
    end_ns: int
    function_name: str
    count: int
    span_id: str | UnsetType | None = UNSET


class Timeline(Result):
    """cells: by depth, then thread, then time. widthPx, cellNs: the resolution; coarser than asked for when the answer would be too large,
    and then didTruncate. deepest: the largest depth in these threads. hiddenLanes: threads and depths that did not fit, the deepest
    ones."""

    start_ns: int
    end_ns: int
    start_relative_ns: int
    width_px: int
    cell_ns: int
    deepest: int
    cells: list[Cell] | dict[str, list[Any]]
    cell_count: int
    execution_time_ms: float
    hidden_lanes: int | UnsetType = UNSET
    did_truncate: bool | UnsetType = UNSET
    growing: bool | UnsetType = UNSET
    as_of_ns: int | UnsetType = UNSET


def lanes_of(view: View, thread: int, context: Context) -> Lanes:
    """The lanes of a thread; made at the first question. 4 bytes a span beside the columns."""

    def make(view: View) -> Lanes:
        import numpy

        spans = SpanSet.of(view)
        length = spans.thread_length(thread)
        columns: dict[str, Any] = {}
        for rows in chunks(spans, frozenset([thread]), context.check):
            first = int(rows.row[0])
            for name, kind in {"start_ns": "u8", "end_ns": "u8", "function": "u4", "depth": "u4"}.items():
                if name not in columns:
                    columns[name] = scratch.array(length, kind)
                columns[name][first : first + len(rows)] = getattr(rows, name)
        none = numpy.zeros(0, dtype="u8")
        return Lanes(**columns) if columns else Lanes(none, none, none.astype("u4"), none)

    made: Lanes = view.once(("timeline", thread), make)
    return made


def run(context: Context, params: TimelineParams) -> Timeline:
    view = context.traces.view(params.trace_id)
    spans = SpanSet.of(view)
    start = view.start_ns if params.start_ns is None else params.start_ns
    end = int(view.info["time_end_ns"] or start) if params.end_ns is None else params.end_ns
    if end < start:
        raise invalid("endNs", "is before startNs", f"this trace is from {view.start_ns} to {view.info['time_end_ns']}")
    chosen = spans.thread_positions(params.thread_ids)
    lanes = [(t, lanes_of(view, t, context)) for t in range(len(spans.threads)) if chosen is None or t in chosen]
    shown = sorted((depth, t, of) for t, of in lanes for depth in range(min(len(of), params.max_depth + 1)))
    room = context.answer_bytes - METADATA_BYTES
    most = max(1, room // (CELL_BYTES[params.shape] - SPAN_ID_BYTES * (not params.include_span_ids)))
    # Lanes without a span in the window take no place.
    drawn = [(depth, t, of) for depth, t, of in shown if len(of.draw(depth, start, end, end - start + 1)["count"])]
    hidden, drawn = max(0, len(drawn) - most), drawn[:most]
    wanted = min(params.width_px, end - start + 1)
    width = _width(drawn, start, end, wanted, most, context)
    if width < min(wanted, LEGIBLE_PX):
        shallow = _shallow(drawn, start, end, min(wanted, LEGIBLE_PX), most)
        hidden, drawn = hidden + len(drawn) - len(shallow), shallow
        width = _width(drawn, start, end, wanted, most, context)
    cell_ns = -(-(end - start + 1) // width)
    columns = _cells(drawn, start, end, cell_ns, context)
    content, count = fit_columns(lambda n: _members(spans, columns, n, params.include_span_ids), len(columns["count"]), params.shape, room)
    result = Timeline(
        start_ns=start,
        end_ns=end,
        start_relative_ns=start - view.start_ns,
        width_px=width,
        cell_ns=cell_ns,
        deepest=max((len(of) for _, of in lanes), default=0) - 1,
        cells=content,
        cell_count=count,
        execution_time_ms=context.elapsed_ms,
        hidden_lanes=hidden or UNSET,
    )
    if hidden or width < min(params.width_px, end - start + 1) or count < len(columns["count"]):
        result.did_truncate = True
    if view.growing:
        result.growing, result.as_of_ns = True, view.info["time_end_ns"]
    return result


def _width(drawn: list[tuple[int, int, Lanes]], start: int, end: int, wanted: int, most: int, context: Context) -> int:
    """The largest number of pixels, halving from what is wanted by way of LEGIBLE_PX, with which the cells are at most `most`."""
    width = wanted
    while width > 1:
        cells = 0
        for depth, _, of in drawn:
            context.check("narrow the window, name threads, or ask for a smaller maxDepth")
            cells += of.count(depth, start, end, -(-(end - start + 1) // width), most)
            if cells > most:
                break
        if cells <= most:
            break
        width = LEGIBLE_PX if width // 2 < LEGIBLE_PX < width else max(1, width // 2)
    return width


def _shallow(drawn: list[tuple[int, int, Lanes]], start: int, end: int, width: int, most: int) -> list[tuple[int, int, Lanes]]:
    """As many lanes from the front as take at most `most` cells at this width; at least all of the first depth."""
    cells, kept = 0, 0
    for depth, _, of in drawn:
        cells += of.count(depth, start, end, -(-(end - start + 1) // width), most)
        if cells > most:
            break
        kept += 1
    return drawn[: max(kept, sum(depth == drawn[0][0] for depth, _, _ in drawn))]


def _cells(drawn: list[tuple[int, int, Lanes]], start: int, end: int, cell_ns: int, context: Context) -> dict[str, Any]:
    import numpy

    found: dict[str, list[Any]] = {name: [] for name in ("thread", "depth", "start_ns", "end_ns", "function", "count", "row")}
    for depth, thread, of in drawn:
        context.check("narrow the window, name threads, or ask for a smaller maxDepth")
        cells = of.draw(depth, start, end, cell_ns)
        cells |= {"thread": numpy.full(len(cells["count"]), thread), "depth": numpy.full(len(cells["count"]), depth)}
        for name, values in found.items():
            values.append(cells[name])
    return {name: numpy.concatenate(values) if values else numpy.zeros(0, dtype=int) for name, values in found.items()}


def _members(spans: SpanSet, columns: dict[str, Any], count: int, span_ids: bool) -> dict[str, list[Any]]:
    import numpy

    tids, names = [t.tid for t in spans.threads], [f.name for f in spans.functions]
    first = {name: values[:count] for name, values in columns.items()}
    members = {
        "threadId": [tids[t] for t in first["thread"].tolist()],
        "depth": first["depth"].tolist(),
        "startNs": first["start_ns"].tolist(),
        "endNs": first["end_ns"].tolist(),
        "functionName": [names[key] for key in first["function"].tolist()],
        "count": first["count"].tolist(),
    }
    if span_ids:
        ids: list[Any] = [UNSET] * len(first["count"])
        single = numpy.flatnonzero(first["count"] == 1)
        refs = Refs(first["thread"][single].astype(numpy.uint32), first["row"][single].astype(numpy.int64))
        for at, span_id in zip(single.tolist(), spans.span_ids(spans.gather(refs))):
            ids[at] = span_id
        members["spanId"] = ids
    return members


METHODS = [
    Method(
        "trace.timeline",
        TimelineParams,
        Timeline,
        run,
        "A window as a viewer draws it: by thread and depth, at most two cells a pixel.",
    )
]
