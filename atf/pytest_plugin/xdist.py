"""The controller of pytest-xdist: it gives workers the run, and tells what a dead one did last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from atf.pytest_plugin.session import Session


class Controller:
    def __init__(self, session: Session):
        self.session = session

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["atf_run"] = self.session.run.id  # type: ignore[union-attr]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        told = (getattr(node, "workeroutput", None) or {}).get("atf_error")
        if told:  # what is wrong in one worker is wrong in all
            raise pytest.UsageError(told)
