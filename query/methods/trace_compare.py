"""trace.compare: two traces, and what appears, vanishes, or changes count or time between them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from atf.query import comparison, divergence
from atf.query.alignment import pair_threads
from atf.query.changes import Changes, Wanted
from atf.query.comparison import CONFIDENCE, QUARTILES, Drift, Side, Sums
from atf.query.context import Context
from atf.query.examples import ids_of
from atf.query.pages import Limit, Metadata, Offset, fit, page_metadata, query_of, read_cursor
from atf.query.params import Params, Result
from atf.query.rpc import Method
from atf.query.spangroups import Label

METADATA_BYTES = 24_000
MOST_THREADS = 50
MOST_CALLERS, MOST_SIBLINGS = 40, 40
Kind = Literal["appeared", "vanished", "count", "time"]
Confidence = Literal["noise", "possible", "likely", "certain"]
_KINDS = ("appeared", "vanished", "count", "time")


class CompareParams(Params):
    """traceId: before; other: after. by: functions (by module and name), or call paths. metric: the time by which changes are ranked.

    minChange: a count, or a call's time, that changed by a smaller share of the larger one is no change. confidence: what is less sure
    is left out. changes: only these. divergence: look for the first divergence too, which takes as long again in traces of millions of calls.
    """

    trace_id: str
    other: str
    by: Literal["functions", "paths"] = "functions"
    metric: Literal["self", "total"] = "self"
    min_change: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    confidence: Confidence = "possible"
    changes: list[Kind] | None = None
    offset: Offset = 0
    limit: Limit = 20
    cursor: str | None = None
    divergence: bool = True


class Measures(Result):
    """Of one trace. totalNs: active time, recursion once. meanNs, percentiles, and the spans: of one call's time, self time or with metric
    total active time. typicalSpanId: the first span that took as long as the median."""

    count: int
    total_ns: int
    self_ns: int
    mean_ns: int
    p25_ns: int
    p50_ns: int
    p75_ns: int
    slowest_span_id: str | None
    typical_span_id: str | None


class Change(Result):
    """A function or path that differs. before, after: null where it is not. path: from the root, by paths.

    timeRatio: of meanNs, after by before; null where one is 0 or missing. medianShift, meanShift: how far p50Ns and meanNs moved beyond the
    drift, in standard errors that follow from the quartiles, or deviations, in both traces; againstDrift: the same in spreads of the
    drift; null where there are too few calls, or functions, to know. pathsBelow: of a path that appeared or vanished, those that did
    with it.
    """

    changes: list[Kind]
    confidence: Confidence
    function_name: str
    module_name: str
    file: str
    line: int
    before: Measures | None
    after: Measures | None
    count_delta: int
    total_delta_ns: int
    self_delta_ns: int
    time_ratio: float | None
    median_shift: float | None
    mean_shift: float | None
    against_drift: float | None
    path: list[str] | UnsetType = UNSET
    paths_below: int | UnsetType = UNSET


class Whole(Result):
    trace_id: str
    duration_ns: int
    events: int
    spans: int
    threads: int


class DriftSaid(Result):
    """ratio: how much longer a call took after than before, in the median of all functions; spread: a ratio, by which functions differ
    from that. functions: that were called often enough in both; both are null when they are too few."""

    ratio: float | None
    spread: float | None
    functions: int


class ThreadPair(Result):
    """A thread of each that do the same by name; null: there is none. selfNs: the time that anything ran on it."""

    name: str
    before_thread_id: int | None
    after_thread_id: int | None
    before_self_ns: int
    after_self_ns: int


class Called(Result):
    """A call of one of the traces."""

    function_name: str
    module_name: str
    span_id: str


class Sibling(Result):
    """Calls of one function by the same caller, one after the other. change: same (both traces have them), vanished or appeared."""

    change: Literal["same", "vanished", "appeared"]
    name: str
    count: int


class Divergence(Result):
    """The first call that is not the same in both: until then, each thread made calls of the same functions in the same order, each by the same
    caller. path: the callers, from the root on; position: how many calls the last of them had made until then. before, after: the
    next call that it made; null: it made no more. siblings: its calls around there, side by side. afterNs: since the begin of the trace.
    """

    thread_name: str
    before_thread_id: int | None
    after_thread_id: int | None
    path: list[str]
    position: int
    before: Called | None
    after: Called | None
    siblings: list[Sibling]
    after_ns: int


class Comparison(Result):
    """counts: groups by what became of them, whatever was asked for: appeared, vanished, count (changed by minChange or more), time (likely or
    possible), same. firstDivergence: null when all calls are the same; on the first page only, and when it was looked for. threads: the pairs whose
    time differs most."""

    before: Whole
    after: Whole
    drift: DriftSaid
    counts: dict[str, int]
    changes: list[Change]
    threads: list[ThreadPair]
    metadata: Metadata
    first_divergence: Divergence | UnsetType | None = UNSET


def run(context: Context, params: CompareParams) -> Comparison:
    sides = [
        Side(context.traces.view(id), "self" if params.metric == "self" else "active", context.check)
        for id in (params.trace_id, params.other)
    ]
    first = read_cursor(params.cursor, query_of(params), 1)[0] + 1 if params.cursor else params.offset
    found, drift = _changes(sides[0], sides[1], params)
    page = found.order[first : first + params.limit]
    rows, count = fit(_rows(found, page), "rows", context.answer_bytes - METADATA_BYTES)
    more = first + count < len(found.order)
    metadata = page_metadata(Metadata, context, sides[0].view, params, len(found.order), count, more, (first + count - 1,))
    if sides[1].view.growing:
        metadata.growing, metadata.as_of_ns = True, sides[1].view.info["time_end_ns"]
    return Comparison(
        first_divergence=_divergence(*sides) if first == 0 and params.divergence else UNSET,
        before=_whole(sides[0]),
        after=_whole(sides[1]),
        drift=DriftSaid(
            ratio=round(math.exp(drift.centre), 4) if drift.known else None,
            spread=round(math.exp(drift.spread), 4) if drift.known else None,
            functions=drift.functions,
        ),
        counts=found.counts,
        changes=rows,
        threads=_threads(*sides),
        metadata=metadata,
    )


def _changes(before: Side, after: Side, params: CompareParams) -> tuple[Changes, Drift]:
    import numpy

    wanted = Wanted(params.metric, params.min_change, CONFIDENCE.index(params.confidence), params.changes or _KINDS)
    shared = comparison.share_functions(before, after)
    sums = [side.sums(len(shared)) for side in (before, after)]
    everyone = numpy.arange(len(shared))
    medians = [side.finder(len(shared), everyone).spread([50])[0][:, 0] for side in (before, after)]
    drift = comparison.drift_of(sums[0], sums[1], medians[0], medians[1])
    if params.by == "paths":
        shared = comparison.share_paths(before, after)
        sums = [side.sums(len(shared)) for side in (before, after)]
    return Changes(shared, sums[0], sums[1], drift, wanted), drift


def _divergence(before: Side, after: Side) -> Divergence | None:
    shared = comparison.share_functions(before, after)
    found = divergence.first_divergence(before, after)
    if found is None:
        return None
    threads = [divergence.thread_of(side, at) for side, at in zip((before, after), found.threads)]
    side, at = next((side, at) for side, at in zip((before, after), found.threads) if at is not None)
    path = [_name(shared.names[number]) for number in divergence.path_of(side, at, found.caller)]
    if len(path) > MOST_CALLERS:
        path = [*path[: MOST_CALLERS // 2], "…", *path[-MOST_CALLERS // 2 :]]
    calls: list[Called | None] = []
    for side, of, row in zip((before, after), found.threads, found.rows):
        if of is None or row is None:
            calls.append(None)
            continue
        rows = side.spans.rows(of, row, row + 1)
        function = side.spans.functions[int(rows.function[0])]
        calls.append(Called(function_name=function.name, module_name=function.module, span_id=side.spans.span_ids(rows)[0]))
    words: dict[str, Literal["same", "vanished", "appeared"]] = {"both": "same", "before": "vanished", "after": "appeared"}
    return Divergence(
        thread_name=str(next(thread for thread in threads if thread is not None).name),
        before_thread_id=threads[0].tid if threads[0] else None,
        after_thread_id=threads[1].tid if threads[1] else None,
        path=path,
        position=found.position,
        before=calls[0],
        after=calls[1],
        siblings=[
            Sibling(change=words[one.side], name=_name(shared.names[one.group]), count=one.count) for one in found.siblings[:MOST_SIBLINGS]
        ],
        after_ns=found.after_ns,
    )


def _name(label: Label) -> str:
    return f"{label.module}.{label.name}" if label.module else label.name


def _measures(side: Side, sums: Sums, size: int, page: Any) -> list[Measures | None]:
    finder = side.finder(size, page)
    quartiles = finder.spread(QUARTILES)[0]
    slowest, typical = ids_of(side.spans, finder.longest()), ids_of(side.spans, finder.with_time(quartiles[:, 1].copy()))
    return [
        Measures(
            count=count,
            total_ns=int(sums.total_ns[group]),
            self_ns=int(sums.self_ns[group]),
            mean_ns=int((sums.self_ns if side.time == "self" else sums.active_ns)[group]) // count,
            p25_ns=low,
            p50_ns=middle,
            p75_ns=high,
            slowest_span_id=slowest[at],
            typical_span_id=typical[at],
        )
        if (count := int(sums.count[group]))
        else None
        for at, (group, (low, middle, high)) in enumerate(zip(page.tolist(), quartiles.tolist()))
    ]


def _rows(found: Changes, page: Any) -> list[Change]:
    shared, sums = found.shared, (found.before, found.after)
    sides = [_measures(side, of, len(shared), page) for side, of in zip((shared.before, shared.after), sums)]
    rows = []
    for group, before, after in zip(page.tolist(), *sides):
        label = shared.names[shared.label[group]]
        delta = {name: int(getattr(sums[1], name)[group]) - int(getattr(sums[0], name)[group]) for name in ("count", "total_ns", "self_ns")}
        row = Change(
            changes=found.kinds(group),  # type: ignore[arg-type]
            confidence=CONFIDENCE[found.confidence[group]],  # type: ignore[arg-type]
            function_name=label.name,
            module_name=label.module,
            file=label.file,
            line=label.line,
            before=before,
            after=after,
            count_delta=delta["count"],
            total_delta_ns=delta["total_ns"],
            self_delta_ns=delta["self_ns"],
            time_ratio=round(after.mean_ns / before.mean_ns, 4) if before and after and before.mean_ns and after.mean_ns else None,
            median_shift=_known(found.median_shift[group]),
            mean_shift=_known(found.mean_shift[group]),
            against_drift=_known(found.against_drift[group]),
        )
        if shared.parent is not None:
            row.path = [_name(one) for one in shared.path(group)]
            if before is None or after is None:
                row.paths_below = int(found.below[group])
        rows.append(row)
    return rows


def _known(value: Any) -> float | None:
    return None if math.isnan(value) else round(float(value), 2)


def _whole(side: Side) -> Whole:
    info = side.view.info
    return Whole(
        trace_id=side.view.id,
        duration_ns=info["duration_ns"] or 0,
        events=info["events"],
        spans=len(side.spans),
        threads=len(side.spans.threads),
    )


def _threads(before: Side, after: Side) -> list[ThreadPair]:
    sums = [side.spans.totals(group="thread", check=side.check).self_ns.tolist() for side in (before, after)]
    found = []
    for one, other in pair_threads(before.spans.threads, after.spans.threads):
        a, b = (None if at is None else side.spans.threads[at] for at, side in ((one, before), (other, after)))
        found.append(
            ThreadPair(
                name=str((a or b).name),  # type: ignore[union-attr]
                before_thread_id=a.tid if a else None,
                after_thread_id=b.tid if b else None,
                before_self_ns=0 if one is None else sums[0][one],
                after_self_ns=0 if other is None else sums[1][other],
            )
        )
    return sorted(found, key=lambda pair: -abs(pair.after_self_ns - pair.before_self_ns))[:MOST_THREADS]


METHODS = [
    Method(
        "trace.compare",
        CompareParams,
        Comparison,
        run,
        "Two traces: functions or call paths that appear, vanish, or change count or time, with how sure that is.",
    )
]
