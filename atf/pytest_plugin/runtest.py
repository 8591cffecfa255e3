"""The hooks around tests: where their windows begin and end, what is said when they fail, and what is kept of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Generator
from typing import Any

import pytest

from atf._core.errors import AtfError
from atf.pytest_plugin import report as reports
from atf.pytest_plugin.keeping import Keeper, passing_directory
from atf.pytest_plugin.modes import EXPECTED, FAILED, OFF, keeps
from atf.pytest_plugin.options import Limits, Settings
from atf.pytest_plugin.recording import Recorder, plan_of
from atf.pytest_plugin.windows import Attempt, Fixture, Part
from atf.tracing import event, span

PROPERTY = "atf_trace"


class Tests:
    """Registered when something is recorded in this process."""

    def __init__(self, config: pytest.Config, settings: Settings, recorder: Recorder, keeper: Keeper):
        self.config, self.settings, self.recorder, self.keeper = config, settings, recorder, keeper
        self.asked: dict[pytest.Item, tuple[Settings, Limits]] = {}  # by markers and fixtures
        self.attempt: Attempt | None = None
        self.refused = ""  # why the test that runs cannot be recorded
        self.parts: list[Part] = []  # that are open, the innermost last
        self._attempts: dict[str, int] = {}
        self.fixtures: list[Fixture] = []  # of wider scope than a test, as they were set up
        self.start = str(config.invocation_params.dir)

    # ---- attempts
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._attempts.clear()
        try:
            return (yield)
        finally:
            if self.attempt is not None and not self.recorder.forked:  # an interrupt: nobody reported its end
                self.attempt.outcome = FAILED
                self.attempt.error = self.attempt.error or "interrupted"
                self._settle(self.attempt)

    def _begin(self, item: pytest.Item) -> None:
        settings, limits = self.asked.get(item, (self.settings, Limits()))
        recorder = self.recorder
        self.attempt, self.refused = None, ""
        try:
            recorder.switch(None if settings.mode == OFF or settings.never else plan_of(settings))
        except pytest.UsageError as error:
            self.refused = str(error)
        if recorder.slices is None:
            return
        number = getattr(item, "execution_count", None)
        if not isinstance(number, int) or number < 1:
            number = self._attempts[item.nodeid] = self._attempts.get(item.nodeid, 0) + 1
        self.parts.clear()
        self.attempt = Attempt(item, settings, limits, number, recorder.slices.now_ns())
        self.attempt.threads_before = frozenset(threading.enumerate())

    def _phase(self, item: pytest.Item, when: str) -> Any:
        attempt = self.attempt
        if attempt is None or attempt.item is not item:
            return contextlib.nullcontext()
        part = attempt.phases[when] = Part(self.recorder.slices.now_ns, self.parts, span(f"pytest {when}", nodeid=item.nodeid))
        return part

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._begin(item)
        with self._phase(item, "setup"):
            answer = yield
        if self.refused:
            raise pytest.UsageError(self.refused)
        return answer

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with self._phase(item, "call") as part:
            answer = yield
            if part is not None:
                part.hidden = _hidden(item)
        attempt = self.attempt
        if attempt is not None and attempt.limits != Limits():
            from atf.pytest_plugin.limits import check

            check(attempt, self.slice_of(attempt))
        return answer

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with self._phase(item, "teardown"):
            return (yield)

    # ---- reports
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """pytest-forked makes such a report of a child that died: its rings are still there."""
        if report.when == "???" and report.outcome != "passed":
            from atf.pytest_plugin.salvaging import rescue_child

            text = rescue_child(self.keeper.run, self.settings, self.start, report.nodeid, str(report.longrepr))
            if text:
                report.sections.append((reports.SECTION, text))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        report = yield
        attempt = self.attempt
        if attempt is not None and attempt.item is item:
            self._reported(attempt, report)
        return report

    def _reported(self, attempt: Attempt, report: Any) -> None:
        if report.outcome == "failed":
            attempt.outcome = FAILED
            attempt.error = attempt.error or _one_line(report)
        elif report.outcome == "skipped" and attempt.outcome == "passed":
            attempt.outcome = EXPECTED if hasattr(report, "wasxfail") else "skipped"
        wanted = keeps(attempt.settings.mode, attempt.outcome, attempt.number)
        if report.when == "teardown":
            if report.outcome == "failed":
                self._evidence(attempt, report, wanted)
            self._settle(attempt)
            if attempt.kept:
                self._property(attempt, report)
        elif report.outcome == "failed":
            self._evidence(attempt, report, wanted)

    def _evidence(self, attempt: Attempt, report: Any, wanted: bool) -> None:
        """A section of the report that tells of a failure now: pytest takes none later."""
        try:
            text, _ = self._told(attempt, self.recorder.slices.now_ns(), wanted)
        except (AtfError, OSError) as error:  # the test's own failure comes first
            text = f"(no trace: {error})"
        report.sections.append((reports.SECTION, text))
        if attempt.kept:
            self._property(attempt, report)

    def _told(self, attempt: Attempt, now_ns: int, wanted: bool) -> tuple[str, Any]:
        """The text about an attempt until now, from a trace that is kept if wanted, and Kept."""
        from atf.trace import open_trace

        slices, passing = self.recorder.slices, ""
        try:
            if wanted:
                kept = self.keeper.keep(slices, attempt, now_ns)
            else:
                passing = passing_directory()
                kept = slices.keep(f"{passing}/slice", attempt.start_ns, now_ns)
            with open_trace(kept.path) as trace:
                parts = [reports.calls(trace, attempt.start_ns, now_ns, attempt.settings.tail), *self._failed_before(attempt)]
            if wanted:
                parts.append(reports.difference(attempt.settings, self.keeper.run.base, attempt.item.nodeid, kept.path))
                parts.append(reports.ending(kept.path, self.start, kept.overwritten))
        finally:
            if passing:
                shutil.rmtree(passing, ignore_errors=True)
        return "\n".join(filter(None, parts)), kept

    def _failed_before(self, attempt: Attempt) -> list[str]:
        """Fixtures whose failure is remembered: their calls are not in this test's stretch."""
        needed = getattr(attempt.item, "fixturenames", ())
        failed = [one for one in self.fixtures if one.setup is not None and one.setup.failed and one.name in needed and one not in attempt.fixtures]
        return [f"the fixture {one.name} ({one.scope}) failed in the setup of {one.nodeid}: its calls are in that trace" for one in failed]

    def _property(self, attempt: Attempt, report: Any) -> None:
        """junitxml and other reporters read it from the last report of an item."""
        where = reports.shown(attempt.kept, self.start)
        for properties in (attempt.item.user_properties, report.user_properties):
            properties[:] = [pair for pair in properties if pair[0] != PROPERTY] + [(PROPERTY, where)]

    def _settle(self, attempt: Attempt) -> None:
        """The attempt is over: its trace is kept whole, or nothing of it stays."""
        self.attempt = None
        slices = self.recorder.slices
        if slices is None:
            return
        attempt.end_ns = slices.now_ns()
        for live in attempt.live:
            live.close()
        if keeps(attempt.settings.mode, attempt.outcome, attempt.number):
            attempt.threads_left = [one.name for one in threading.enumerate() if one not in attempt.threads_before]
            try:
                self.keeper.settle(attempt, self.keeper.keep(slices, attempt, attempt.end_ns))
            except Exception as error:
                self.config.issue_config_time_warning(pytest.PytestWarning(f"atf: {attempt.item.nodeid}: no trace: {error}"), 2)
        else:
            self.keeper.drop(attempt)
        if self.recorder.forked:  # pytest-forked: this process ends by os._exit
            self.recorder.end()

    def last_words(self, why: str, keep: bool = True) -> str:
        """What the test that runs did last, told from another thread; kept as a failure's trace when this process is about to end."""
        attempt, slices = self.attempt, self.recorder.slices
        if attempt is None or slices is None:
            return ""
        nodeid = attempt.item.nodeid
        event("timeout", test=nodeid, after=why)  # the trace goes on until now, and so do the calls that are open in it
        now = slices.now_ns()
        if keep:
            attempt.outcome, attempt.error = FAILED, attempt.error or why
        wanted = keep and keeps(attempt.settings.mode, FAILED, attempt.number)
        try:
            text, kept = self._told(attempt, now, wanted)
            if wanted:
                self.keeper.settle(attempt, kept)
        except Exception as error:
            text = f"(no trace: {error})"
        return f"\n------ atf: {nodeid}: {why}; its last calls ------\n{text}\n\n"

    def slice_of(self, attempt: Attempt) -> Any:
        """What was recorded of this attempt so far, as a live trace."""
        from atf.pytest_plugin.live import Slice

        taken = Slice(self.recorder.slices, attempt.start_ns, os.path.dirname(attempt.item.path))
        attempt.live.append(taken)
        return taken


def _one_line(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr or "").strip().partition("\n")[0][:200]


def _hidden(item: pytest.Item) -> BaseException | None:
    """What a unittest.TestCase raised: unittest catches it, and pytest takes it from here for its report."""
    found = getattr(item, "_excinfo", None)
    value = getattr(found[0], "value", None) if isinstance(found, list) and found else None
    return value if isinstance(value, BaseException) else None
