"""The W3C trace context: ``00-<32 hex: trace id>-<16 hex: span id>-<2 hex: flags>``."""

import re
from typing import NamedTuple

from atf._core.errors import InvalidType, InvalidValue

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceParent(NamedTuple):
    """Whose work this is: the trace, and the span in it that called. Hexadecimal, never all zeros."""

    trace_id: str
    span_id: str
    flags: int = 0

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def read(text: str) -> "TraceParent | None":
    """None for what the specification says to ignore: another form, version ff, ids of zeros only. Later versions may have more behind it."""
    found = _FORM.fullmatch(text.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]) or not found[2].strip("0") or not found[3].strip("0"):
        return None
    return TraceParent(found[2], found[3], int(found[4], 16))


def parse(text: str) -> TraceParent:
    """The same for a value that somebody gave: InvalidValue where there is nothing to take over."""
    if not isinstance(text, str):
        raise InvalidType(f"a traceparent is a str, not {type(text).__name__}")
    found = read(text)
    if found is None:
        raise InvalidValue(f"traceparent {text!r}: it looks like 00-<32 hex>-<16 hex>-<2 hex> in lower case, and neither id is all zeros")
    return found
