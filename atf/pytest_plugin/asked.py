"""Which tests have wishes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from atf.pytest_plugin.options import of_marker

if TYPE_CHECKING:
    from atf.pytest_plugin.runtest import Tests


def ask(tests: Tests, items: list[pytest.Item]) -> None:
    """Which items have wishes of their own, and what they are. Raises pytest.UsageError."""
    for item in items:
        if wishes(item):
            tests.asked[item] = of_marker(tests.settings, item)


def wishes(item: pytest.Item) -> bool:
    """Whether a test has our marker, or asks for our fixture `trace` (and not for one of its own of that name)."""
    if item.get_closest_marker("atf") is not None:
        return True
    if "trace" not in getattr(item, "fixturenames", ()):
        return False
    info: Any = getattr(item, "_fixtureinfo", None)
    found: Any = info.name2fixturedefs.get("trace", ()) if info is not None else ()
    return bool(found) and found[-1].func.__module__ == "atf.pytest_plugin"
