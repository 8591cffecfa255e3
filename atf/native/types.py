"""Types of DWARF, as the ABI and a reader need them."""

from __future__ import annotations

from typing import Any

from atf.native.abi import INTEGER, MEMORY, SSE, Layout, alike_of, classes_of

_NAMES_MOST = 64  # of an enumeration
_DEEPEST = 16
_POINTERS = {"DW_TAG_pointer_type": "*", "DW_TAG_reference_type": "&", "DW_TAG_rvalue_reference_type": "&&", "DW_TAG_ptr_to_member_type": "::*"}
_QUALIFIERS = {"DW_TAG_const_type": "const", "DW_TAG_volatile_type": "volatile", "DW_TAG_restrict_type": "restrict", "DW_TAG_atomic_type": "_Atomic"}
_RECORDS = {"DW_TAG_structure_type": "struct ", "DW_TAG_class_type": "", "DW_TAG_union_type": "union "}
_BOOLEAN, _COMPLEX, _FLOAT, _SIGNED, _SIGNED_CHAR = 2, 3, 4, 5, 6
_C_LANGUAGES = {1, 2, 0xC, 0x1D, 0x2C}
_BY_REFERENCE = 5  # DW_CC_pass_by_reference

VOID = Layout("void", 0, (), "void")
UNKNOWN = Layout("?", 8, (MEMORY,), "raw")


class Types:
    """The types of one compilation unit, each looked at once."""

    def __init__(self, unit: Any):
        self._known: dict[int, Layout] = {}
        language = unit.get_top_DIE().attributes.get("DW_AT_language")
        self._c = language is not None and language.value in _C_LANGUAGES

    @staticmethod
    def follow(die: Any, name: str) -> Any:
        return die.get_DIE_from_attribute(name) if name in die.attributes else None

    def of(self, die: Any, room: int = _DEEPEST) -> Layout:
        """The type that an entry has; void where it has none."""
        if "DW_AT_type" not in die.attributes:
            return VOID
        return self.layout(die.get_DIE_from_attribute("DW_AT_type"), room - 1)

    def layout(self, die: Any, room: int = _DEEPEST) -> Layout:
        found = self._known.get(die.offset)
        if found is None:
            found = self._known[die.offset] = self._look(die, room) if room > 0 else UNKNOWN
        return found

    def _look(self, die: Any, room: int) -> Layout:
        tag, bytes = die.tag, _number(die, "DW_AT_byte_size", 8)
        if tag == "DW_TAG_base_type":
            return _base(_name(die), bytes, _number(die, "DW_AT_encoding", 0))
        if tag in _POINTERS:
            inner = self.of(die, room)
            if tag == "DW_TAG_ptr_to_member_type":
                # To a function: its address and an offset. To data: an offset.
                two = die.get_DIE_from_attribute("DW_AT_type").tag == "DW_TAG_subroutine_type"
                return Layout(f"{inner.type} ::*", 16 if two else 8, (INTEGER,) * (2 if two else 1), "raw")
            return Layout(f"{inner.type}{'' if inner.type.endswith(('*', '&')) else ' '}{_POINTERS[tag]}", 8, (INTEGER,), "pointer")
        if tag in _QUALIFIERS:
            inner = self.of(die, room)
            after = inner.type.endswith(("*", "&"))
            return _renamed(inner, f"{inner.type} {_QUALIFIERS[tag]}" if after else f"{_QUALIFIERS[tag]} {inner.type}")
        if tag == "DW_TAG_typedef":
            return _renamed(self.of(die, room), _name(die))
        if tag == "DW_TAG_enumeration_type":
            return self._enumeration(die, bytes, room)
        if tag in _RECORDS:
            return self._record(die, room)
        if tag == "DW_TAG_array_type":
            return self._array(die, room)
        if tag == "DW_TAG_subroutine_type":
            return Layout(f"{self.of(die, room).type} ()", 8, (INTEGER,), "pointer")
        if tag == "DW_TAG_unspecified_type":
            return Layout(_name(die) or "?", 8, (INTEGER,), "pointer")  # std::nullptr_t
        return UNKNOWN

    def _enumeration(self, die: Any, bytes: int, room: int) -> Layout:
        under = self.of(die, room)
        values = [(_number(child, "DW_AT_const_value", 0), _name(child)) for child in die.iter_children() if child.tag == "DW_TAG_enumerator"]
        signed = under.shown_as.startswith("i") if under is not VOID else any(value < 0 for value, _ in values)
        names = {str(value): name for value, name in values[:_NAMES_MOST]}
        kind = ("enum " if self._c else "") + (_name(die) or "enum")
        return Layout(kind, bytes, (INTEGER,), f"{'i' if signed else 'u'}{bytes * 8}", names)

    def _record(self, die: Any, room: int) -> Layout:
        name = (_RECORDS[die.tag] if self._c else "") + (_name(die) or "{…}")
        if "DW_AT_byte_size" not in die.attributes:
            return Layout(name, 8, (MEMORY,), "raw")
        bytes = _number(die, "DW_AT_byte_size", 0)
        convention = _number(die, "DW_AT_calling_convention", 0)
        destroyed = not convention and any(child.tag == "DW_TAG_subprogram" and _name(child).startswith("~") for child in die.iter_children())
        parts = self._parts(die, 0, room)
        packed = any(size and offset % min(size, 8) for offset, size, _ in parts)
        alignment = 16 if any(size == 16 for _, size, _ in parts) else max(8, _number(die, "DW_AT_alignment", 8))
        gone = convention == _BY_REFERENCE or destroyed
        return Layout(name, bytes, classes_of(bytes, parts, packed), "raw", by_reference=gone, alignment=alignment, alike=alike_of(bytes, parts))

    def _parts(self, die: Any, base: int, room: int) -> list[tuple[int, int, str]]:
        """(offset, bytes, class) of the scalars in a structure, those of its bases and members too."""
        found: list[tuple[int, int, str]] = []
        for child in die.iter_children():
            if child.tag not in ("DW_TAG_member", "DW_TAG_inheritance") or "DW_AT_declaration" in child.attributes or "DW_AT_external" in child.attributes:
                continue
            bits = "DW_AT_data_bit_offset" in child.attributes or "DW_AT_bit_size" in child.attributes
            offset = base + (_number(child, "DW_AT_data_bit_offset", 0) // 8 if bits else _number(child, "DW_AT_data_member_location", 0))
            found += [(offset, 1, INTEGER)] if bits else self._inside(child.get_DIE_from_attribute("DW_AT_type"), offset, room - 1)
        return found

    def _inside(self, die: Any, offset: int, room: int) -> list[tuple[int, int, str]]:
        if room <= 0:
            return [(offset, 8, MEMORY)]
        if die.tag in _QUALIFIERS or die.tag == "DW_TAG_typedef":
            return self._inside(die.get_DIE_from_attribute("DW_AT_type"), offset, room - 1)
        if die.tag in _RECORDS:
            return self._parts(die, offset, room - 1)
        if die.tag == "DW_TAG_array_type" and not _is_vector(die):
            one = self.of(die, room)
            count = min(_count(die), 17)
            inner = die.get_DIE_from_attribute("DW_AT_type")
            return [part for k in range(count) for part in self._inside(inner, offset + k * one.bytes, room - 1)]
        layout = self.layout(die, room)
        if layout.shown_as in ("c64", "c128"):
            half = layout.bytes // 2
            return [(offset, half, SSE), (offset + half, half, SSE)]
        return [(offset, layout.bytes, layout.classes[0] if layout.classes else MEMORY)]

    def _array(self, die: Any, room: int) -> Layout:
        one = self.of(die, room)
        bytes = _number(die, "DW_AT_byte_size", one.bytes * _count(die))
        if not _is_vector(die):
            return Layout(f"{one.type} []", bytes, (MEMORY,), "raw")
        return Layout(f"{one.type} vector", bytes, (SSE,) if bytes <= 32 else (MEMORY,), "raw", alignment=max(8, bytes))


def _base(name: str, bytes: int, encoding: int) -> Layout:
    if encoding == _BOOLEAN:
        return Layout(name, bytes, (INTEGER,), "bool")
    if encoding == _FLOAT:
        if bytes in (4, 8):
            return Layout(name, bytes, (SSE,), f"f{bytes * 8}")
        if bytes == 16 and "128" not in name:
            return Layout(name, 16, (MEMORY,), "f80", alignment=16)
        return Layout(name, bytes, (SSE,), "raw", alignment=max(8, bytes))
    if encoding == _COMPLEX:
        classes, shown_as = {8: ((SSE,), "c64"), 16: ((SSE, SSE), "c128")}.get(bytes, ((MEMORY,), "raw"))
        return Layout(name, bytes, classes, shown_as, alignment=8 if bytes < 32 else 16)
    sign = "i" if encoding in (_SIGNED, _SIGNED_CHAR) else "u"
    return Layout(name, bytes, (INTEGER,) * max(1, (bytes + 7) // 8), f"{sign}{bytes * 8}", alignment=max(8, bytes))


def _renamed(layout: Layout, name: str) -> Layout:
    if layout is VOID and name == "void":
        return layout
    return Layout(name, layout.bytes, layout.classes, layout.shown_as, layout.names, layout.by_reference, layout.alignment)


def _name(die: Any) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return attribute.value.decode("utf-8", "replace") if attribute is not None else ""


def _number(die: Any, name: str, default: int) -> int:
    attribute = die.attributes.get(name)
    return attribute.value if attribute is not None and isinstance(attribute.value, int) else default


def _is_vector(die: Any) -> bool:
    return "DW_AT_GNU_vector" in die.attributes


def _count(die: Any) -> int:
    """Elements of an array, of all its dimensions."""
    total = 1
    for child in die.iter_children():
        if child.tag == "DW_TAG_subrange_type":
            total *= _number(child, "DW_AT_count", _number(child, "DW_AT_upper_bound", -1) + 1)
    return max(total, 0)
