"""Tests that hang: their last calls are told before pytest-timeout ends the process, and when faulthandler dumps its stacks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from atf.tracing import event

if TYPE_CHECKING:
    from atf.pytest_plugin.runtest import Tests


class Hangs:
    """Registered beside Tests. pytest-timeout's thread method ends the process by os._exit, after which nobody reports anything."""

    def __init__(self, tests: Tests, worker: bool):
        self.tests, self.worker = tests, worker
        self._watch: Watch | None = None
        period_s = _faulthandler_timeout(tests.config)
        if period_s:
            self._watch = Watch(period_s, self._still_there)

    # ---- pytest-timeout
    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """In the place of its own timer: the same, with our words first."""
        if settings.method != "thread" and threading.current_thread() is threading.main_thread():
            return None  # a signal raises in the test, which then fails like any other
        timer = threading.Timer(settings.timeout, self._expired, (item, settings))
        timer.name = f"timeout of {item.nodeid}"

        def cancel() -> None:
            timer.cancel()
            timer.join()

        item.cancel_timeout = cancel  # type: ignore[attr-defined] # where pytest-timeout looks for it
        timer.start()
        return True

    def _expired(self, item: pytest.Item, settings: Any) -> None:
        from importlib import import_module

        pytest_timeout: Any = import_module("pytest_timeout")
        if settings.disable_debugger_detection or not pytest_timeout.is_debugging():
            why = f"no end within {settings.timeout:g} s"
            if self.worker:  # no terminal here; the controller reads the rings, so they stay
                event("timeout", test=item.nodeid, after=why)
                os._exit(1)
            text = self.tests.last_words(why)
            capture = item.config.pluginmanager.getplugin("capturemanager")
            if capture is not None:
                capture.suspend_global_capture(item)
            _write(1, text)
            self.tests.recorder.end()
        pytest_timeout.timeout_timer(item, settings)

    # ---- faulthandler
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        if self._watch is None:
            return (yield)
        self._watch.arm()
        try:
            return (yield)
        finally:
            self._watch.disarm()

    def _still_there(self, handle: int, period_s: float) -> None:
        _write(handle, self.tests.last_words(f"no end within {period_s:g} s", keep=False))

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        if self._watch is not None:
            self._watch.disarm()

    def pytest_unconfigure(self) -> None:
        if self._watch is not None:
            self._watch.stop()


class Watch:
    """One thread for the whole run: it sleeps until the deadline of the test that runs. A test costs two assignments."""

    def __init__(self, period_s: float, tell: Any):
        # Before faulthandler's own thread may end the process.
        self.period_s, self._sleep_s = period_s, period_s - min(period_s / 10, 0.5)
        self._tell = tell
        self._deadline: float | None = None
        self.told = 0
        self._over = threading.Event()
        self._handle = os.dup(2)  # while nothing is captured
        threading.Thread(target=self._run, name="atf-watch", daemon=True).start()

    def arm(self) -> None:
        self._deadline = time.monotonic() + self._sleep_s

    def disarm(self) -> None:
        self._deadline = None

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        # No time for imports then; and faulthandler may crash on the frames of a thread that is still running Python code.
        import atf.failure
        import atf.trace  # noqa: F401

        # No nap is longer than a test may take, so that none that was armed meanwhile is slept over.
        while not self._over.wait(self._nap()):
            deadline = self._deadline
            if deadline is not None and time.monotonic() >= deadline:
                self._deadline = None
                self._tell(self._handle, self.period_s)
                self.told += 1
        os.close(self._handle)

    def _nap(self) -> float:
        deadline = self._deadline
        return self._sleep_s if deadline is None else min(max(deadline - time.monotonic(), 0.0), self._sleep_s)


def _faulthandler_timeout(config: pytest.Config) -> float:
    try:
        return float(config.getini("faulthandler_timeout") or 0)
    except (ValueError, TypeError):
        return 0.0


def _write(handle: int, text: str) -> None:
    try:
        os.write(handle, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass
