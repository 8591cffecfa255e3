"""A slow model of one producing thread, its ring pools, the global lane and the drain: which records are in the file.

It knows no states and no memory orders: a lane is a list of rings, oldest first, a ring is a list of what it holds. What
the native code does with ownership words must come to the same.
"""

from __future__ import annotations

import dataclasses

DETAIL_HEADER_BYTES = 24


@dataclasses.dataclass
class Ring:
    first: int
    room: int
    items: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Lane:
    """Up to ``rings`` rings; the last one is ACTIVE when ``active`` is set, the others are FULL, oldest first."""

    rings: int
    room: int
    held: list[Ring] = dataclasses.field(default_factory=list)
    active: bool = False
    taken_back: int = 0

    @property
    def full(self) -> list[Ring]:
        return self.held[:-1] if self.active else self.held

    def hand_over(self) -> None:
        self.active = False

    def begin(self, first: int) -> bool:
        """A new ACTIVE ring: a FREE one, else the oldest FULL one is taken back."""
        if len(self.held) == self.rings:
            if not self.full:
                return False
            self.held.pop(0)
            self.taken_back += 1
        self.held.append(Ring(first, self.room))
        self.active = True
        return True


class Model:
    """One thread. ``file``: [("event", number, payload bytes or None) | ("gap", records)]."""

    def __init__(self, index_rings: int, records: int, detail_rings: int, detail_bytes: int, global_cells: int):
        self.index, self.detail = Lane(index_rings, records), Lane(detail_rings, detail_bytes)
        self.cells: list[tuple[int, int | None]] = []
        self.global_cells = global_cells
        self.next = self.next_detail = self.expected = 0
        self.looked_up = -1  # the newest detail that was asked for
        self.file: list[tuple] = []
        self.attention = False

    def produce(self, size: int | None, silent: bool) -> None:
        number = None if size is None else self._detail(size)
        if self.index.active and len(self.index.held[-1].items) == self.index.room:
            self.index.hand_over()
            self.attention = True
        if not self.index.active:
            free = len(self.index.held) < self.index.rings
            if not free and silent and len(self.cells) < self.global_cells:
                self.cells.append((self.next, number))
                self.next += 1
                return
            self.index.begin(self.next)
        self.index.held[-1].items.append((self.next, number))
        self.next += 1

    def _detail(self, size: int) -> int | None:
        lane, total = self.detail, DETAIL_HEADER_BYTES + size
        if lane.rings == 0:
            return None
        if not lane.active or sum(part for _, part in lane.held[-1].items) + total > lane.room:
            if lane.active:
                lane.hand_over()
                self.attention = True
            if not lane.begin(self.next_detail):
                return None
        lane.held[-1].items.append((self.next_detail, total))
        self.next_detail += 1
        return self.next_detail - 1

    def _emit(self, seq: int, number: int | None) -> None:
        if seq < self.expected:
            return
        if seq > self.expected:
            self.file.append(("gap", seq - self.expected))
        kept = {n: total for ring in self.detail.held for n, total in ring.items}
        if number is not None:
            self.looked_up = number
        payload = None if number is None or number not in kept else kept[number] - DETAIL_HEADER_BYTES
        self.file.append(("event", seq, payload))
        self.expected = seq + 1

    def drain(self, peek: bool) -> int:
        before, looked_up = len(self.file), self.looked_up
        for seq, number in self.cells:
            while self.index.full and self.index.full[0].first < seq:
                for item in self.index.held.pop(0).items:
                    self._emit(*item)
            self._emit(seq, number)
        self.cells.clear()
        while self.looked_up > looked_up and self.detail.full and self.detail.full[0].items[-1][0] <= self.looked_up:
            self.detail.held.pop(0)  # the lane's events walked over it to its end; without such a walk it is still FULL
        if self.attention or peek:
            self.attention = False
            peek = peek or bool(self.detail.full)
            while self.index.full:
                for item in self.index.held.pop(0).items:
                    self._emit(*item)
            if peek and self.index.active:
                for item in self.index.held[-1].items:
                    self._emit(*item)
            del self.detail.held[: len(self.detail.full)]
        return len(self.file) - before

    def finish(self) -> None:
        self.drain(True)
        if self.next > self.expected:
            self.file.append(("gap", self.next - self.expected))
            self.expected = self.next
