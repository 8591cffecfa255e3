"""trace.summary: a short text about a whole trace, for a person or a program that reads, and what each sentence rests on."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from atf.query import findings_time, findings_trouble
from atf.query.context import Context
from atf.query.findings import BYTES_A_TOKEN, KINDS, Claim, Finder, Kind, Subject, fitting, line
from atf.query.params import Params, Result
from atf.query.rpc import Method
from atf.query.traces import View

# Each finder is asked once a view, and only when a kind that it finds is wanted.
_FINDERS: dict[Finder, tuple[Kind, ...]] = {
    findings_trouble.overview: ("overview",),
    findings_trouble.lost: ("lost",),
    findings_trouble.raised: ("exception",),
    findings_trouble.unended: ("open",),
    findings_time.by_function: ("self", "outlier"),
    findings_time.hot_path: ("path",),
    findings_time.slowest: ("slowest",),
    findings_time.repetition: ("repetition",),
}


class SummaryParams(Params):
    """maxTokens bounds the text; a token is counted as four bytes. focus: only these kinds of claims; default: all."""

    trace_id: str
    max_tokens: Annotated[int, msgspec.Meta(ge=50, le=20_000)] = 1000
    focus: list[Kind] | None = None


class Summary(Result):
    """text: a line a claim, with the first span or event that it rests on. claims: the same sentences in the same order.

    omitted: how many claims of each kind were found, but did not fit.
    """

    text: str
    claims: list[Claim]
    omitted: dict[Kind, int]
    did_truncate: bool
    estimated_tokens: int
    execution_time_ms: float
    growing: bool | UnsetType = UNSET
    as_of_ns: int | UnsetType = UNSET


def _found(context: Context, view: View, finder: Finder) -> list[Claim]:
    made: list[Claim] = view.once(("summary", finder.__name__), lambda view: finder(Subject(view, context.check)))
    return made


def run(context: Context, params: SummaryParams) -> Summary:
    view = context.traces.view(params.trace_id)
    kinds: tuple[Kind, ...] = KINDS if params.focus is None else tuple(kind for kind in KINDS if kind in params.focus)
    claims = [claim for finder, of in _FINDERS.items() if set(of) & set(kinds) for claim in _found(context, view, finder)]
    claims = [claim for claim in claims if claim.kind in kinds]
    room = params.max_tokens * BYTES_A_TOKEN
    shown = fitting(claims, kinds, room)
    while len(msgspec.json.encode(shown)) > context.answer_bytes * 2 // 3:  # the text holds the sentences once more
        room = room * 3 // 4
        shown = fitting(claims, kinds, room)
    text = "\n".join(map(line, shown))
    omitted = {kind: n for kind in kinds if (n := sum(c.kind == kind for c in claims) - sum(c.kind == kind for c in shown))}
    result = Summary(
        text=text,
        claims=shown,
        omitted=omitted,
        did_truncate=bool(omitted),
        estimated_tokens=-(-len(text.encode()) // BYTES_A_TOKEN),
        execution_time_ms=context.elapsed_ms,
    )
    if view.growing:
        result.growing, result.as_of_ns = True, view.info["time_end_ns"]
    return result


METHODS = [
    Method(
        "trace.summary",
        SummaryParams,
        Summary,
        run,
        "What ran, what went wrong and where the time went, in sentences, each with the spans and events it rests on.",
    )
]
