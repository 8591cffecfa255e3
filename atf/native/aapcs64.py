"""Where the procedure call standard of aarch64 puts parameters and results, by what their types are made of."""

from __future__ import annotations

from atf.native.abi import Layout, one_or_more

_FLOATS = {"f32": (1, 4), "f64": (1, 8), "c64": (2, 4), "c128": (2, 8), "f80": (1, 16)}  # how many registers of how many bytes


class Places:
    """As ``abi.Places``. A register of 16 bytes is recorded by half: what stands in one is at None, not known."""

    def __init__(self) -> None:
        self._integers, self._vectors, self._stack = 0, 0, 0

    def returned(self, layout: Layout) -> str | list[str] | None:
        """Where the result is found. The address of one in memory was in x8 when the function began, and nothing keeps it."""
        if layout.shown_as == "void" or self.points(layout):
            return None
        vectors = _vectors(layout)
        if vectors:
            count, size = vectors
            return None if size > 8 else one_or_more([f"d{number}" for number in range(count)])
        return one_or_more([f"x{number}" for number in range((layout.bytes + 7) // 8)])

    def taken(self, layout: Layout) -> str | list[str] | None:
        """Where the next parameter is found."""
        size, align = (8, 8) if self.points(layout) else (layout.bytes, max(layout.alignment, 8))
        if not size:
            return None
        vectors = None if self.points(layout) else _vectors(layout)
        if vectors:
            count, each = vectors
            if self._vectors + count <= 8:
                first, self._vectors = self._vectors, self._vectors + count
                return None if each > 8 else one_or_more([f"d{first + number}" for number in range(count)])
            self._vectors = 8
            return self._on_stack(size, align, each)
        words = (size + 7) // 8
        if align == 16:
            self._integers += self._integers % 2
        if self._integers + words <= 8:
            first, self._integers = self._integers, self._integers + words
            return one_or_more([f"x{first + number}" for number in range(words)])
        self._integers = 8
        return self._on_stack(size, align, 8)

    def _on_stack(self, size: int, align: int, each: int) -> str | list[str]:
        at = (self._stack + align - 1) // align * align
        self._stack = at + (size + 7) // 8 * 8
        places = [f"stack+{at + k}" for k in range(0, min(size, 256), 8)]
        return places[0] if len(places) == 1 else places

    def points(self, layout: Layout) -> bool:
        """Whether its address is handed over and not itself."""
        return layout.by_reference or (layout.bytes > 16 and _vectors(layout) is None)

    def rest(self) -> list[str]:
        """The registers that are left: what variable arguments may stand in."""
        return [*(f"x{number}" for number in range(self._integers, 8)), *(f"d{number}" for number in range(self._vectors, 8))]


def _vectors(layout: Layout) -> tuple[int, int] | None:
    """(how many, bytes each) of the vector registers that hold it; None: it goes by others."""
    if layout.alike is not None:
        return layout.alike
    if layout.type.endswith(" vector"):
        return (1, layout.bytes) if layout.bytes in (8, 16) else None
    return _FLOATS.get(layout.shown_as)
