"""The flight recorder as the recorder steers it: triggers become the drain's rules, marks come from outside, windows go to manifests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atf._core.errors import SessionError, UsageError
from atf.conditions import Conditions
from atf.triggers import Trigger, next_clock_window, parse_all

if TYPE_CHECKING:
    from atf._core.drain import Drain, Source

FOREVER = 1 << 63
HISTORY_BYTES = 256 << 20
ASK_S = 0.004  # of a poll, for conditions in Python
ASK_LAST_S = 0.5  # when recording ends
_IN_DRAIN = {"symbol", "exception", "duration", "mark", "crash"}


def boot_ns() -> int:
    """Now, on the clock of events."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Flight:
    """What is kept of a session.

    keep: ``details`` (every event; details inside windows) or ``windows`` (events too). Durations in seconds; pre_s None: as far back
    as ``history_bytes`` reaches.
    """

    def __init__(
        self,
        triggers: Sequence[Trigger] = (),
        pre_s: float | None = 1.0,
        post_s: float = 1.0,
        keep: str = "details",
        history_bytes: int = HISTORY_BYTES,
    ):
        for name, value in (("pre-roll", pre_s or 0.0), ("post-roll", post_s)):
            if not 0 <= value <= 86400:
                raise UsageError(f"{name} of {value} s: from 0 to a day")
        self.pre_s, self.post_s, self.keep, self.history_bytes = pre_s, post_s, keep, history_bytes
        self.pre_ns = FOREVER if pre_s is None else round(pre_s * 1e9)
        self.post_ns = round(post_s * 1e9)
        self.drain: Drain | None = None
        self.triggers: list[Trigger] = []
        self.versions: dict[int, list[Trigger]] = {}
        self.version = 0
        self.began_ns = 0
        self.ended_ns: int | None = None
        self._sources: dict[int, _Names] = {}
        self.conditions: Conditions | None = None
        self._asked = list(triggers)
        self._opened: dict[Trigger, float] = {}

    # ---- the policy
    def open(self, drain: Drain) -> None:
        """Begin: before the drain has its first process."""
        self.drain = drain
        self.began_ns = boot_ns()
        self.conditions = Conditions(drain, self._named)
        drain.flight(self.keep, self.pre_ns, self.post_ns, self.history_bytes)
        self.replace(self._asked)

    def replace(self, triggers: Sequence[Trigger]) -> int:
        """Another policy from now on. Returns its version. ``atf.mark()`` is always one of its triggers."""
        assert self.drain is not None
        self.triggers = [*triggers, Trigger("atf.mark()", "mark")]
        self._opened.clear()
        rules = []
        for one in self.triggers:
            kind = one.kind if one.kind in _IN_DRAIN else "asked" if one.kind == "python" else "outside"
            rules.append((kind, one.text if kind == "exception" else "", one.threshold_ns))
        self.version = self.drain.rules(rules)
        if self.conditions is not None:
            self.conditions.replace(self.triggers)
        self.versions[self.version] = list(self.triggers)
        for names in self._sources.values():
            names.tell(self.triggers)
        return self.version

    @property
    def asks_for_names(self) -> bool:
        return any(one.kind in ("symbol", "duration", "python") for one in self.triggers)

    @property
    def wants_crash(self) -> bool:
        return any(one.kind == "crash" for one in (self.triggers or self._asked))

    def signals(self) -> dict[int, int]:
        """Signals that mark: number → rule."""
        return {one.number: rule for rule, one in enumerate(self.triggers) if one.kind == "signal"}

    # ---- names
    def named(self, source: Source, names: Iterable[tuple[int, int, int, str, str]], until_ns: int) -> None:
        """New names of a process (entries of the names log); every function called before until_ns has one."""
        known = self._sources.get(source.key)
        if known is None:
            known = self._sources[source.key] = _Names(source)
        known.add(names, until_ns, self.triggers)

    def left(self, source: Source) -> None:
        self._sources.pop(source.key, None)

    def _named(self, key: int, function_id: int) -> tuple[str, str]:
        names = self._sources.get(key)
        return ("", "") if names is None else (names.modules.get(function_id >> 32, ""), names.functions.get(function_id, ""))

    # ---- conditions
    @property
    def behind(self) -> bool:
        """Whether events wait for conditions to be asked about them."""
        return self.conditions is not None and self.conditions.behind

    def ask(self, take_names: Callable[[], object], last: bool = False) -> list[str]:
        """Ask conditions in Python about what was seen. last: nobody will ask later. Returns what the user must be told."""
        assert self.conditions is not None
        self.conditions.work(take_names, ASK_LAST_S if last else ASK_S)
        if last:
            self.conditions.give_up()
        told, self.conditions.complaints = self.conditions.complaints, []
        return told

    # ---- marks from outside
    def mark(self, kind: str, ns: int | None = None, number: int = 0) -> None:
        """Keep what is around a moment, because of the first trigger of this kind."""
        assert self.drain is not None
        for rule, one in enumerate(self.triggers):
            if one.kind == kind and (not number or one.number == number):
                self.drain.mark(ns, rule)
                return
        self.drain.mark(ns, len(self.triggers))  # nobody's: a snapshot

    def poll(self) -> None:
        """Open the windows of times that have come."""
        assert self.drain is not None
        for rule, one in enumerate(self.triggers):
            if one.kind != "time" or self._opened.get(one, 0.0) > time.time():
                continue
            if one.seconds is not None:
                start, end = one.seconds
                opens = self.began_ns + round(start * 1e9)
                if boot_ns() < opens:
                    continue
                closes = opens if end is None else self.began_ns + round(end * 1e9)
                self._opened[one] = float("inf")
            else:
                assert one.clock is not None
                begin, finish = next_clock_window(one.clock, time.time())
                if time.time() < begin:
                    continue
                shift = boot_ns() - time.time_ns()
                opens, closes = round(begin * 1e9) + shift, round(finish * 1e9) + shift
                self._opened[one] = finish
            self.drain.keep(max(opens - self.pre_ns, 0), closes + self.post_ns, rule)

    # ---- asked by others
    def commands(self, output: str) -> dict[str, Any]:
        """What ``atf control`` and ``atf snapshot`` ask for."""

        def triggers(said: dict[str, Any]) -> dict[str, Any]:
            version = self.replace(parse_all(said.get("triggers", [])))
            return {"version": version, "triggers": [one.said for one in self.triggers]}

        def snapshot(said: dict[str, Any]) -> dict[str, Any]:
            now = boot_ns()
            self.mark("snapshot", now)
            return {**window({"atNs": now}), "path": output}

        def window(said: dict[str, Any]) -> dict[str, Any]:
            at = int(said["atNs"])
            for one in self.windows():
                if one["startNs"] <= at <= one["endNs"]:
                    return {**one, "markNs": at}
            raise SessionError(f"no window lies around {at}")

        return {"triggers": triggers, "snapshot": snapshot, "window": window}

    # ---- what came of it
    def windows(self) -> list[dict[str, Any]]:
        """The windows so far, as manifests list them."""
        assert self.drain is not None
        found = []
        for one in self.drain.windows():
            policy = self.versions.get(one["version"], self.triggers)
            trigger = policy[one["rule"]] if one["rule"] < len(policy) else Trigger("snapshot", "snapshot")
            found.append(
                {
                    "startNs": max(one["start_ns"], self.began_ns),
                    "endNs": one["end_ns"] if self.ended_ns is None else min(one["end_ns"], self.ended_ns),
                    "triggerKind": trigger.kind,
                    "trigger": trigger.said,
                    "markNs": one["mark_ns"],
                    "marks": one["marks"],
                    "preRollSec": self.pre_s,
                    "postRollSec": self.post_s,
                    "policyVersion": one["version"],
                    "complete": one["settled_ns"] is not None or self.ended_ns is not None,
                }
            )
        return found

    def summary(self) -> dict[str, Any]:
        """For the manifest: what was asked for, and how the memory for history fared."""
        assert self.drain is not None
        made = {"keep": self.keep, "triggers": [one.said for one in self.triggers], "version": self.version, "history": self.drain.history}
        if self.conditions is not None and self.drain.asked != (0, 0):
            made["conditions"] = self.conditions.summary()
        return made


class _Names:
    """The functions of one process, and which triggers ask for each."""

    def __init__(self, source: Source):
        self.source = source
        self.modules: dict[int, str] = {0: ""}
        self.functions: dict[int, str] = {}
        self.until_ns = 0

    def add(self, names: Iterable[tuple[int, int, int, str, str]], until_ns: int, triggers: Sequence[Trigger]) -> None:
        fresh = {}
        for kind, identifier, _, name, _ in names:
            if kind == 1:
                self.modules[identifier] = name
            else:
                fresh[identifier] = name
        self.functions.update(fresh)
        self.until_ns = max(self.until_ns, until_ns)
        self._tell(fresh, triggers)

    def tell(self, triggers: Sequence[Trigger]) -> None:
        self._tell(self.functions, triggers)

    def _tell(self, functions: dict[int, str], triggers: Sequence[Trigger]) -> None:
        asked = [(1 << rule, one) for rule, one in enumerate(triggers) if one.kind in ("symbol", "duration")]
        masks = [sum(bit for bit, one in asked if one.wants(self.modules.get(identifier >> 32, ""), name)) for identifier, name in functions.items()]
        self.source.name_functions(np.array(list(functions), np.uint64), np.array(masks, np.uint32), self.until_ns)
