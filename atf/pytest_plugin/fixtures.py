"""The hooks around fixtures: each setup and teardown has a window of its own, and belongs to a test or to none."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from atf.pytest_plugin.windows import WIDE, Fixture, Part
from atf.tracing import event, span

if TYPE_CHECKING:
    from atf.pytest_plugin.runtest import Tests


class Fixtures:
    """Registered beside Tests."""

    def __init__(self, tests: Tests):
        self.tests = tests
        self._live: dict[Any, Fixture] = {}  # set up and not torn down

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
        slices = self.tests.recorder.slices
        if slices is None or getattr(fixturedef.func, "__name__", "") == "get_direct_param_fixture_func":  # a parameter, which pytest makes a fixture
            return (yield)
        fixture = Fixture(fixturedef.argname, fixturedef.scope, request.node.nodeid if self.tests.attempt is None else self.tests.attempt.item.nodeid)
        part = Part(slices.now_ns, self.tests.parts, span(f"fixture {fixture.name}", scope=fixture.scope), fixture.scope in WIDE)
        fixture.setup = part
        if fixture.scope in WIDE:
            self.tests.fixtures.append(fixture)
        if self.tests.attempt is not None:
            self.tests.attempt.fixtures.append(fixture)
        try:
            with part:
                return (yield)
        finally:
            # Of the finalizers that are there now it is the last, so the first to run: before the fixture's own.
            self._live[fixturedef] = fixture
            fixturedef.addfinalizer(lambda: self._fixture_ends(fixturedef, fixture))

    def _fixture_ends(self, fixturedef: Any, fixture: Fixture) -> None:
        slices = self.tests.recorder.slices
        if slices is None or self._live.get(fixturedef) is not fixture:
            return
        fixture.teardown = Part(slices.now_ns, self.tests.parts, None, fixture.scope in WIDE)
        event(f"fixture {fixture.name} teardown", scope=fixture.scope)
        if self.tests.attempt is not None and fixture not in self.tests.attempt.fixtures:
            self.tests.attempt.fixtures.append(fixture)
        fixture.teardown.__enter__()

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        fixture = self._live.pop(fixturedef, None)
        if fixture is not None and fixture.teardown is not None and fixture.teardown.end_ns is None:
            fixture.teardown.__exit__(None, None, None)
