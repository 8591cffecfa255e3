"""An ELF file as the controller needs it: what machine it is for, what it loads, and its functions.

Sections and symbols are read by numpy straight from the mapped file: 35,000 symbols in some tens of milliseconds.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from atf._core.errors import TargetForeign, TargetGone
from atf.native import ehframe

MACHINES = {3: "x86 (32 bits)", 40: "ARM (32 bits)", 62: "x86_64", 183: "aarch64", 243: "RISC-V", 22: "s390x", 21: "ppc64"}
X86_64, AARCH64 = 62, 183
NOTYPE, FUNC, IFUNC = 0, 2, 10
SYMBOL = np.dtype([("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8")])
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True)
class Section:
    """One section header; address and size in bytes."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


class Function(NamedTuple):
    """A function of a file: link-time address, bytes, name as the linker knows it (``sub_<address>`` where there is none)."""

    vaddr: int
    size: int
    name: str
    kind: int = FUNC
    named: bool = True
    aliases: tuple[str, ...] = ()  # its other names
    room: int = 0  # bytes up to the next function or the end of the section


class ElfFile:
    """One mapped ELF file. TargetGone when it is not there, TargetForeign when it is no 64-bit little-endian ELF file."""

    def __init__(self, path: str):
        self.path = path
        try:
            with open(path, "rb") as file:
                self.data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise TargetGone(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise TargetForeign(f"{path} is an empty file: name a program") from error
        head = self.data[:64]
        if head[:4] != b"\x7fELF" or len(head) < 64:
            raise TargetForeign(f"{path} is not an ELF program: native tracing takes compiled programs; name the interpreter for a script")
        self.bits = {1: 32, 2: 64}.get(head[4], 0)
        self.type, self.machine = struct.unpack_from("<HH", head, 16)
        if self.bits != 64 or head[5] != 1:
            what = "a 32-bit" if self.bits == 32 else "a big-endian"
            raise TargetForeign(f"{path} is {what} program: only 64-bit little-endian ones can be traced; build it for 64 bits")
        self.entry, self._phoff, self._shoff = struct.unpack_from("<QQQ", head, 24)
        self._phentsize, self._phnum, self._shentsize, self._shnum, self._shstrndx = struct.unpack_from("<HHHHH", head, 54)
        try:
            self.segments = [_SEGMENT.unpack_from(self.data, self._phoff + i * self._phentsize) for i in range(self._phnum)]
            self.sections = self._read_sections()
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise TargetForeign(f"{path} is a damaged ELF file ({error}): build or install it again") from error

    def _read_sections(self) -> list[Section]:
        raw = [_SECTION.unpack_from(self.data, self._shoff + i * self._shentsize) for i in range(self._shnum if self._shoff else 0)]
        if not raw:
            return []
        strings = raw[self._shstrndx][4]
        return [Section(self._text(strings + r[0]), r[1], r[2], r[3], r[4], r[5], r[6]) for r in raw]

    def _text(self, at: int) -> str:
        return bytes(self.data[at : self.data.find(b"\0", at)]).decode("utf-8", "surrogateescape")

    def section(self, name: str) -> Section | None:
        return next((one for one in self.sections if one.name == name), None)

    def content(self, section: Section) -> bytes:
        """The bytes of a section; empty when it has none in the file."""
        return b"" if section.type == 8 else bytes(self.data[section.offset : section.offset + section.size])

    @property
    def machine_name(self) -> str:
        return MACHINES.get(self.machine, f"machine {self.machine}")

    @property
    def interpreter(self) -> str | None:
        """The dynamic loader that the program asks for; None: static, or a library."""
        for segment in self.segments:
            if segment[0] == 3:
                return self._text(segment[2])
        return None

    @property
    def is_static(self) -> bool:
        """A program that no dynamic loader starts: nothing can be loaded into it."""
        return self.interpreter is None and not self.needed and self.soname is None

    @property
    def is_go(self) -> bool:
        """Made by the Go compiler, whole or in part."""
        return any(section.name in (".gopclntab", ".go.buildinfo") for section in self.sections)

    @property
    def needed(self) -> list[str]:
        """The libraries it names (DT_NEEDED)."""
        return self._dynamic_texts(1)

    @property
    def soname(self) -> str | None:
        return next(iter(self._dynamic_texts(14)), None)

    def _dynamic_texts(self, wanted: int) -> list[str]:
        dynamic = next((s for s in self.segments if s[0] == 2), None)
        if dynamic is None:
            return []
        entries = list(struct.iter_unpack("<QQ", self.data[dynamic[2] : dynamic[2] + dynamic[5] // 16 * 16]))
        strings = next((self.offset_of(value) for tag, value in entries if tag == 5), None)
        return [] if strings is None else [self._text(strings + value) for tag, value in entries if tag == wanted]

    def offset_of(self, vaddr: int) -> int | None:
        """Where in the file the byte of a link-time address stands."""
        for kind, _, offset, address, _, size, _, _ in self.segments:
            if kind == 1 and address <= vaddr < address + size:
                return int(offset + vaddr - address)
        return None

    @property
    def build_id(self) -> bytes:
        """What the linker calls this build; empty when it does not say."""
        for kind, _, offset, _, _, size, _, _ in self.segments:
            end = offset + size
            while kind == 4 and offset + 12 <= end:
                name_bytes, bytes_, type_ = struct.unpack_from("<III", self.data, offset)
                body = offset + 12 + (name_bytes + 3) // 4 * 4
                if type_ == 3 and self.data[offset + 12 : offset + 16] == b"GNU\0":
                    return bytes(self.data[body : body + bytes_])
                offset = body + (bytes_ + 3) // 4 * 4
        return b""

    @property
    def size_in_memory(self) -> int:
        """Bytes from the first to the last mapped one."""
        spans = [(s[3], s[3] + s[6]) for s in self.segments if s[0] == 1]
        return max(e for _, e in spans) - min(b for b, _ in spans) if spans else 0

    @property
    def stripped(self) -> bool:
        return self.section(".symtab") is None

    def symbols(self, table: str) -> list[Function]:
        """Defined functions of ``.symtab`` or ``.dynsym``; the symbol version after ``@`` is cut."""
        section = self.section(table)
        if section is None or section.type == 8 or section.link >= len(self.sections):
            return []
        raw = np.frombuffer(self.data, SYMBOL, section.size // SYMBOL.itemsize, section.offset)
        kind = raw["info"] & 15
        chosen = raw[((kind == FUNC) | (kind == IFUNC)) & (raw["shndx"] != 0) & (raw["shndx"] < 0xFF00)]
        # Global before weak before local, so that the best name of an address comes first.
        order = np.lexsort((_rank(chosen["info"] >> 4), chosen["value"]))
        chosen = chosen[order]
        text = self.content(self.sections[section.link])
        found = []
        for name_at, kind_, vaddr, size in zip(
            chosen["name"].tolist(), (chosen["info"] & 15).tolist(), chosen["value"].tolist(), chosen["size"].tolist(), strict=True
        ):
            name = text[name_at : text.find(b"\0", name_at)].decode("utf-8", "surrogateescape")
            found.append(Function(vaddr, size, name.partition("@")[0] or f"sub_{vaddr:x}", kind_))
        return found

    def functions(self) -> list[Function]:
        """All functions by address, one each: of the symbol tables, and of the unwind table where the first is stripped."""
        known: dict[int, Function] = {}
        for table in (".symtab", ".dynsym"):
            for function in self.symbols(table):
                first = known.setdefault(function.vaddr, function)
                if function.name != first.name:
                    known[function.vaddr] = first._replace(aliases=(*first.aliases, function.name))
        if self.stripped:
            separate = self.debug_file()
            if separate is not None:
                known = {f.vaddr: f for f in reversed(ElfFile(separate).symbols(".symtab"))} | known
            self._add_frames(known)
        bounds = sorted((s.address, s.address + s.size) for s in self.sections if s.flags & 4 and not s.name.startswith((".plt", ".init", ".fini")))
        return _sized([known[vaddr] for vaddr in sorted(known)], bounds, self._labels())

    def _labels(self) -> Any:
        """Addresses of code that has a name but is called no function: hand-written assembly."""
        code = np.array([bool(section.flags & 4) for section in self.sections] + [False])
        found = [np.zeros(0, "<u8")]
        for table in (".symtab", ".dynsym"):
            section = self.section(table)
            if section is not None and section.type != 8:
                raw = np.frombuffer(self.data, SYMBOL, section.size // SYMBOL.itemsize, section.offset)
                raw = raw[(raw["info"] & 15 == NOTYPE) & (raw["shndx"] < len(code) - 1)]
                found.append(raw["value"][code[raw["shndx"]]])
        return np.concatenate(found)

    def _add_frames(self, known: dict[int, Function]) -> None:
        section = self.section(".eh_frame")
        if section is None or section.type == 8:
            return
        ranges = sorted((f.vaddr, f.vaddr + f.size) for f in known.values())
        inside, position, end = set(), 0, 0
        frames = sorted(ehframe.entries(self.content(section), section.address))
        for vaddr, _ in frames:  # a frame inside a known function is a part of it
            while position < len(ranges) and ranges[position][0] <= vaddr:
                end = max(end, ranges[position][1])
                position += 1
            if vaddr < end:
                inside.add(vaddr)
        for vaddr, size in frames:
            if vaddr not in known and vaddr not in inside:
                known[vaddr] = Function(vaddr, size, f"sub_{vaddr:x}", FUNC, False)

    def debug_file(self) -> str | None:
        """The separate file with symbols and lines of this very build, where a package put it."""
        mark = self.build_id.hex()
        path = f"/usr/lib/debug/.build-id/{mark[:2]}/{mark[2:]}.debug"
        return path if mark and os.path.exists(path) else None


def _rank(binding: Any) -> Any:
    return np.where(binding == 1, 0, np.where(binding == 2, 1, 2))


def _sized(functions: list[Function], bounds: list[tuple[int, int]], labels: Any) -> list[Function]:
    """Those inside of code sections, with the room that each has; symbols without a size (hand-written assembly) fill theirs."""
    starts = np.array([function.vaddr for function in functions], "<u8")
    every = np.append(np.union1d(starts, labels), np.uint64((1 << 64) - 1))
    following = every[np.searchsorted(every, starts, "right")].tolist()
    section = (np.searchsorted(np.array([begin for begin, _ in bounds], "<u8"), starts, "right") - 1).tolist()
    found = []
    for function, next_start, at in zip(functions, following, section, strict=True):
        vaddr, size, name, kind, named, aliases, _ = function
        if bounds and (at < 0 or vaddr >= bounds[at][1]):
            continue
        room = min(bounds[at][1] if bounds else vaddr + size, next_start) - vaddr
        found.append(Function(vaddr, size or room, name, kind, named, aliases, room))
    return found
