"""What pytest shows of a comparison that does not hold. A plugin imports the hook from here."""

from __future__ import annotations

from typing import Any

from atf.count import Count

_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def pytest_assertrepr_compare(config: Any, op: str, left: Any, right: Any) -> list[str] | None:
    """The numbers in one line, and then the calls in question; None for what is not ours."""
    if not isinstance(left, Count):
        if not isinstance(right, Count):
            return None
        left, op, right = right, _TURNED.get(op, op), left
    said = right.title() if isinstance(right, Count) else repr(right)
    more = ["  and:", *right.lines()] if isinstance(right, Count) else []
    return [f"{left.title()} {op} {said}", *left.lines(), *more]
