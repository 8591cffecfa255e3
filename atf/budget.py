"""``--budget``: what recording may cost. When it costs more, levels go down (args, returns, calls), and up again when there is room.

Cost is counted in processors: 5 means a twentieth of one. It is the recorder's own CPU time, and what the hooks take from the program:
events, as the drain counts them, by the price of one (atf.cost), and the time that values took, which the hooks measure themselves.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from atf import recording
from atf._core.errors import UsageError
from atf.cost import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atf._core.drain import Source
    from atf.gather import Process

STEP_S = 0.1  # between two looks
WINDOW_S = 0.5  # rings that are not full are read four times a second: a shorter one would see nothing, then too much
SETTLE_S = 0.4  # after a change, until what was written before it is counted
FULL = 0.9  # of the budget: more than this is turned down
ROOM = 0.6  # of the budget: what the next level would cost must be less
HOLD_S, HOLD_MOST_S = 2.0, 60.0  # there must be room for so long; twice as long after each time that it was too much
CAPTURE_NS = 1500.0  # of an event with values, before any was measured
VALUES = 3.0  # as much does the drain work on events with values as on those without


def ladder(level: str) -> list[str]:
    """The levels that a budget chooses from, the wanted one first. UsageError when there is none below it."""
    bits = recording.levels(level)
    if bits == recording.BITS["calls"]:
        raise UsageError("--budget turns levels down, and below --level calls there is none")
    rungs = [level]
    if bits & recording.BITS["args"]:
        rungs.append("c" if bits & recording.BITS["c"] else "returns")
    return [*rungs, "calls"]


def parse(text: str) -> float:
    """Per cent of one processor from ``"5%"`` or ``"5"``. UsageError for what is no such number."""
    try:
        found = float(text.strip().removesuffix("%"))
    except ValueError:
        found = -1.0
    if not 0 < found <= 100_000:
        raise UsageError(f"--budget {text}: write per cent of one processor, like 5%")
    return found


class Steering:
    """Decides from costs alone, in per cent: which rung of so many."""

    def __init__(self, limit: float, rungs: int):
        self.limit, self.rungs = limit, rungs
        self.at = 0
        self._hold_s = HOLD_S
        self._room_since: float | None = None
        self._raised = float("-inf")

    def look(self, now: float, cost: float, cost_above: float) -> int:
        """The rung from now on (0: everything). cost: at present; cost_above: what the next level up would cost."""
        if cost > FULL * self.limit:
            self._room_since = None
            if self.at < self.rungs - 1:
                self.at += 1
                self._hold_s = min(2 * self._hold_s, HOLD_MOST_S) if now - self._raised < self._hold_s + 5 * HOLD_S else HOLD_S
        elif self.at == 0 or cost_above >= ROOM * self.limit:
            self._room_since = None
        elif self._room_since is None:
            self._room_since = now
        elif now - self._room_since >= self._hold_s:
            self.at -= 1
            self._room_since, self._raised = None, now
        return self.at


class Budget:
    """The levels of one recording."""

    def __init__(self, percent: float, level: str):
        self.percent, self.levels = percent, ladder(level)
        self.steering = Steering(percent, len(self.levels))
        self.cost = 0.0  # per cent of one processor, in the last WINDOW_S
        self.over = False  # it costs more than the budget, and there is no level below
        self.changes: list[dict[str, Any]] = []
        self.price: Measurement | None = None
        self._samples: deque[tuple[float, int, int, int, int]] = deque()  # time, events, ns for values, ns of the drain, ns of the recorder
        self._ended, self._of_ended = 0, (0, 0)  # processes that are over, and what they made
        self._looked = self._changed = float("-inf")
        self._capture_ns = CAPTURE_NS

    @property
    def level(self) -> str:
        return self.levels[self.steering.at]

    def joined(self, process: Process, executable: str, paths: str) -> None:
        """A process begins to be drained: it gets the present level, and the first one's interpreter tells what an event costs."""
        if self.price is None:
            self.price = Measurement(executable, paths)
        if self.steering.at:
            self._tell(process)

    def _tell(self, process: Process) -> None:
        assert process.segments.segments is not None
        process.segments.segments.set_level(recording.levels(self.level))

    def poll(self, live: Iterable[Process], done: Sequence[Process], drain_ns: int) -> bool:
        """Look at the costs, a few times a second, and change the level if need be; whether it did."""
        now = time.monotonic()
        if now - self._looked < STEP_S or self.price is None:
            return False
        self._looked = now
        running = list(live)
        events, captured = self._so_far(running, done)
        self._samples.append((now, events, captured, drain_ns, time.process_time_ns()))
        while self._samples[-1][0] - self._samples[0][0] > WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
        first, last = self._samples[0], self._samples[-1]
        if last[0] - first[0] < 0.8 * SETTLE_S or now - self._changed < SETTLE_S:
            return False
        before = self.steering.at
        above = self._weigh(last[0] - first[0], *(b - a for a, b in zip(first[1:], last[1:], strict=True)))
        if self.steering.look(now, self.cost, above) != before:
            self._note(before, above)
            for process in running:
                self._tell(process)
            self._changed = now
            self._samples.clear()
        self.over = self.cost > self.percent and self.steering.at == len(self.levels) - 1
        return self.steering.at != before

    def _so_far(self, running: Iterable[Process], done: Sequence[Process]) -> tuple[int, int]:
        """(events that were produced, ns that values took) of all processes. Those that are over are looked at once."""
        for one in done[self._ended :]:
            self._of_ended = (self._of_ended[0] + produced(one.source), self._of_ended[1] + one.capture_ns())
        self._ended = len(done)
        events, captured = self._of_ended
        for one in running:
            events, captured = events + produced(one.source), captured + one.capture_ns()
        return events, captured

    def _weigh(self, seconds: float, events: int, captured_ns: int, drain_ns: int, recorder_ns: int) -> float:
        """Takes the present cost down; returns what the next level up would cost. Both in per cent of a processor."""
        assert self.price is not None
        ns = self.price.look()
        calls_only = self.steering.at == len(self.levels) - 1
        hooks_ns = events * ns["calls" if calls_only else "returns"] + captured_ns
        self.cost = (recorder_ns + hooks_ns) / seconds / 1e7
        if captured_ns and events and self.steering.at == 0:
            self._capture_ns = captured_ns / events
        if calls_only and len(self.levels) > 1:  # as many ends as calls
            hooks_ns, recorder_ns, events = 2 * events * round(ns["returns"]), recorder_ns + drain_ns, 2 * events
        if self.steering.at == 1 and "args" in self.levels[0]:
            hooks_ns, recorder_ns = hooks_ns + round(events * self._capture_ns), recorder_ns + round(drain_ns * (VALUES - 1))
        return (recorder_ns + hooks_ns) / seconds / 1e7

    def _note(self, before: int, above: float) -> None:
        down = self.steering.at > before
        why = f"recording cost {self.cost:.1f} % of a processor" if down else f"room: this would cost {above:.1f} % of a processor"
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.changes.append({"atNs": now, "from": self.levels[before], "to": self.level, "why": f"{why}, the budget is {self.percent:g} %"})

    def summary(self) -> dict[str, Any]:
        """For manifests and whoever asks: the budget, the cost in the last half second, and the present level."""
        found = {"percent": self.percent, "costPercent": round(self.cost, 2), "level": self.level, "asked": self.levels[0], "over": self.over}
        if self.price is not None:
            found["eventNs"] = {**{name: round(ns, 1) for name, ns in self.price.ns.items()}, "measured": self.price.measured}
        return found

    def close(self) -> None:
        if self.price is not None:
            self.price.close()


def produced(source: Source) -> int:
    """Events of a process so far, in all parts of the recording."""
    return source.totals["gone"] + sum(row["produced"] + row["earlier"] for row in source.threads())
