"""What differs between two traces, group by group, and how sure that is when there is one trace of each.

A group is a function or a call path that both traces share by name; it has one number in both. Counts are certain. Of times
two spreads are known, and a change is measured by both: how much the calls of the group differ among themselves in each
trace, and how much all functions moved between the two (the machine, its load, its clock rate: the drift).
A change is likely when it stands out from both, possible when one of them is not known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from atf._core.paths import Paths
from atf.query.alignment import pair_functions
from atf.query.callpaths import CallPaths
from atf.query.chunks import Check
from atf.query.examples import Finder
from atf.query.spangroups import Label
from atf.query.spanset import ANY, SpanSet

if TYPE_CHECKING:
    from atf.query.traces import View

QUARTILES = (25, 50, 75)
FEW_CALLS = 4  # with fewer, quartiles say nothing
FEW_FUNCTIONS = 8  # with fewer, the drift is not known
SMALLEST_SPREAD = 0.005  # of the drift: clocks and rounding alone do as much
LARGEST_SCORE = 1000.0
SURE = 3.0  # standard errors, or spreads of the drift
NOISE, POSSIBLE, LIKELY, CERTAIN = range(4)
CONFIDENCE = ("noise", "possible", "likely", "certain")


class Sums(NamedTuple):
    """uint64 by group, 0 where this trace has none. total_ns: active time, recursion once."""

    count: Any
    total_ns: Any
    self_ns: Any
    active_ns: Any


class Side:
    """One of the two traces. number: of each of its groups (labels, or paths) the number that both traces share. time: which time of a
    call is compared."""

    def __init__(self, view: View, time: Literal["active", "self"], check: Check) -> None:
        self.view, self.spans, self.time, self.check = view, SpanSet.of(view), time, check
        self.labels: list[Label] = self.spans.groups("function").labels
        self.number: Any = None
        self.function_number: Any = None  # of each function's group the number that both traces share, also where `number` is of paths
        self.paths: CallPaths | None = None

    def group_of(self, rows: Any) -> Any:
        """The shared number of each row of a chunk."""
        own = self.paths.of_rows(rows) if self.paths else self.spans.groups("function").member[rows.function]
        return self.number[own]

    def finder(self, size: int, chosen: Any) -> Finder:
        return Finder(self.spans, self.group_of, size, chosen, self.time, check=self.check)

    def sums(self, size: int) -> Sums:
        import numpy

        if self.paths:
            by_self, active = (self.paths.weigh(weight, check=self.check) for weight in ("self", "active"))
            own = (by_self.count, active.value, by_self.value, active.value)
        else:
            totals = self.spans.totals(ANY, "function", self.check)
            own = (totals.count, totals.total_ns, totals.self_ns, totals.active_ns)
        result = Sums(*(numpy.zeros(size, dtype=numpy.uint64) for _ in own))
        for values, column in zip(own, result):
            column[self.number] = values
        return result


@dataclass
class Shared:
    """The groups of two traces. names: [Label] of each label; label, parent: of each group (parent: of paths, else None)."""

    before: Side
    after: Side
    names: list[Label]
    label: Any
    parent: Any

    def __len__(self) -> int:
        return len(self.label)

    def path(self, number: int) -> list[Label]:
        found = []
        while number and self.parent is not None:
            found.append(self.names[self.label[number]])
            number = int(self.parent[number])
        return found[::-1]


def share_functions(before: Side, after: Side) -> Shared:
    import numpy

    names: list[Label] = []
    numbers = [numpy.zeros(len(side.labels), dtype=numpy.uint32) for side in (before, after)]
    for number, (one, other) in enumerate(pair_functions(before.labels, after.labels)):
        for at, of in zip((one, other), numbers):
            if at is not None:
                of[at] = number
        names.append(after.labels[other] if other is not None else before.labels[one or 0])
    before.number, after.number = numbers
    before.function_number, after.function_number = numbers
    return Shared(before, after, names, numpy.arange(len(names), dtype=numpy.uint32), None)


def share_paths(before: Side, after: Side) -> Shared:
    """As share_functions, and then the paths of both in one table: a trace's paths are themselves rows with a caller."""
    import numpy

    names, paths = share_functions(before, after).names, Paths()
    for side in (before, after):
        label_number, side.paths = side.number, CallPaths.of(side.view, check=side.check)
        number = numpy.zeros(len(side.paths), dtype=numpy.uint32)
        parent = side.paths.parent[1:].astype(numpy.int64) - 1
        paths.add(parent, side.paths.label[1:].copy(), label_number, number[1:])
        side.number = number
    parent, label = paths.columns()
    return Shared(before, after, names, label, parent)


@dataclass(frozen=True)
class Drift:
    """How all functions moved, per call: the median of the logarithms of their ratios, and their spread. functions: how many were
    called often enough in both; with fewer than FEW_FUNCTIONS nothing is known, and centre and spread are 0."""

    centre: float
    spread: float
    functions: int

    @property
    def known(self) -> bool:
        return self.functions >= FEW_FUNCTIONS


def drift_of(before: Sums, after: Sums, median_before: Any, median_after: Any) -> Drift:
    import numpy

    few = numpy.uint64(FEW_CALLS)
    fit = (before.count >= few) & (after.count >= few) & (median_before > 0) & (median_after > 0)
    moved = numpy.log(median_after[fit] / median_before[fit])
    if len(moved) < FEW_FUNCTIONS:
        return Drift(0.0, 0.0, len(moved))
    centre = float(numpy.median(moved))
    return Drift(centre, 1.4826 * float(numpy.median(numpy.abs(moved - centre))), len(moved))


class Times(NamedTuple):
    """Of one call of each group in question: how many calls, their quartiles (uint64, shape (n, 3)), mean and standard deviation."""

    count: Any
    quartiles: Any
    mean: Any
    deviation: Any


@dataclass(frozen=True)
class Verdicts:
    """By group in question. change: how much a call's time moved, a share of the larger. median_shift, mean_shift: beyond the drift, in
    standard errors of their own; against_drift: how far it moved from the drift, in its spreads; NaN where not known. confidence: NOISE to LIKELY."""

    change: Any
    median_shift: Any
    mean_shift: Any
    against_drift: Any
    confidence: Any


def judge(before: Times, after: Times, drift: Drift) -> Verdicts:
    """Of groups that both traces have. The median is not moved by a few slow calls, the mean is when they are enough."""
    import numpy

    sides = (before, after)
    often = numpy.minimum(before.count, after.count) >= FEW_CALLS
    medians, means = ([side.quartiles[:, 1].astype(float) for side in sides], [side.mean for side in sides])
    roots = [numpy.sqrt(side.count.astype(float)) for side in sides]
    # Of a normal distribution: the quartiles lie 1.349 deviations apart, and a median is 1.2533 times as unsure as a mean.
    widths = [1.2533 / 1.349 * (side.quartiles[:, 2].astype(float) - side.quartiles[:, 0].astype(float)) for side in sides]

    drifted = math.exp(drift.centre)

    def shift(values: list[Any], widths: list[Any]) -> Any:
        """Between what the drift alone would make of before, and after."""
        moved = numpy.abs(values[1] - values[0] * drifted)
        with numpy.errstate(divide="ignore", invalid="ignore"):
            score = moved / numpy.hypot(widths[0] * drifted / roots[0], widths[1] / roots[1])
        score[moved == 0] = 0.0
        return numpy.where(often, numpy.minimum(score, LARGEST_SCORE), math.nan)

    def away(values: list[Any]) -> Any:
        with numpy.errstate(divide="ignore", invalid="ignore"):
            moved = numpy.log(values[1] / values[0])
        moved[(values[0] == 0) & (values[1] == 0)] = drift.centre
        return numpy.minimum(numpy.abs(moved - drift.centre) / max(drift.spread, SMALLEST_SPREAD), LARGEST_SCORE)

    median_shift, mean_shift = shift(medians, widths), shift(means, [side.deviation for side in sides])
    of_median, of_mean = away(medians), away(means)
    change = numpy.maximum(*(numpy.abs(v[1] - v[0]) / numpy.maximum(numpy.maximum(*v), 1e-9) for v in (medians, means)))
    if drift.known:
        against = numpy.where(often, numpy.maximum(of_median, of_mean), of_mean)
        confidence = numpy.where(~often & (of_mean >= SURE), POSSIBLE, NOISE)
        sure = ((median_shift >= SURE) & (of_median >= SURE)) | ((mean_shift >= SURE) & (of_mean >= SURE))
        confidence[often & sure] = LIKELY
    else:
        against = numpy.full(len(change), math.nan)
        confidence = numpy.where(~often | (median_shift >= SURE) | (mean_shift >= SURE), POSSIBLE, NOISE)
    return Verdicts(change, median_shift, mean_shift, against, confidence)
