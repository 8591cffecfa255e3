"""The controller of pytest-xdist: it gives workers the run, and tells what a dead or interrupted one did last.

Its rings outlive a worker, and are read from here: the worker need not help.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from atf.pytest_plugin import report as reports
from atf.pytest_plugin.salvaging import rescue

if TYPE_CHECKING:
    from atf.pytest_plugin.session import Session

DYING_S = 2.0


class Controller:
    """Registered in the controller, which records nothing itself."""

    def __init__(self, session: Session):
        self.session = session
        self.pids: dict[str, int] = {}  # of workers that run, by the names of their gateways
        self._crashed: dict[str, int] = {}
        self._interrupted: list[tuple[str, str]] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        assert self.session.run is not None
        node.workerinput["atf_run"] = self.session.run.id
        try:
            self.pids[node.gateway.id] = int(node.gateway._rinfo().pid)
        except Exception:  # another execnet: workers run as ever, and cannot be salvaged
            self.pids.pop(node.gateway.id, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        pid = self.pids.pop(node.gateway.id, None)
        told = (getattr(node, "workeroutput", None) or {}).get("atf_error")
        if told:  # what is wrong in one worker is wrong in all
            raise pytest.UsageError(told)
        if error and pid is not None:
            self._crashed[node.gateway.id] = pid
            _wait_for_end(pid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        name = report.node.gateway.id
        pid = self._crashed.pop(name, None)
        if pid is None:
            return
        run = self.session.run
        assert run is not None
        run.worker = name
        path = run.place(crashitem, 1)
        text = self._rescue(pid, path, {"nodeid": crashitem, "outcome": "crashed", "error": str(report.longrepr), "worker": name})
        if text:
            report.sections.append((reports.SECTION, text))

    def pytest_keyboard_interrupt(self) -> None:
        """Whatever they were in, workers say it now: a test that hangs is what one interrupts."""
        run = self.session.run
        assert run is not None
        for name, pid in list(self.pids.items()):
            note = {"nodeid": "", "outcome": "interrupted", "error": "interrupted", "worker": name}
            text = self._rescue(pid, os.path.join(run.directory, name, "interrupted"), note)
            if text:
                self._interrupted.append((name, text))

    def _rescue(self, pid: int, path: str, note: dict[str, Any]) -> str:
        assert self.session.run is not None
        return rescue(self.session.run, self.session.settings, str(self.session.config.invocation_params.dir), pid, path, note)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for name, text in self._interrupted:
            terminalreporter.section(f"atf: the last calls of worker {name}", "-")
            terminalreporter.write_line(text)

    def pytest_unconfigure(self) -> None:
        """Workers that died outside of a test leave rings behind too."""
        for name, pid in self._crashed.items():
            run = self.session.run
            assert run is not None
            self._rescue(pid, os.path.join(run.directory, name, "crashed"), {"nodeid": "", "outcome": "crashed", "error": "outside of tests", "worker": name})
        self._crashed.clear()


def _wait_for_end(pid: int) -> None:
    """Its channel is closed; a moment later it is gone, and only then its rings may be removed."""
    from atf._core.segment import alive

    deadline = time.monotonic() + DYING_S
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.005)


