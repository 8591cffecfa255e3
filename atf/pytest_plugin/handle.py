"""The fixture ``atf``."""

from __future__ import annotations

from typing import Any

import atf


class Handle:
    """The module ``atf``, and ``decision``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(atf, name)

    def decision(self, type: str, /, **attributes: Any) -> None:
        """Write that the program decided something: an event of that type, found by ``trace.decision(type, …)``."""
        atf.event(type, **attributes)

    def __repr__(self) -> str:
        return "<the module atf, and decision>"
