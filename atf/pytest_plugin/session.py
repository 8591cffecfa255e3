"""One process of a run: what was asked for, its recorder, and which hooks it needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from atf.pytest_plugin import options
from atf.pytest_plugin.modes import OFF

if TYPE_CHECKING:
    from atf.pytest_plugin.layout import Run
    from atf.pytest_plugin.live import LiveTrace
    from atf.pytest_plugin.runtest import Tests


def prepare(config: pytest.Config, namespace: Any) -> Session:
    """Raises pytest.UsageError for what cannot be used. Recording begins here when it was asked for."""
    session = Session(config, options.settings(config, namespace), _distributes(namespace))
    session.begin()
    return session


def _distributes(namespace: Any) -> bool:
    """Whether this is the controller of pytest-xdist, which runs no test itself."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return False
    spread = getattr(namespace, "dist", "no") != "no" or getattr(namespace, "distload", False)
    return bool(getattr(namespace, "numprocesses", None) or (spread and getattr(namespace, "tx", None)))


class Session:
    def __init__(self, config: pytest.Config, settings: options.Settings, controller: bool):
        self.config, self.settings, self.controller = config, settings, controller
        self.tests: Tests | None = None
        self.run: Run | None = None
        self._recorder: Any = None

    @property
    def mode(self) -> str:
        return self.settings.mode

    def begin(self) -> None:
        if self.settings.mode != OFF and not self.controller:
            from atf.pytest_plugin.recording import plan_of

            self.recorder.switch(plan_of(self.settings))

    @property
    def recorder(self) -> Any:
        if self._recorder is None:
            from atf.pytest_plugin.recording import Recorder

            self._recorder = Recorder(str(self.config.rootpath))
        return self._recorder

    def configure(self) -> None:
        if getattr(self.config.option, "atf_update", False):
            os.environ["ATF_UPDATE"] = "1"
        if self.settings.never:
            return
        if self.controller or self.settings.mode != OFF:
            self._open_run()
        if self.controller:
            from atf.pytest_plugin.xdist import Controller

            self.config.pluginmanager.register(Controller(self), "atf-controller")
        elif self.settings.mode != OFF:
            self._record_tests()

    def _open_run(self) -> None:
        from atf.pytest_plugin.layout import Run, new_run_id
        from atf.pytest_plugin.summary import Summary

        given = getattr(self.config, "workerinput", {})
        base = os.path.join(str(self.config.rootpath), self.settings.dir)
        self.run = Run(base, given.get("atf_run") or new_run_id(), given.get("workerid", ""))
        if not given:
            self.config.pluginmanager.register(Summary(self), "atf-summary")

    def _record_tests(self) -> None:
        from atf.pytest_plugin.fixtures import Fixtures
        from atf.pytest_plugin.hang import Hangs
        from atf.pytest_plugin.keeping import Keeper
        from atf.pytest_plugin.runtest import Tests

        if self.run is None:
            self._open_run()
        assert self.run is not None
        self.tests = Tests(self.config, self.settings, self.recorder, Keeper(self.config, self.run, self.settings.max_files))
        self.config.pluginmanager.register(self.tests, "atf-tests")
        self.config.pluginmanager.register(Fixtures(self.tests), "atf-fixtures")
        self.config.pluginmanager.register(Hangs(self.tests, bool(self.run.worker)), "atf-hangs")

    def collected(self, session: pytest.Session) -> None:
        """Markers and globs can be judged now."""
        if self.settings.never or self.controller:
            return
        from atf.pytest_plugin.asked import ask, wishes

        if self.tests is None and any(wishes(item) for item in session.items):
            self._record_tests()
        if self.tests is None:
            return
        ask(self.tests, session.items)
        if session.testsfailed or not session.items:
            return
        from atf.pytest_plugin.filters import check

        root = str(self.config.rootpath)
        if self.settings.mode != OFF:
            check(self.settings.include or (), "--atf-include", root)
        for item, (settings, _) in self.tests.asked.items():
            if settings.include != self.settings.include:
                check(settings.include or (), f"{item.nodeid}: @pytest.mark.atf(include=)", root)

    def end(self) -> None:
        if self._recorder is not None:
            self._recorder.end()

    # ---- what tests may ask
    @property
    def directory(self) -> str:
        """Where this run's traces go; made with the first one."""
        return "" if self.run is None else self.run.directory

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The index's lines of this run so far."""
        return [] if self.run is None else self.run.entries()

    @property
    def fixtures(self) -> list[Any]:
        """Fixtures of wider scope that this process has set up: name, scope, nodeid, setup, teardown."""
        return [] if self.tests is None else self.tests.fixtures


def live(request: pytest.FixtureRequest) -> LiveTrace:
    """For the fixture ``trace``."""
    from atf.pytest_plugin import KEY
    from atf.pytest_plugin.live import LiveTrace

    session = request.config.stash[KEY]
    if session.settings.never:
        pytest.skip("--no-atf: nothing is recorded that this test could ask about")
    attempt = None if session.tests is None else session.tests.attempt
    if attempt is None:
        if session.tests is not None and session.tests.refused:
            raise pytest.UsageError(session.tests.refused)
        raise pytest.UsageError('the fixture trace needs a recording: @pytest.mark.atf(mode="off") takes it away')
    return LiveTrace(session.tests.slice_of(attempt), attempt)
