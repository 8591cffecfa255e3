"""When a test, its phases and its fixtures ran: moments on the clock of events, and spans of the same names in the trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    import pytest

    from atf.pytest_plugin.options import Limits, Settings

WIDE = ("class", "module", "package", "session")


class Part:
    """A phase of a test, or a fixture's setup or teardown: ``with Part(now, stack, span("fixture db")):``.

    shared_ns: how much of it went to fixtures that serve other tests too. Not counted twice when they nest.
    span: None where nobody tells what exception ends the part; a span would say that none did.
    """

    __slots__ = ("_now", "_span", "_stack", "end_ns", "failed", "hidden", "shared_ns", "start_ns", "wide")

    def __init__(self, now: Any, stack: list[Part], span: Any = None, wide: bool = False):
        self._now, self._stack, self._span, self.wide = now, stack, span, wide
        self.start_ns = self.shared_ns = 0
        self.failed = False
        self.end_ns: int | None = None
        self.hidden: BaseException | None = None  # that ends the part although nothing raises it there

    def __enter__(self) -> Part:
        self._stack.append(self)
        self.start_ns = self._now()
        if self._span is not None:
            self._span.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None and self.hidden is not None:
            kind, value = type(self.hidden), self.hidden
        self.failed = kind is not None
        if self._span is not None:
            self._span.__exit__(kind, value, traceback)
        self.end_ns = self._now()
        while self._stack and self._stack.pop() is not self:  # a part within that nobody ended ends with this one
            pass
        took = self.end_ns - self.start_ns
        if self.wide:
            self.shared_ns = took
        if self._stack:
            self._stack[-1].shared_ns += self.shared_ns

    def told(self) -> dict[str, Any]:
        return {"start_ns": self.start_ns, "end_ns": self.end_ns, "shared_ns": self.shared_ns}


class Fixture:
    """One setup of a fixture and, later, its teardown. nodeid: the test that it was set up for, and with it torn down."""

    __slots__ = ("ended_for", "name", "nodeid", "scope", "setup", "teardown")

    def __init__(self, name: str, scope: str, nodeid: str):
        self.name, self.scope, self.nodeid = name, scope, nodeid
        self.ended_for = ""
        self.setup: Part | None = None
        self.teardown: Part | None = None

    def told(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "scope": self.scope,
            "setup": self.setup.told() if self.setup else None,
            "teardown": self.teardown.told() if self.teardown else None,
        }


class Attempt:
    """One attempt of a test, from the beginning of its setup to the end of its teardown."""

    def __init__(self, item: pytest.Item, settings: Settings, limits: Limits, number: int, start_ns: int):
        self.item, self.settings, self.limits, self.number = item, settings, limits, number
        self.start_ns = start_ns
        self.end_ns: int | None = None
        self.phases: dict[str, Part] = {}
        self.fixtures: list[Fixture] = []
        self.outcome = "passed"
        self.error = ""  # the first failure, in one line
        self.threads_before: frozenset[Any] = frozenset()
        self.threads_left: list[str] = []
        self.kept = ""  # path of the trace, when there is one
        self.live: list[Any] = []  # slices that were opened while it ran

    def told(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "nodeid": self.item.nodeid,
            "attempt": self.number,
            "outcome": self.outcome,
            "error": self.error,
            "phases": {name: part.told() for name, part in self.phases.items()},
            "fixtures": [fixture.told() for fixture in self.fixtures],
            "threads_left": self.threads_left,
        }
