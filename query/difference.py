"""Two recordings side by side, as an object: `atf.compare(before, after)`. The same answers as trace.compare's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from atf.completeness import lost_in
from atf.errors import FormatError
from atf.query.context import Context
from atf.query.methods import trace_compare
from atf.query.methods.trace_compare import Change, CompareParams, Comparison, Divergence
from atf.query.params import bind
from atf.query.rpc import RpcError
from atf.query.traces import Traces, View
from atf.trace import Trace, open_trace
from atf.trace_filters import LAST_NS
from atf.wording import clean, count, duration

_HOURS_S = 86400.0
_ROOM_BYTES = 1 << 28


class _Opened(Traces):
    """Two open traces by the names `before` and `after`."""

    def __init__(self, **traces: Trace) -> None:
        super().__init__(os.curdir, cache_size=0)
        self._views = {name: View(name, trace.path, trace, None) for name, trace in traces.items()}

    def view(self, trace_id: Any) -> View:
        return self._views[trace_id]


class Difference:
    """comparison: the result of trace.compare (atf.query.methods.trace_compare.Comparison), spans of which are named as in their traces.

    True as a bool, like the output of diff, when calls differ: a call that is not the same, a function or path that appeared, vanished,
    or was called more or less often. Times alone are never a difference. incomplete: why a side may lack records, as sentences.
    """

    def __init__(self, comparison: Comparison, incomplete: list[str]) -> None:
        self.comparison, self.incomplete = comparison, incomplete

    @property
    def first_divergence(self) -> Divergence | None:
        """The first call that is not the same in both, with its callers and what else its caller did; None: all calls are the same."""
        found = self.comparison.first_divergence
        return found if isinstance(found, Divergence) else None

    def _of(self, kind: str) -> list[Change]:
        return [change for change in self.comparison.changes if kind in change.changes]

    @property
    def appeared(self) -> list[Change]:
        """Functions, or paths, that only the second has."""
        return self._of("appeared")

    @property
    def vanished(self) -> list[Change]:
        """Functions, or paths, that only the first has."""
        return self._of("vanished")

    @property
    def counts(self) -> list[Change]:
        """What was called more or less often."""
        return self._of("count")

    @property
    def times(self) -> list[Change]:
        """What became slower or faster; each says by how much, and how sure that is."""
        return self._of("time")

    @property
    def same(self) -> bool:
        """Whether both made the same calls in the same order."""
        said = self.comparison.counts
        return self.first_divergence is None and not (said["appeared"] or said["vanished"] or self.counts)

    def __bool__(self) -> bool:
        return not self.same

    def lines(self, limit: int = 20) -> Iterator[str]:
        """The text, line by line; limit: changes of each kind that are shown."""
        whole = self.comparison
        for side, name in ((whole.before, "before"), (whole.after, "after")):
            yield f"{name.ljust(6)}  {count(side.spans)} calls, {count(side.threads)} thread{'s' * (side.threads != 1)}, {duration(side.duration_ns)}"
        for sentence in self.incomplete:
            yield f"incomplete: {sentence}"
        if self.first_divergence is not None:
            yield from _divergence(self.first_divergence)
        for title, changes in (("appeared", self.appeared), ("vanished", self.vanished), ("called more or less often", self.counts)):
            yield from _listed(title, changes, limit, _count)
        drift = whole.drift
        known = "" if drift.ratio is None else f" (all functions: ×{drift.ratio:.3g}, which is taken out)"
        yield from _listed(f"slower or faster{known}", self.times, limit, _time)
        if self.same:
            yield "the calls are the same"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        said = self.comparison.counts
        return f"<difference: {'the same calls' if self.same else 'calls differ'}; {', '.join(f'{n} {kind}' for kind, n in said.items())}>"


def _divergence(found: Divergence) -> Iterator[str]:
    yield f"first divergence, {duration(found.after_ns)} after the begin, in {clean(found.thread_name)}:"
    yield f"  {clean(' › '.join(found.path)) or 'at the top'}  after {count(found.position)} call{'s' * (found.position != 1)}"
    signs = {"same": " ", "vanished": "-", "appeared": "+"}
    differed, shown = False, 0
    for one in found.siblings:
        differed = differed or one.change != "same"
        if differed and one.change == "same" and (shown := shown + 1) > 3:
            yield "      …"
            return
        yield f"  {signs[one.change]}   {clean(one.name)}{f' ×{count(one.count)}' if one.count > 1 else ''}"


def _listed(title: str, changes: list[Change], limit: int, describe: Any) -> Iterator[str]:
    if not changes:
        return
    yield f"{title}:"
    for change in changes[:limit]:
        path = " › ".join(change.path) if isinstance(change.path, list) else ""
        name = path or (f"{change.module_name}.{change.function_name}" if change.module_name else change.function_name)
        yield f"  {clean(name)}  {describe(change)}"
    if len(changes) > limit:
        yield f"  … and {count(len(changes) - limit)} more"


def _count(change: Change) -> str:
    before, after = (side.count if side else 0 for side in (change.before, change.after))
    below = f", with {count(change.paths_below)} paths below" if isinstance(change.paths_below, int) and change.paths_below else ""
    return f"{count(before)} → {count(after)} calls{below}"


def _time(change: Change) -> str:
    before, after = change.before, change.after
    if before is None or after is None:
        return ""
    ratio = f"×{change.time_ratio:.3g}, " if change.time_ratio is not None else ""
    sure = "" if "count" in change.changes else f"{change.confidence}; "  # that a count changed is certain, and says nothing of the time
    spread = f"quartiles {duration(before.p25_ns)}-{duration(before.p75_ns)} and {duration(after.p25_ns)}-{duration(after.p75_ns)}"
    return f"{duration(before.mean_ns)} → {duration(after.mean_ns)} a call ({ratio}{sure}{spread})"


def compare(before: Any, after: Any, **options: Any) -> Difference:
    """What differs between two recordings: paths, or Trace objects. options: by, metric, min_change, confidence, changes, as those of
    trace.compare. UsageError, FormatError as `atf.open`; FormatError too when a file is cut meanwhile.
    """
    traces = {name: one if isinstance(one, Trace) else open_trace(one) for name, one in (("before", before), ("after", after))}
    params = bind(CompareParams, {**options, "trace_id": "before", "other": "after", "limit": 10_000, "divergence": True})
    try:
        found = trace_compare.run(Context(_Opened(**traces), timeout_s=_HOURS_S, answer_bytes=_ROOM_BYTES), params)
    except RpcError as why:
        raise FormatError(f"{traces['before'].path} and {traces['after'].path} cannot be compared: {why}") from None
    found = msgspec.json.decode(msgspec.json.encode(found), type=Comparison)  # its rows are JSON already, to be measured
    lost = [(name, lost_in(trace, 0, LAST_NS)) for name, trace in traces.items()]
    return Difference(found, [f"{name}: {why}" for name, why in lost if why is not None])
