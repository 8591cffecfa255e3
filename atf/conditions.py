"""Conditions in Python over events (``--trigger python=…``), asked by the recorder in its poll about what its drain has seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atf._core.drain import SIGHTING
from atf._core.layout import KINDS

if TYPE_CHECKING:
    from atf._core.drain import Drain
    from atf.triggers import Trigger

BATCH = 2048
_SIGHTING = np.dtype(SIGHTING)
Named = Callable[[int, int], tuple[str, str]]  # process, function id -> module, name


class Conditions:
    """Asks every ``python=`` trigger of a policy about every event, in order, as long as there is time; what there is no time for is
    counted. An expression that raises does not hold there; that is counted, and told once for each."""

    def __init__(self, drain: Drain, named: Named):
        self.drain, self.named = drain, named
        self.asked: list[tuple[int, Trigger]] = []
        self.behind = False  # the last round ended for lack of time
        self.failed = self.given_up = 0
        self.complaints: list[str] = []
        self._told: set[Trigger] = set()
        self._batch: list[tuple[Any, ...]] = []

    def replace(self, triggers: Sequence[Trigger]) -> None:
        """Other triggers from now on; what was seen before is not asked any more."""
        self.asked = [(rule, one) for rule, one in enumerate(triggers) if one.kind == "python"]
        self._batch = []
        self.behind = False

    def work(self, take_names: Callable[[], object], limit_s: float) -> None:
        """Ask about what was seen; stops when the time is over. take_names: fetches the names of what was called so far."""
        if not self.asked:
            return
        until = time.monotonic() + limit_s
        while True:
            if not self._batch:
                self._batch = np.frombuffer(self.drain.sightings(BATCH), _SIGHTING).tolist()
                if not self._batch:
                    self.behind = False
                    return
                take_names()
            done = 0
            while done < len(self._batch):
                part = self._batch[done : done + 64]
                self._ask(part)
                done += len(part)
                if time.monotonic() > until:
                    break
            self._batch = self._batch[done:]
            self.drain.answered(done)
            if time.monotonic() > until:
                self.behind = True
                return

    def give_up(self) -> None:
        """What waits is not asked about any more."""
        waiting = len(self._batch)
        self._batch = []
        while True:
            waiting += len(self.drain.sightings(1 << 16)) // _SIGHTING.itemsize
            if not waiting:
                return
            self.given_up += waiting
            self.drain.answered(waiting)
            waiting = 0

    def _ask(self, sightings: Iterable[tuple[Any, ...]]) -> None:
        for source, function_id, time_ns, duration_ns, tid, depth, kind, _ in sightings:
            module, name = self.named(source, function_id)
            for rule, trigger in self.asked:
                assert trigger.expression is not None
                try:
                    holds = trigger.expression.holds(KINDS.get(kind, "?"), name, module, tid, depth, time_ns, duration_ns)
                except Exception as error:  # noqa: BLE001 - whatever the user's expression does
                    self._failed(trigger, error)
                    continue
                if holds:
                    self.drain.mark(time_ns, rule)
                    break

    def _failed(self, trigger: Trigger, error: Exception) -> None:
        self.failed += 1
        if trigger not in self._told:
            self._told.add(trigger)
            self.complaints.append(f"trigger {trigger.said}: it raised {type(error).__name__}: {error}; where it raises it does not mark")

    def summary(self) -> dict[str, int]:
        """``{"seen", "missed", "raised"}``: events that were to be asked about, those that there was no time for, and how often an
        expression raised."""
        seen, missed = self.drain.asked
        return {"seen": seen + missed, "missed": missed + self.given_up, "raised": self.failed}
