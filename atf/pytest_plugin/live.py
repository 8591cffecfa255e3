"""The fixture ``trace``: what was recorded of the test so far, cut out of the rings when it is asked about."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from atf.pytest_plugin.keeping import passing_directory

if TYPE_CHECKING:
    from atf.pytest_plugin.windows import Attempt


class Slice:
    """Events from a moment on, read again when a question goes beyond what was read."""

    def __init__(self, slices: Any, start_ns: int, baselines: str):
        self._slices, self.start_ns, self.baselines = slices, start_ns, baselines
        self._cuts: list[tuple[int, str, Any]] = []  # until when, directory, Trace

    def now_ns(self) -> int:
        return int(self._slices.now_ns())

    def until(self, end_ns: int) -> Any:
        """A Trace that has everything until then."""
        import atf

        for until_ns, _, trace in self._cuts:
            if until_ns >= end_ns:
                return trace
        directory = passing_directory()
        until_ns = self.now_ns()
        kept = self._slices.keep(f"{directory}/slice", self.start_ns, until_ns)
        trace = atf.open(kept.path)
        self._cuts.append((until_ns, directory, trace))
        return trace

    def close(self) -> None:
        for _, directory, trace in self._cuts:
            trace.close()
            shutil.rmtree(directory, ignore_errors=True)
        self._cuts.clear()


class LiveWindow:
    """``with trace.window() as w:``: what the block calls. All that :class:`atf.windows.Window` has, inside the block and after it."""

    def __init__(self, taken: Slice, start_ns: int | None = None, end_ns: int | None = None):
        self._slice = taken
        self.start_ns, self.end_ns = start_ns, end_ns

    def __enter__(self) -> LiveWindow:
        self.start_ns, self.end_ns = self._slice.now_ns(), None
        return self

    def __exit__(self, *why: object) -> None:
        self.end_ns = self._slice.now_ns()

    def _window(self) -> Any:
        from atf.windows import Window

        if self.start_ns is None:
            raise pytest.UsageError("trace.window() is a context manager: `with trace.window() as w:`, then ask w")
        end_ns = self.end_ns if self.end_ns is not None else self._slice.now_ns()
        window = Window(self._slice.until(end_ns), self.start_ns, end_ns)
        window.baselines = self._slice.baselines
        return window

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._window(), name)


class LiveTrace(LiveWindow):
    """The test itself. Asked directly, it answers about the call phase so far, or about setup while that goes on."""

    def __init__(self, taken: Slice, attempt: Attempt):
        super().__init__(taken)
        self._attempt = attempt

    def _window(self) -> Any:
        part = self._attempt.phases.get("call") or self._attempt.phases["setup"]
        return LiveWindow(self._slice, part.start_ns, part.end_ns)._window()

    def window(self) -> LiveWindow:
        """A window of its own: ``with trace.window() as w:``."""
        return LiveWindow(self._slice)

    def phase(self, name: str) -> LiveWindow:
        """Setup, call or teardown of this test, as far as it ran."""
        part = self._attempt.phases.get(name)
        if part is None:
            raise pytest.UsageError(f"phase {name!r} did not begin; there are {', '.join(self._attempt.phases)}")
        return LiveWindow(self._slice, part.start_ns, part.end_ns)

    def fixture(self, name: str) -> LiveWindow:
        """The setup of a fixture of this test. One that was set up for an earlier test is not here."""
        for fixture in self._attempt.fixtures:
            if fixture.name == name and fixture.setup is not None:
                return LiveWindow(self._slice, fixture.setup.start_ns, fixture.setup.end_ns)
        there = ", ".join(fixture.name for fixture in self._attempt.fixtures) or "none"
        raise pytest.UsageError(f"fixture {name!r} was not set up in this test; set up were {there}")
