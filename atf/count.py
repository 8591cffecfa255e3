"""A number of things that were seen in a window: an int to compare with, and a text that shows them.

Where records are missing, the number that was seen is the least that there were. A comparison that this decides is answered,
any other one raises TraceIncomplete.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from atf._core.errors import TraceIncomplete


class Count:
    """seen: how many were found. missing: why there may have been more; None: there were not."""

    at_least = True  # with records missing, there were as many as were seen, or more

    def __init__(self, seen: int, missing: str | None) -> None:
        self._seen, self.missing = seen, missing

    @property
    def count(self) -> int:
        """How many. TraceIncomplete when records are missing."""
        __tracebackhide__ = True
        return int(self)

    def title(self) -> str:
        """One line: what this is a number of."""
        return f"{self._seen}"

    def lines(self) -> list[str]:
        """What was seen, as an indented tree."""
        return []

    def _whole(self) -> int:
        __tracebackhide__ = True
        if self.missing is not None:
            seen = f"{self.title()} were seen, but there may be more" if self.at_least else self.title()
            raise TraceIncomplete(f"{seen}: {self.missing}")
        return self._seen

    def _compare(self, other: Any, compare: Callable[[int, int], bool], decided: Callable[[int, int], bool]) -> Any:
        __tracebackhide__ = True
        if isinstance(other, bool) or not hasattr(other, "__index__"):
            return NotImplemented
        wanted = operator.index(other)
        if self.missing is not None and not (self.at_least and decided(self._seen, wanted)):
            self._whole()
        return compare(self._seen, wanted)

    # The third argument: whether the answer stays the same, however many there were beside those that were seen.
    def __eq__(self, other: object) -> Any:
        __tracebackhide__ = True
        return self._compare(other, operator.eq, operator.gt)

    def __ne__(self, other: object) -> Any:
        __tracebackhide__ = True
        return self._compare(other, operator.ne, operator.gt)

    def __lt__(self, other: object) -> Any:
        __tracebackhide__ = True
        return self._compare(other, operator.lt, operator.ge)

    def __le__(self, other: object) -> Any:
        __tracebackhide__ = True
        return self._compare(other, operator.le, operator.gt)

    def __gt__(self, other: object) -> Any:
        __tracebackhide__ = True
        return self._compare(other, operator.gt, operator.gt)

    def __ge__(self, other: object) -> Any:
        __tracebackhide__ = True
        return self._compare(other, operator.ge, operator.ge)

    __hash__ = None  # type: ignore[assignment]  # equal to an int, and yet may refuse to be compared

    def __bool__(self) -> bool:
        __tracebackhide__ = True
        return bool(self > 0)

    def __index__(self) -> int:
        __tracebackhide__ = True
        return self._whole()

    def __int__(self) -> int:
        __tracebackhide__ = True
        return self._whole()

    def __add__(self, other: Any) -> Any:
        __tracebackhide__ = True
        return self._whole() + other

    def __sub__(self, other: Any) -> Any:
        __tracebackhide__ = True
        return self._whole() - other

    def __rsub__(self, other: Any) -> Any:
        __tracebackhide__ = True
        return other - self._whole()

    def __mul__(self, other: Any) -> Any:
        __tracebackhide__ = True
        return self._whole() * other

    __radd__, __rmul__ = __add__, __mul__

    def __repr__(self) -> str:
        missing = [f"  incomplete: {self.missing}"] if self.missing is not None else []
        return "\n".join([f"<{self.title()}>", *missing, *self.lines()])
