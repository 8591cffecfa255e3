"""Which groups of two traces differ, in what, and in which order that matters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from atf._core.paths import roll_up
from atf.query.comparison import CERTAIN, POSSIBLE, QUARTILES, Drift, Shared, Sums, Times, judge

MOST_JUDGED = 5000  # groups whose times are looked at one by one: those that moved most


@dataclass(frozen=True)
class Wanted:
    """metric: self or total. min_change: the share of the larger one that makes a change. least: NOISE to CERTAIN. kinds: of changes."""

    metric: str
    min_change: float
    least: int
    kinds: Collection[str]


class Changes:
    """order: the groups that differ, the surest and largest changes first. By group: appeared, vanished, counted, timed (bool);
    median_shift, mean_shift, against_drift (NaN: not known); below: of a path that appeared or vanished, how many below it did with it."""

    def __init__(self, shared: Shared, before: Sums, after: Sums, drift: Drift, wanted: Wanted) -> None:
        import numpy

        self.shared, self.before, self.after, self._wanted = shared, before, after, wanted
        here, there = before.count > 0, after.count > 0
        both = here & there
        self.appeared, self.vanished = there & ~here, here & ~there
        a, b = ((s.self_ns if wanted.metric == "self" else s.total_ns).astype(numpy.int64) for s in (before, after))
        moved = numpy.abs(b - a)
        self.below = numpy.zeros(len(shared), dtype=numpy.uint64)
        top = self.appeared | self.vanished
        if shared.parent is not None:
            # What is below a path that is new is new too: only the uppermost is told, with the time of all of it.
            for new in (self.appeared, self.vanished):
                number, whole = new.astype(numpy.uint64), numpy.where(new, moved, 0).astype(numpy.uint64)
                roll_up(shared.parent, number)
                top[new] = ~new[shared.parent[new]]
                self.below[new] = number[new] - numpy.uint64(1)
                if wanted.metric == "self":
                    roll_up(shared.parent, whole)
                    moved[new] = whole[new].astype(numpy.int64)
        counts = [c.astype(numpy.int64) for c in (before.count, after.count)]
        count_delta = numpy.abs(counts[1] - counts[0])
        self.counted = both & (count_delta > 0) & (count_delta >= wanted.min_change * numpy.maximum(*counts))
        self.median_shift, self.mean_shift, self.against_drift = (numpy.full(len(shared), numpy.nan) for _ in range(3))
        self.confidence = numpy.zeros(len(shared), dtype=numpy.int64)
        self.timed = numpy.zeros(len(shared), dtype=bool)
        self._judge(both & ((a != b) | (before.active_ns != after.active_ns)), moved, (a, b), drift)
        self.counts = {
            "appeared": int(self.appeared.sum()),
            "vanished": int(self.vanished.sum()),
            "count": int(self.counted.sum()),
            "time": int((self.timed & (self.confidence >= POSSIBLE)).sum()),
            "same": int((both & ~self.counted & ~(self.timed & (self.confidence >= POSSIBLE))).sum()),
        }
        self.timed &= self.confidence >= wanted.least
        told = {"appeared": self.appeared & top, "vanished": self.vanished & top, "count": self.counted, "time": self.timed}
        chosen = numpy.zeros(len(shared), dtype=bool)
        for kind in wanted.kinds:
            chosen |= told[kind]
        certain = self.appeared | self.vanished | (self.counted & ("count" in wanted.kinds))
        self.confidence[certain] = CERTAIN
        groups = numpy.flatnonzero(chosen)
        tier = numpy.array([2, 1, 0, 0])[self.confidence[groups]]
        self.order = groups[numpy.lexsort((groups, -count_delta[groups], -moved[groups], tier))]

    def _judge(self, differ: Any, moved: Any, metrics: tuple[Any, Any], drift: Drift) -> None:
        import numpy

        groups = numpy.flatnonzero(differ)
        if len(groups) > MOST_JUDGED:
            groups = groups[numpy.argsort(-moved[groups], kind="stable")[:MOST_JUDGED]]
        if not len(groups):
            return
        of_call = []
        for side, sums, metric in zip((self.shared.before, self.shared.after), (self.before, self.after), metrics):
            quartiles, deviation = side.finder(len(self.shared), groups).spread(QUARTILES)
            count = sums.count[groups]
            sum_of_calls = metric if self._wanted.metric == "self" else sums.active_ns
            of_call.append(Times(count, quartiles, sum_of_calls[groups] / count, deviation))
        verdicts = judge(of_call[0], of_call[1], drift)
        self.median_shift[groups], self.mean_shift[groups] = verdicts.median_shift, verdicts.mean_shift
        self.against_drift[groups] = verdicts.against_drift
        self.confidence[groups] = verdicts.confidence
        self.timed[groups] = (verdicts.change > 0) & (verdicts.change >= self._wanted.min_change)

    def kinds(self, group: int) -> list[str]:
        """What changed, of the kinds that are wanted."""
        said = {"appeared": self.appeared, "vanished": self.vanished, "count": self.counted, "time": self.timed}
        return [kind for kind, flags in said.items() if flags[group] and kind in self._wanted.kinds]
