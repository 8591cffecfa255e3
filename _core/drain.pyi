"""The drain: one native thread that moves records from shared memory into files."""

import os
from typing import Any

import numpy as np

from atf._core.shm import Segments

KEEP: dict[str, int]
RULES: dict[str, int]
RULES_MOST: int
WINDOW: tuple[str, ...]
SIGHTING: list[tuple[str, str]]

class Source:
    """One recorded process in the drain's hands: its segments and its directory. OutputError when it cannot be begun.

    ``resume``: the directory may hold what a killed recorder wrote; go on behind it; ``in_earlier``: records of
    threads that are not in it yet go on in the part before.
    """

    segments: Segments
    path: str
    finished: bool
    def __new__(cls, segments: Segments, path: str | os.PathLike[str], resume: bool = False, in_earlier: bool = False) -> Source: ...
    @property
    def totals(self) -> dict[str, Any]:
        """{"events", "bytes", "writes", "disk_error", "refused", "passes", "write_ns", "lag_ns", "lag_most_ns", "gone"} so far.

        disk_error: text of the last refusal, or None; refused: threads whose files are there and cannot be gone on with (resume
        only), their rings are left as they are; lag: age of the oldest record when its ring was read, in the last second and worst."""
    @property
    def key(self) -> int:
        """By which Drain.sightings tells it from others while it is drained."""
    def name_functions(self, ids: np.ndarray, masks: np.ndarray, until_ns: int) -> None:
        """Tell which rules speak of functions: for each id (uint64, shape (N,)) the bits of these rules (uint32). Calls that came
        before their function was named are marked now. until_ns: functions called before this moment have been named."""
    def overload(self) -> dict[str, Any]:
        """How close lanes were to losing records: {"lanes": [{"thread", "lane", "state", "entered": {state: n}}], "periods": [{"thread",
        "lane", "state", "startNs", "endNs", "dropped"}], "unlisted": n}. Only lanes that were not always normal; periods of pressure
        and dropping, the newest 256 of the process; endNs None: it lasts; thread None: the lane that threads share."""
    def threads(self) -> list[dict[str, Any]]:
        """What was counted, per thread, ordered by thread number; lost: {reason: records}, times in ns, rate in records a second.

        At every moment written + sum(lost) + unkept + held = produced, and details + details_lost + details_unkept +
        details_held = details_seen. events: written and GAP records; swaps: rings read; taken_back: rings that the producer took
        back unread; most_full: rings full at once; details_refused: for which the producer found no room."""

    def look(self) -> dict[str, Any]:
        """{"part", "threads", "overload"}, all of one moment; part: the number of the part that is written, 0: there are no parts."""

class Drain:
    """One native thread for any number of recorded processes. It never takes the GIL.

    ``flush_ns``: how often rings that are not full are read (default 250 ms).
    """

    def __new__(cls, flush_ns: int | None = None) -> Drain: ...
    def flight(self, keep: str, pre_ns: int, post_ns: int, history_bytes: int) -> None:
        """Keep only what lies in windows around marks, ``details`` of every event or ``windows`` of everything. Before the first
        process is added. SessionError, UsageError."""
    def rules(self, rules: list[tuple[str, str, int]]) -> int:
        """Replace the policy: (kind, text, threshold_ns), kinds as in RULES. Returns its version; functions must be named again."""
    def mark(self, ns: int | None = None, rule: int = 0) -> None:
        """Keep what lies around a moment (CLOCK_BOOTTIME, ns; default now)."""
    def keep(self, start_ns: int, end_ns: int, rule: int = 0) -> None:
        """Keep what lies between two moments, both included."""
    def sightings(self, most: int) -> bytes:
        """What "asked" rules are to be asked about, at most so many: SIGHTING each; taken once."""
    def answered(self, n: int) -> None:
        """So many more sightings were asked about and their marks made."""
    @property
    def asked(self) -> tuple[int, int]:
        """(put, missed): events that were to be asked about, and those that found the queue full ."""
    def settle(self) -> None:
        """See everything that is committed now, and complete the windows that are over."""
    def windows(self) -> list[dict[str, Any]]:
        """The windows so far, in order: start_ns, end_ns, mark_ns, marks, rule, version, settled_ns (None: not in the files whole)."""
    @property
    def history(self) -> dict[str, int]:
        """bytes, used, most, cut_items, marks: of the memory for what is not decided yet."""
    def parts(self, root: str | os.PathLike[str], max_bytes: int, max_age_ns: int) -> None:
        """Write the recording in parts: a new one begins when one has max_bytes of records or is max_age_ns old (0: no limit). Before the
        first process is added; processes have their directories in <root>/part_0001, and then in the part that is written."""
    def left(self) -> list[dict[str, Any]]:
        """What parts left since this was asked last, oldest first: [{"source", "part", "ended_ns", "threads", "overload"}], one of each
        process of a part; source: its key."""
    def turn(self) -> None:
        """End the part that is written now at the next pass, if it has records."""
    @property
    def part(self) -> int:
        """The number of the part that is written now; 0: there are no parts."""
    def start(self) -> None:
        """Start the thread (again, after a fork); nothing when it runs. SessionError when there can be none."""
    def join(self) -> None:
        """Stop the thread and wait for it; what it had not read stays in the rings."""
    def add(self, source: Source) -> None:
        """Begin to drain a process."""
    def finish(self, source: Source, dead: bool = False) -> None:
        """Read what is committed, complete the files, and let the source go. ``dead``: its process is gone."""
    def drop(self, source: Source) -> None:
        """In a forked child: let a source go as it is; its files are the parent's."""
    @property
    def cycles(self) -> int:
        """Passes over all processes so far."""
    @property
    def cpu_ns(self) -> int:
        """CPU time the thread has used, ns."""
    @property
    def let_by(self) -> int:
        """Passes that went by while somebody waited for what only the drain's thread holds: the most of one who waited."""
    @property
    def running(self) -> bool: ...
    @staticmethod
    def fork_waits(wait: bool) -> None: ...
