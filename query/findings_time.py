"""Claims about where the time went."""

from __future__ import annotations

from typing import Any

from atf.query.callpaths import CallPaths
from atf.query.chunks import chunks
from atf.query.examples import Finder, ids_of
from atf.query.findings import Claim, Kind, Subject
from atf.query.spanset import ANY, Ref, Refs
from atf.query.words import duration, named, number, share

_MOST = 5
_OFTEN = 20  # calls that make a median worth a comparison, and that make a repetition
_FAR = 10  # times the median, and
_WORTH = 0.005  # of all time
_BRANCH = 0.5  # of the root's time: below that there is no single hot path
_CANDIDATES = 8


def _of_function(subject: Subject, kind: Kind, label: int, text: str, value: float, unit: Any, spans: list[str]) -> Claim:
    one = subject.labels[label]
    return Claim(kind=kind, text=text, value=value, unit=unit, span_ids=spans, event_ids=[], function_name=one.name, module_name=one.module)


def by_function(subject: Subject) -> list[Claim]:
    """Self time, outliers and the slowest calls: all of them questions to the times that calls of a function took themselves."""
    import numpy

    totals = subject.spans.totals(ANY, "function", subject.check)
    everyone = numpy.arange(len(subject.labels))
    finder = Finder(subject.spans, lambda rows: subject.member[rows.function], len(everyone), everyone, "self", check=subject.check)
    longest = finder.longest()
    median = finder.spread([50])[0][:, 0] if len(everyone) else numpy.zeros(0, dtype=numpy.uint64)
    called = numpy.flatnonzero(longest.row >= 0)
    if not len(called):
        return []
    largest = numpy.zeros(len(everyone), dtype=numpy.int64)
    largest[called] = subject.spans.gather(Refs(longest.thread[called], longest.row[called])).self_ns.astype(numpy.int64)
    spans = ids_of(subject.spans, longest)
    whole = int(totals.self_ns.sum())
    claims = []
    for label in numpy.argsort(~totals.self_ns, kind="stable")[:_MOST].tolist():
        count, took = int(totals.count[label]), int(totals.self_ns[label])
        if count and took:
            text = f"{named(subject.labels[label])} took {duration(took)} itself, {share(took, whole)} of all, in {number(count, 'call')}"
            claims.append(_of_function(subject, "self", label, text, took, "ns", [id for id in [spans[label]] if id]))
    above = largest - median.astype(numpy.int64)
    usual = numpy.maximum(median.astype(numpy.int64), 1)
    far = numpy.flatnonzero((totals.count >= numpy.uint64(_OFTEN)) & (largest >= _FAR * usual) & (above >= _WORTH * whole))
    far = far[numpy.argsort(-above[far], kind="stable")][:_MOST]
    finder = Finder(subject.spans, lambda rows: subject.member[rows.function], len(everyone), far, "self", check=subject.check)
    typical = ids_of(subject.spans, finder.with_time(median[far])) if len(far) else []
    for at, label in enumerate(far.tolist()):
        times = round(int(largest[label]) / int(usual[label]), 1)
        text = (
            f"one call of {named(subject.labels[label])} took {duration(int(largest[label]))} itself, {times:,.0f} times the median of "
            f"{duration(int(median[label]))} of {number(int(totals.count[label]), 'call')}"
        )
        claims.append(_of_function(subject, "outlier", label, text, times, "times", [id for id in (spans[label], typical[at]) if id]))
    return claims


def slowest(subject: Subject) -> list[Claim]:
    """The calls that took longest themselves, of functions that were called more than once: of others the sum says as much."""
    claims: list[Claim] = []
    count = subject.spans.totals(ANY, "function", subject.check).count
    refs = subject.spans.select(order="self", ascending=False, limit=2 * _MOST, check=subject.check).refs
    rows = subject.spans.gather(refs)
    for at, span_id in enumerate(subject.spans.span_ids(rows)):
        took, label = int(rows.self_ns[at]), int(subject.member[int(rows.function[at])])
        if took and count[label] > 1 and len(claims) < _MOST:
            thread = subject.spans.threads[int(rows.thread[at])]
            text = (
                f"a call of {named(subject.labels[label])} took {duration(took)} itself ({duration(int(rows.active_ns[at]))} with what it "
                f"called), from +{duration(subject.since_start(int(rows.start_ns[at])))} on thread {thread.name} ({thread.tid})"
            )
            claims.append(_of_function(subject, "slowest", label, text, took, "ns", [span_id]))
    return claims


def hot_path(subject: Subject) -> list[Claim]:
    """From the heaviest root always on to the heaviest callee, as long as that has half of the root's time."""
    import numpy

    paths = CallPaths.of(subject.view, check=subject.check)
    value = paths.weigh("self", check=subject.check).value
    below = paths.rolled_up(value)
    whole = int(below[0])
    chain: list[int] = []
    most = numpy.zeros(len(paths), dtype=numpy.uint64)
    numpy.maximum.at(most, paths.parent[1:], below[1:])
    # Of each path the callee with the most, the first of equal ones: assigned last.
    best = numpy.flatnonzero(below[1:] == most[paths.parent[1:]])[::-1] + 1
    heaviest = numpy.zeros(len(paths), dtype=numpy.int64)
    heaviest[paths.parent[best]] = best
    at = int(heaviest[0])
    while at and below[at] and below[at] >= _BRANCH * below[chain[0] if chain else at]:
        chain.append(at)
        at = int(heaviest[at])
    if not chain:
        return []
    longest = Finder(subject.spans, paths.of_rows, len(paths), numpy.array(chain), check=subject.check).longest()
    names = [named(paths.labels[paths.label[path]]) for path in chain]
    shown = names if len(names) <= 8 else [*names[:3], "…", *names[-4:]]
    end = int(below[chain[-1]])
    text = f"{share(end, whole)} of all time ({duration(end)}) was spent in {' → '.join(shown)} and below"
    label = int(paths.label[chain[-1]])
    ids = [id for id in ids_of(subject.spans, longest) if id]
    return [_of_function(subject, "path", label, text, end, "ns", ids[::-1][:8])]


def repetition(subject: Subject) -> list[Claim]:
    """Calls that one call made very often of the same function: what a loop over single questions looks like."""
    import numpy

    paths = CallPaths.of(subject.view, check=subject.check)
    weights = paths.weigh("active", check=subject.check)
    often = numpy.flatnonzero((weights.count >= _OFTEN) & (paths.parent > 0))
    often = often[numpy.argsort(~weights.value[often], kind="stable")][:_CANDIDATES]
    place = numpy.full(len(paths), -1, dtype=numpy.int64)
    place[often] = numpy.arange(len(often))
    callers: dict[int, list[tuple[int, Any, Any]]] = {}
    for rows in chunks(subject.spans, check=subject.check) if len(often) else ():
        of = place[paths.of_rows(rows)]
        for candidate in numpy.unique(of[of >= 0]).tolist():
            mine = numpy.flatnonzero(of == candidate)
            callers.setdefault(candidate, []).append((int(rows.thread[0]), rows.parent[mine], rows.row[mine]))
    claims = []
    for candidate, parts in callers.items():
        best: tuple[int, Ref, list[Ref]] | None = None
        for thread in sorted({part[0] for part in parts}):
            parents = numpy.concatenate([part[1] for part in parts if part[0] == thread])
            rows_of = numpy.concatenate([part[2] for part in parts if part[0] == thread])
            found, counts = numpy.unique(parents, return_counts=True)
            top = int(numpy.argmax(counts))
            if best is None or counts[top] > best[0]:
                mine = rows_of[parents == found[top]]
                best = int(counts[top]), (thread, int(found[top])), [(thread, int(mine[0])), (thread, int(mine[-1]))]
        if best is None or best[0] < _OFTEN:
            continue
        count, caller, ends = best
        path = int(often[candidate])
        took = int(weights.value[path]) * count // int(weights.count[path])
        inner, outer = (named(paths.labels[paths.label[one]]) for one in (path, int(paths.parent[path])))
        calls = int(weights.count[int(paths.parent[path])])
        text = f"one call of {outer} called {inner} {count:,} times, about {duration(took)}"
        text += f"; {number(calls, 'call')} of it did so {int(weights.count[path]):,} times in all" if calls > 1 else ""
        claims.append(
            (took, _of_function(subject, "repetition", int(paths.label[path]), text, count, "calls", subject.ids([caller, *ends])))
        )
    return [claim for _, claim in sorted(claims, key=lambda item: -item[0])[:_MOST]]
