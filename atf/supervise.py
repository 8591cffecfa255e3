"""Runs a program under recording: starts it, drains it and its children, passes its exit status on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from atf import runtime
from atf._core import sigwait
from atf._core.errors import AtfError, UsageError
from atf._core.segment import library_path, process_start
from atf.gather import Gatherer
from atf.manifest import new_session_directory

if TYPE_CHECKING:
    from atf.budget import Budget
    from atf.flight import Flight

PASSED_ON = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
INTERRUPTS, WITHIN_S = 3, 3.0  # so many SIGINT in so long end the recorder
CALM_S = 0.1  # before a duration is over nothing is begun that could make its end late
GRACE_S = 1.0  # for a program that was told to end twice
BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot")


def command_line(words: list[str]) -> list[str]:
    """What to execute for what was typed: ``-m module …`` and ``script.py …`` get this interpreter. UsageError when there is nothing."""
    if not words:
        raise UsageError("no program: write it after --, as in `atf record -- python app.py`")
    if words[0] in ("-m", "-c") or (words[0].endswith(".py") and os.path.exists(words[0]) and not os.access(words[0], os.X_OK)):
        return [sys.executable, *words]
    return words


class Running(Protocol):
    """A started program: a Popen, or what behaves as one here."""

    pid: int
    returncode: int | Any

    def poll(self) -> int | None: ...
    def send_signal(self, sig: int) -> None: ...


def rotate(gatherer: Gatherer, config: Mapping[str, str]) -> None:
    """Record in parts when a configuration says so."""
    if config.get("max_size") or config.get("max_age_ns"):
        from atf.parts import Limits

        gatherer.rotate(Limits.of(config))


class Hurry:
    """When a recorder ends although its program does not: at a second SIGTERM, or the third SIGINT in a few seconds, which are passed on
    as ever; a second later it completes its trace and ends. The program is left to itself."""

    def __init__(self) -> None:
        self.number = 0  # the signal that did it
        self._heard: list[tuple[int, float]] = []
        self._until = float("inf")

    def heard(self, number: int) -> None:
        now = time.monotonic()
        self._heard.append((number, now))
        terms = sum(one == signal.SIGTERM for one, _ in self._heard)
        interrupts = sum(one == signal.SIGINT and now - at < WITHIN_S for one, at in self._heard)
        if not self.number and (terms >= 2 or interrupts >= INTERRUPTS):
            self.number, self._until = number, now + GRACE_S

    def over(self) -> bool:
        return time.monotonic() >= self._until


class Supervisor:
    """One run of ``atf record``."""

    def __init__(self, command: list[str], out: str, config: dict[str, str], flight: Flight | None = None, budget: Budget | None = None):
        self.command = self._command_line(command)
        self.path = new_session_directory(out)
        values = {
            **config,
            "output": os.path.abspath(self.path),
            "recorder_pid": os.getpid(),
            "recorder_start": process_start(os.getpid()),
            "paths": library_path(),
            "budget": "0" if budget is None else "1",
            "crash": "1" if flight is not None and flight.wants_crash else "0",
        }
        try:
            self.session = runtime.new_session(values)
        except BaseException:
            self._discard()
            raise
        self.gatherer = self._gatherer(config.get("level", "returns"), flight)
        self.gatherer.budget = budget
        rotate(self.gatherer, config)
        self.flight = flight
        self.gatherer.commands["stop"] = self._asked_to_stop
        self.stopping: str | None = None
        self.status: int | None = None
        self.code: int | None = None  # as waitpid tells it: minus the number of the signal that killed the program
        self._process: Running | None = None
        self._interrupts = 0
        self._asked_end: str | None = None  # why the recording is to end
        self._hurry = Hurry()

    def _command_line(self, words: list[str]) -> list[str]:
        return command_line(words)

    def _gatherer(self, level: str, flight: Flight | None) -> Gatherer:
        return Gatherer(self.path, self.session, level, flight=flight)

    def environment(self) -> dict[str, str]:
        """The program's environment: ours, with the way in."""
        path = os.environ.get("PYTHONPATH")
        return {**os.environ, "ATF_SESSION": self.session, "PYTHONPATH": BOOT + (os.pathsep + path if path else "")}

    def run(self, duration_s: float | None = None, tick: Callable[[Supervisor], None] | None = None) -> int:
        """Run the program to its end; returns its exit status (128 + n when a signal n killed it).

        duration_s: recording ends then, the program goes on. tick is called a few times a second.
        UsageError when the program cannot be started. From the main thread only.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._heard())
        try:
            process = self._process = self._spawn(before)
            self.gatherer.main = process.pid
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self.gatherer.close()
            self._discard()
            raise
        try:
            self._guarded(self.gatherer.start)
            self._released(process)
            self._watch(process, duration_s, tick)
            code = self.code = process.returncode if process.returncode is not None else -self._hurry.number
            self.status = 128 - code if code < 0 else code
            self._guarded(self.gatherer.poll)
            self.stop("end" if process.returncode is not None else "signal")
            for recorded in self.gatherer.done:
                if recorded.pid == process.pid and process.returncode is not None:
                    self._guarded(recorded.set_exit, code)
        finally:
            self._guarded(self.gatherer.close)
            while sigwait.wait(self._heard(), 0) is not None:
                pass  # they came for a program that is over
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not self.gatherer.done:
            self._discard()
        return self.status

    def _heard(self) -> set[int]:
        """Signals that are fetched while the program runs."""
        return {*PASSED_ON, signal.SIGCHLD, *(self.flight.signals() if self.flight is not None else ())}

    def _spawn(self, mask: set[int]) -> Running:
        """Start the program; mask: the signal mask that it gets. UsageError when it cannot be started."""
        try:
            # The program gets the descriptors and the signal mask that we were given. No other thread runs here yet.
            return subprocess.Popen(
                self.command,
                env=self.environment(),
                close_fds=False,
                preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),  # noqa: PLW1509
            )
        except OSError as error:
            raise UsageError(f"{self.command[0]} cannot be started: {error.strerror}") from error

    def _released(self, process: Running) -> None:
        """The drain runs: a program that waited for it goes on."""

    def _watch(self, process: Running, duration_s: float | None, tick: Callable[[Supervisor], None] | None) -> None:
        """Take processes in until the program ends. Signals are fetched here, not handled: where one comes from matters."""
        started = ticked = time.monotonic()
        while process.poll() is None and not self._hurry.over():
            now = time.monotonic()
            calm = self.stopping is None and duration_s is not None and started + duration_s - now <= CALM_S
            if self.stopping is None:
                if not calm:
                    self._guarded(self.gatherer.poll)
                if self._asked_end is not None:
                    self.stop(self._asked_end)
                elif duration_s is not None and now - started >= duration_s:
                    self.stop("duration")
            if tick is not None and now - ticked > 0.25 and not calm:
                ticked = now
                self._guarded(tick, self)
            nap = 0.002 if now - started < 0.5 else 0.02
            if self.flight is not None and self.flight.behind and self.stopping is None:
                nap = 0.0002
            if duration_s is not None and self.stopping is None:
                nap = min(nap, max(started + duration_s - time.monotonic(), 0.0))
            if self.flight is not None:
                signal.pthread_sigmask(signal.SIG_BLOCK, self._heard())  # triggers that came meanwhile may be signals
            number, sent = sigwait.wait(self._heard(), nap) or (signal.SIGCHLD, False)
            if self.flight is not None and number in self.flight.signals():
                self.flight.mark("signal", number=number)
            elif number != signal.SIGCHLD:
                self._hurry.heard(number)
                self._pass_on(process, number, from_terminal=not sent)

    def _guarded(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Whatever goes wrong with the recording is told at the end; the program and its exit status come first."""
        try:
            work(*arguments)
        except (AtfError, OSError) as error:
            self.gatherer.complain(str(error))

    def _asked_to_stop(self, said: dict[str, Any]) -> dict[str, Any]:
        self._asked_end = "control"  # not from within the poll that hears it
        return {}

    def stop(self, reason: str) -> None:
        """End the recording; the program runs on."""
        if self.stopping is None:
            self.stopping = reason
            self._guarded(self.gatherer.stop)

    def _discard(self) -> None:
        try:
            os.rmdir(self.path)
        except OSError:
            pass

    def _pass_on(self, process: Running, number: int, from_terminal: bool) -> None:
        """The program decides when it ends. What a terminal sends reached it already, and so did most likely a first
        SIGINT or SIGQUIT that another process sent: those go to whole process groups. Everything else is passed on."""
        if number in (signal.SIGINT, signal.SIGQUIT):
            self._interrupts += not from_terminal
            if self._interrupts <= 1:
                return
        if from_terminal:
            return
        try:
            process.send_signal(number)
        except OSError:
            pass
