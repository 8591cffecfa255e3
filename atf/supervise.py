"""Runs a program under recording: starts it, drains it and its children, passes its exit status on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from atf import runtime
from atf._core.errors import UsageError
from atf._core.segment import library_path, process_start
from atf.gather import Gatherer
from atf.manifest import new_session_directory

BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot")


def command_line(words: list[str]) -> list[str]:
    """What to execute for what was typed: ``-m module …`` and ``script.py …`` get this interpreter. UsageError when there is nothing."""
    if not words:
        raise UsageError("no program: write it after --, as in `atf record -- python app.py`")
    if words[0] in ("-m", "-c") or (words[0].endswith(".py") and os.path.exists(words[0]) and not os.access(words[0], os.X_OK)):
        return [sys.executable, *words]
    return words


class Supervisor:
    """One run of ``atf record``."""

    def __init__(self, command: list[str], out: str, config: dict[str, str]):
        self.command = command_line(command)
        self.path = new_session_directory(out)
        values = {
            **config,
            "output": os.path.abspath(self.path),
            "recorder_pid": os.getpid(),
            "recorder_start": process_start(os.getpid()),
            "paths": library_path(),
        }
        self.session = runtime.new_session(values)
        self.gatherer = Gatherer(self.path, self.session, config.get("level", "returns"))
        self.stopping: str | None = None
        self.status: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._signals = 0

    def environment(self) -> dict[str, str]:
        """The program's environment: ours, with the way in."""
        path = os.environ.get("PYTHONPATH")
        return {**os.environ, "ATF_SESSION": self.session, "PYTHONPATH": BOOT + (os.pathsep + path if path else "")}

    def run(self, duration_s: float | None = None, tick: Callable[[Supervisor], None] | None = None) -> int:
        """Run the program to its end; returns its exit status (128 + n when a signal n killed it).

        duration_s: recording ends then, the program goes on. tick is called a few times a second.
        UsageError when the program cannot be started.
        """
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        self.gatherer.start()
        try:
            try:
                self._process = subprocess.Popen(self.command, env=self.environment())
            except OSError as error:
                raise UsageError(f"{self.command[0]} cannot be started: {error.strerror}") from error
            started = ticked = time.monotonic()
            while self._process.poll() is None:
                now = time.monotonic()
                if self.stopping is None:
                    self.gatherer.poll()
                    if duration_s is not None and now - started >= duration_s:
                        self.stop("duration")
                if tick is not None and now - ticked > 0.25:
                    ticked = now
                    tick(self)
                nap = 0.002 if now - started < 0.5 else 0.02
                if duration_s is not None and self.stopping is None:
                    nap = min(nap, max(started + duration_s - now, 0.0002))
                time.sleep(nap)
            code = self._process.returncode
            self.status = 128 - code if code < 0 else code
            if self.stopping is None:
                self.gatherer.poll()
                self.stop("end")
            for process in self.gatherer.done:
                process.set_exit(code if process.pid == self._process.pid else None)
        except BaseException:
            if self._process is None:
                self._discard()
            raise
        finally:
            self.gatherer.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self.status

    def stop(self, reason: str) -> None:
        """End the recording; the program runs on."""
        if self.stopping is None:
            self.stopping = reason
            self.gatherer.stop()

    def _discard(self) -> None:
        try:
            os.rmdir(self.path)
        except OSError:
            pass

    def _on_signal(self, number: int, _frame: Any) -> None:
        """The program decides when it ends. A terminal's Ctrl-C reached it already; SIGTERM and SIGHUP are passed on."""
        self._signals += 1
        if self._process is not None and (number != signal.SIGINT or self._signals > 2):
            try:
                self._process.send_signal(number if self._signals <= 2 else signal.SIGKILL)
            except OSError:
                pass
