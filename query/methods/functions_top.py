"""functions.top: where the time goes, by function, module, file or thread."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from atf.query.context import Context
from atf.query.methods.spans_list import METADATA_BYTES
from atf.query.pages import Limit, Offset, Shape, fit_columns, invalid, page_metadata, query_of, read_cursor
from atf.query.params import Params, Result
from atf.query.rpc import Method
from atf.query.spangroups import Group, Groups, Totals
from atf.query.spanrows import SpanFilters, SpansMetadata, filter_of, unmatched
from atf.query.spanset import Filter, SpanSet
from atf.query.traces import View

PERCENTS = {"p50": 50, "p95": 95, "p99": 99}
By = Literal["self", "total", "count", "mean", "min", "max", "p50", "p95", "p99", "exceptions"]


class FunctionsTopParams(Params):
    """filters: as of spans.list; only spans that pass them are summed."""

    trace_id: str
    by: By = "self"
    group: Literal["function", "module", "file", "thread"] = "function"
    filters: SpanFilters = msgspec.field(default_factory=SpanFilters)
    offset: Offset = 0
    limit: Limit = 20
    cursor: str | None = None
    shape: Shape = "rows"


class FunctionRow(Result):
    """One group. Times are active times: what a span was suspended is left out. totalNs counts recursion once, meanNs is the sum of
    all by count, percentiles are nearest-rank."""

    count: int
    total_ns: int
    self_ns: int
    min_ns: int
    max_ns: int
    mean_ns: int
    p50_ns: int
    p95_ns: int
    p99_ns: int
    exceptions: int
    function_name: str | UnsetType = UNSET
    module_name: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    thread_id: int | UnsetType = UNSET
    thread_name: str | UnsetType = UNSET


class FunctionsTop(Result):
    functions: list[FunctionRow] | dict[str, list[Any]]
    metadata: SpansMetadata


def run(context: Context, params: FunctionsTopParams) -> FunctionsTop:
    if params.cursor and params.offset:
        raise invalid("offset", "was given beside cursor", "give one of the two")
    first = read_cursor(params.cursor, query_of(params), 1)[0] + 1 if params.cursor else params.offset
    view = context.traces.view(params.trace_id)
    spans = SpanSet.of(view, context.check)
    wanted = filter_of(spans, params.filters)
    sums = spans.totals(wanted, params.group, context.check)
    order = _order(context, view, spans, wanted, sums, params)
    page = order[first : first + params.limit]
    content, count = fit_columns(
        lambda n: _columns(context, spans, wanted, sums, params.group, page[:n]),
        len(page),
        params.shape,
        context.answer_bytes - METADATA_BYTES,
    )
    more = first + count < len(order)
    metadata = page_metadata(
        SpansMetadata, context, view, params, len(order), count, more, (first + count - 1,), unmatched=unmatched(spans)
    )
    return FunctionsTop(functions=content, metadata=metadata)


def _order(context: Context, view: View, spans: SpanSet, wanted: Filter, sums: Totals, params: FunctionsTopParams) -> Any:
    """Numbers of the groups that have spans, the most first; ties by name."""
    import numpy

    some = numpy.flatnonzero(sums.count)
    if params.by in PERCENTS:
        value = spans.percentiles(wanted, params.group, some.tolist(), [PERCENTS[params.by]], context.check)[:, 0]
    elif params.by == "mean":
        value = sums.active_ns[some] // sums.count[some]
    else:
        arrays = {"self": sums.self_ns, "total": sums.total_ns, "count": sums.count, "min": sums.min_ns, "max": sums.max_ns}
        value = arrays.get(params.by, sums.exceptions)[some]
    rank = view.once(("spans.ranks", params.group), lambda view: _ranks(sums.groups))
    return some[numpy.lexsort((rank[some], ~value))]


def _ranks(groups: Groups) -> Any:
    """The place of each group in the order of names."""
    import numpy

    order = sorted(range(len(groups.labels)), key=lambda n: (*groups.labels[n][:4], groups.labels[n].tid or 0, n))
    ranks = numpy.empty(len(order), dtype=numpy.int64)
    ranks[order] = numpy.arange(len(order))
    return ranks


def _columns(context: Context, spans: SpanSet, wanted: Filter, sums: Totals, group: Group, page: Any) -> dict[str, list[Any]]:
    import numpy

    labels = [sums.groups.labels[number] for number in page.tolist()]
    if group == "thread":
        names: dict[str, list[Any]] = {"threadId": [label.tid for label in labels], "threadName": [label.name for label in labels]}
    elif group == "file":
        names = {"file": [label.file for label in labels]}
    else:
        names = {"moduleName": [label.module for label in labels]}
        if group == "function":
            names = {"functionName": [label.name for label in labels], **names, "file": [label.file for label in labels]}
            names["line"] = [label.line for label in labels]
    ranks = spans.percentiles(wanted, group, page.tolist(), list(PERCENTS.values()), context.check)
    return {
        **names,
        "count": sums.count[page].tolist(),
        "totalNs": sums.total_ns[page].tolist(),
        "selfNs": sums.self_ns[page].tolist(),
        "minNs": sums.min_ns[page].tolist(),
        "maxNs": sums.max_ns[page].tolist(),
        "meanNs": (sums.active_ns[page] // numpy.maximum(sums.count[page], 1)).tolist(),
        **{f"{name}Ns": ranks[:, n].tolist() for n, name in enumerate(PERCENTS)},
        "exceptions": sums.exceptions[page].tolist(),
    }


METHODS = [
    Method(
        "functions.top",
        FunctionsTopParams,
        FunctionsTop,
        run,
        "Where the time goes: count, total, self, min, max, mean, percentiles and exceptions by function, module, file or thread.",
    )
]
