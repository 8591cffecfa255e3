"""The pytest plugin: ``pytest --atf`` records every test, and keeps the traces of those that fail (docs/testing.md).

Without the flag this module is all that is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from atf.pytest_plugin.live import LiveTrace
    from atf.pytest_plugin.session import Session

KEY: pytest.StashKey[Any] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    from atf.pytest_plugin import options

    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """As early as can be, so that imports of conftest files are recorded too."""
    from atf.pytest_plugin.session import prepare

    early_config.stash[KEY] = prepare(early_config, early_config.known_args_namespace)


def pytest_configure(config: pytest.Config) -> None:
    from atf.pytest_plugin import options
    from atf.pytest_plugin.session import prepare

    config.addinivalue_line("markers", options.MARKER)
    session = config.stash.get(KEY, None)
    if session is None:  # loaded by a conftest file, after the first hook
        session = config.stash[KEY] = prepare(config, config.option)
    session.configure()


def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(KEY, None)
    if session is not None:
        session.end()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Only now is it known which tests have markers, and which modules there are. Before a worker tells its controller what it found."""
    try:
        session.config.stash[KEY].collected(session)
    except pytest.UsageError as error:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["atf_error"] = str(error)
        raise


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Assertions on traces show the calls in question."""
    if "atf.count" not in sys.modules:
        return None
    from atf.assertrepr import pytest_assertrepr_compare as compare

    return compare(config, op, left, right)


@pytest.fixture
def trace(request: pytest.FixtureRequest) -> Iterator[LiveTrace]:
    """This test's trace while it runs: ``with trace.window() as w: …``, then ``w.calls("shop.*") == 3`` (docs/assertions.md)."""
    from atf.pytest_plugin.session import live

    yield live(request)


@pytest.fixture(scope="session")
def atf() -> Any:
    """The recorder: ``atf.span``, ``atf.event``, ``atf.decision``. What it writes stands in the test's trace."""
    from atf.pytest_plugin.handle import Handle

    return Handle()


@pytest.fixture(scope="session")
def atf_session(request: pytest.FixtureRequest) -> Session:
    """This run: ``.mode``, ``.directory``, ``.kept``, ``.fixtures``."""
    return request.config.stash[KEY]
