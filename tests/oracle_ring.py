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
    spare: bool
    items: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Lane:
    """Up to ``rings`` own rings, and borrowed ones; the last one is ACTIVE when ``active`` is set, the others are FULL, oldest first."""

    rings: int
    room: int
    spares: list[None]  # as many as may be borrowed; one list for all lanes
    spare_room: int
    held: list[Ring] = dataclasses.field(default_factory=list)
    active: bool = False
    taken_back: int = 0

    @property
    def full(self) -> list[Ring]:
        return self.held[:-1] if self.active else self.held

    def hand_over(self) -> None:
        self.active = False

    def can_have(self, silent: bool) -> bool:
        """Whether there is an own ring, or a spare one while the drain gives signs."""
        return sum(not ring.spare for ring in self.held) < self.rings or (bool(self.spares) and not silent)

    def begin(self, first: int, silent: bool) -> bool:
        """A new ACTIVE ring: an own FREE one, else a borrowed one, else the oldest FULL one is taken back."""
        if sum(not ring.spare for ring in self.held) < self.rings:
            made = Ring(first, self.room, False)
        elif self.spares and not silent:
            self.spares.pop()
            made = Ring(first, self.spare_room, True)
        elif self.full:
            oldest = self.held.pop(0)
            made = Ring(first, oldest.room, oldest.spare)
            self.taken_back += 1
        else:
            return False
        self.held.append(made)
        self.active = True
        return True

    def read(self) -> Ring:
        """The oldest ring, which the drain has read: it is FREE, a spare one goes back."""
        if self.held[0].spare:
            self.spares.append(None)
        return self.held.pop(0)


class Model:
    """One thread. ``file``: [("event", number, payload bytes or None) | ("gap", records)]."""

    def __init__(
        self, index_rings: int, records: int, detail_rings: int, detail_bytes: int, global_cells: int, spares: int = 0, spare_bytes: int = 0
    ):
        shared = [None] * spares
        self.index = Lane(index_rings, records, shared, spare_bytes // 32)
        self.detail = Lane(detail_rings, detail_bytes, shared, spare_bytes)
        self.cells: list[tuple[int, int | None]] = []
        self.global_cells = global_cells
        self.next = self.next_detail = self.expected = 0
        self.looked_up = -1  # the newest detail that was asked for
        self.file: list[tuple] = []
        self.attention = False

    def produce(self, size: int | None, silent: bool) -> None:
        number = None if size is None else self._detail(size, silent)
        if self.index.active and len(self.index.held[-1].items) == self.index.held[-1].room:
            self.index.hand_over()
            self.attention = True
        if not self.index.active:
            if not self.index.can_have(silent) and silent and len(self.cells) < self.global_cells:
                self.cells.append((self.next, number))
                self.next += 1
                return
            self.index.begin(self.next, silent)
        self.index.held[-1].items.append((self.next, number))
        self.next += 1

    def _detail(self, size: int, silent: bool) -> int | None:
        lane, total = self.detail, DETAIL_HEADER_BYTES + size
        if lane.rings == 0:
            return None
        if not lane.active or sum(part for _, part in lane.held[-1].items) + total > lane.held[-1].room:
            if lane.active:
                lane.hand_over()
                self.attention = True
            if not lane.begin(self.next_detail, silent):
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
                for item in self.index.read().items:
                    self._emit(*item)
            self._emit(seq, number)
        self.cells.clear()
        while self.looked_up > looked_up and self.detail.full and self.detail.full[0].items[-1][0] <= self.looked_up:
            self.detail.read()  # the lane's events walked over it to its end; without such a walk it is still FULL
        if self.attention or peek:
            self.attention = False
            peek = peek or bool(self.detail.full)
            while self.index.full:
                for item in self.index.read().items:
                    self._emit(*item)
            if peek and self.index.active:
                for item in self.index.held[-1].items:
                    self._emit(*item)
            while self.detail.full:
                self.detail.read()
        return len(self.file) - before

    def finish(self) -> None:
        self.drain(True)
        if self.next > self.expected:
            self.file.append(("gap", self.next - self.expected))
            self.expected = self.next
