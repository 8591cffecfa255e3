"""Where the System V ABI of x86-64 puts parameters and results, by what their types are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

INTEGER, SSE, MEMORY = "I", "S", "M"
_INTEGERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_VECTORS = tuple(f"xmm{number}" for number in range(8))


@dataclass(frozen=True)
class Layout:
    """A type as the ABI sees it. classes: of its eightbytes (INTEGER, SSE), [MEMORY] for what goes by the stack, [] for what is not passed.

    shown_as: i8…i128, u8…u128, bool, f32, f64, c64, c128, pointer, void, or raw. names: of an enumeration's values, by their decimals.
    by_reference: C++ hands over a pointer to it. alike: how many floats of how many bytes a structure is made of, when of nothing else
    and of at most four.
    """

    type: str
    bytes: int = 8
    classes: tuple[str, ...] = (INTEGER,)
    shown_as: str = "raw"
    names: dict[str, str] = field(default_factory=dict)
    by_reference: bool = False
    alignment: int = 8
    alike: tuple[int, int] | None = None

    @property
    def in_memory(self) -> bool:
        return MEMORY in self.classes


class Places:
    """Hands out registers and stack slots to the parameters of one function, in their order; the result comes first."""

    def __init__(self) -> None:
        self._integers, self._vectors, self._stack = list(_INTEGERS), list(_VECTORS), 0

    def returned(self, layout: Layout) -> str | list[str] | None:
        """Where the result is found. One in memory takes the first integer register for its address."""
        if layout.shown_as == "void":
            return None
        if layout.by_reference or (layout.in_memory and layout.shown_as != "f80"):
            self._integers.pop(0)
            return "rax"
        if layout.in_memory:
            return None  # on the stack of the floating-point unit
        integers, vectors = ["rax", "rdx"], ["xmm0", "xmm1"]
        return one_or_more([(integers if one == INTEGER else vectors).pop(0) for one in layout.classes])

    def taken(self, layout: Layout) -> str | list[str] | None:
        """Where the next parameter is found."""
        classes = (INTEGER,) if layout.by_reference else layout.classes
        if not classes:
            return None
        enough = classes.count(INTEGER) <= len(self._integers) and classes.count(SSE) <= len(self._vectors)
        if MEMORY not in classes and enough:
            return one_or_more([(self._integers if one == INTEGER else self._vectors).pop(0) for one in classes])
        size = 8 if layout.by_reference else max(layout.bytes, 1)
        align = 8 if layout.by_reference else max(layout.alignment, 8)
        at = (self._stack + align - 1) // align * align
        self._stack = at + (size + 7) // 8 * 8
        return f"stack+{at}" if size <= 8 else [f"stack+{at + k}" for k in range(0, min(size, 256), 8)]

    def points(self, layout: Layout) -> bool:
        """Whether the address of a parameter is handed over, beside what C++ hands over so."""
        return False

    def rest(self) -> list[str]:
        """The registers that are left: what variable arguments may stand in."""
        return [*self._integers, *self._vectors]


def one_or_more(places: list[str]) -> str | list[str] | None:
    return places[0] if len(places) == 1 else places or None


def classes_of(bytes: int, parts: list[tuple[int, int, str]], packed: bool = False) -> tuple[str, ...]:
    """The classes of a structure, from its scalars: (offset, bytes, class)."""
    if bytes > 16 or packed or any(one == MEMORY for _, _, one in parts):
        return (MEMORY,)
    found: list[str] = []
    for first in range(0, bytes, 8):
        here = {one for offset, size, one in parts if offset < first + 8 and offset + size > first}
        if here:
            found.append(INTEGER if INTEGER in here else SSE)
    return tuple(found)


def alike_of(bytes: int, parts: list[tuple[int, int, str]]) -> tuple[int, int] | None:
    """How many floats of how many bytes a structure is made of, from its scalars; None: of something else too, or of more than four."""
    sizes = {size for _, size, _ in parts}
    places = {offset for offset, _, _ in parts}  # members of a union share theirs
    if not parts or len(sizes) != 1 or any(one == INTEGER for _, _, one in parts):
        return None
    (size,) = sizes
    return (len(places), size) if size in (4, 8, 16) and len(places) <= 4 and len(places) * size == bytes else None
