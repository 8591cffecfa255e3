"""Rust's own mangling (v0): ``_RNvCs…_5crate4main`` is ``crate::main``."""

from __future__ import annotations

_BASIC = {
    "a": "i8", "b": "bool", "c": "char", "d": "f64", "e": "str", "f": "f32", "h": "u8", "i": "isize", "j": "usize", "l": "i32", "m": "u32",
    "n": "i128", "o": "u128", "p": "_", "s": "i16", "t": "u16", "u": "()", "v": "...", "x": "i64", "y": "u64", "z": "!",
}  # fmt: skip
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Bad(Exception):
    pass


def demangle_v0(name: str) -> str | None:
    """The path of a symbol, without hashes; None when it is no v0 name."""
    reader = _Reader(name[2:].partition(".")[0])
    try:
        return reader.path(True)
    except (_Bad, IndexError, ValueError, RecursionError):
        return None


class _Reader:
    """Reads the grammar from left to right; back references go to positions that were read before."""

    def __init__(self, text: str):
        self.text, self.at, self.depth = text, 0, 0

    def take(self) -> str:
        self.at += 1
        return self.text[self.at - 1]

    def eat(self, sign: str) -> bool:
        if self.text.startswith(sign, self.at):
            self.at += 1
            return True
        return False

    def base62(self) -> int:
        if self.eat("_"):
            return 0
        value = 0
        while (sign := self.take()) != "_":
            value = value * 62 + _DIGITS.index(sign)
        return value + 1

    def disambiguator(self) -> int:
        return self.base62() + 1 if self.eat("s") else 0

    def identifier(self) -> str:
        self.disambiguator()
        return self.plain()

    def plain(self) -> str:
        coded = self.eat("u")
        begin = self.at
        while self.text[self.at].isdecimal() and (self.at == begin or self.text[begin] != "0"):
            self.at += 1
        length = int(self.text[begin : self.at])
        self.eat("_")
        self.at += length
        if self.at > len(self.text):
            raise _Bad
        found = self.text[self.at - length : self.at]
        if coded:
            head, _, tail = found.rpartition("_")
            try:
                return (f"{head}-{tail}" if head else tail).encode().decode("punycode")
            except UnicodeError:
                return found
        return found

    def back(self, what: str) -> str:
        target = self.base62()
        if target >= self.at - 1 or self.depth > 200:
            raise _Bad
        kept, self.at = self.at, target
        self.depth += 1
        found = self.path(False) if what == "path" else self.type() if what == "type" else self.constant()
        self.at, self.depth = kept, self.depth - 1
        return found

    def path(self, value: bool) -> str:
        kind = self.take()
        if kind == "C":
            return self.identifier()
        if kind == "M":
            self.disambiguator()
            self.path(False)
            return f"<{self.type()}>"
        if kind == "X":
            self.disambiguator()
            self.path(False)
            kind = "Y"
        if kind == "Y":
            one = self.type()
            return f"<{one} as {self.path(False)}>"
        if kind == "N":
            space = self.take()
            outer = self.path(value)
            number = self.disambiguator()
            name = self.plain()
            if space.isupper():
                what = {"C": "closure", "S": "shim"}.get(space, space)
                return f"{outer}::{{{what}{':' + name if name else ''}#{number}}}"
            return f"{outer}::{name}" if name else outer
        if kind == "I":
            outer = self.path(value)
            parts = []
            while not self.eat("E"):
                parts.append(self.generic())
            return f"{outer}::<{', '.join(parts)}>" if value else f"{outer}<{', '.join(parts)}>"
        if kind == "B":
            return self.back("path")
        raise _Bad

    def generic(self) -> str:
        if self.eat("L"):
            self.base62()
            return "'_"
        return self.constant() if self.eat("K") else self.type()

    def type(self) -> str:
        kind = self.take()
        if kind in _BASIC:
            return _BASIC[kind]
        if kind in "RQ":
            if self.eat("L"):
                self.base62()
            return ("&" if kind == "R" else "&mut ") + self.type()
        if kind in "PO":
            return ("*const " if kind == "P" else "*mut ") + self.type()
        if kind == "A":
            one = self.type()
            return f"[{one}; {self.constant()}]"
        if kind == "S":
            return f"[{self.type()}]"
        if kind == "T":
            parts = []
            while not self.eat("E"):
                parts.append(self.type())
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        if kind == "F":
            return self.function()
        if kind == "D":
            return self.dynamic()
        if kind == "B":
            return self.back("type")
        self.at -= 1
        return self.path(False)

    def function(self) -> str:
        if self.eat("G"):
            self.base62()
        unsafe = "unsafe " if self.eat("U") else ""
        if self.eat("K"):
            abi = "C" if self.eat("C") else self.plain().replace("_", "-")
            unsafe += f'extern "{abi}" '
        parts = []
        while not self.eat("E"):
            parts.append(self.type())
        result = self.type()
        return f"{unsafe}fn({', '.join(parts)})" + (f" -> {result}" if result != "()" else "")

    def dynamic(self) -> str:
        if self.eat("G"):
            self.base62()
        traits = []
        while not self.eat("E"):
            one = self.path(False)
            while self.eat("p"):
                name = self.plain()
                one += f"<{name} = {self.type()}>"
            traits.append(one)
        if self.eat("L"):
            self.base62()
        return f"dyn {' + '.join(traits)}"

    def constant(self) -> str:
        if self.eat("B"):
            return self.back("constant")
        kind = self.take()
        if kind == "p":
            return "_"
        negative = "-" if self.eat("n") else ""
        end = self.text.index("_", self.at)
        digits, self.at = self.text[self.at : end], end + 1
        number = int(digits or "0", 16)
        if kind == "b":
            return "true" if number else "false"
        if kind == "c":
            return repr(chr(number))
        return f"{negative}{number}"
