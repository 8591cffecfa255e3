"""``atf attach``: the agent enters a running process, and leaves it as it was."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from atf import runtime
from atf._core import segment, sigwait
from atf._core.errors import AtfError, TargetError, TargetGone
from atf.gather import Gatherer
from atf.manifest import new_session_directory
from atf.native import door, injector, plan, preflight
from atf.native.begin import begin
from atf.native.details import Details
from atf.native.elf import ElfFile
from atf.native.modules import choose_modules, of_process, traceable
from atf.native.place import Place, shared_memory_of
from atf.native.process import NativeProcess
from atf.supervise import CALM_S, rotate

if TYPE_CHECKING:
    from atf.flight import Flight

STOPPERS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
START_S = 30.0  # an agent that has not answered by then is told as such


class Attachment:
    """One recording of a running process. ``.path``, ``.gatherer`` and ``.stopping`` as a Supervisor has them."""

    def __init__(
        self,
        pid: int,
        out: str,
        config: dict[str, str],
        modules: Iterable[str] = ("main",),
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        flight: Flight | None = None,
    ):
        self.agent = injector.agent_file()
        injector.require()
        Details.of(config)
        preflight.require(pid)
        self.pid, self.config = pid, config
        self.command = _arguments(pid)
        files = of_process(pid)
        file = traceable(ElfFile(f"/proc/{pid}/exe"))
        door.require(door.loadable(files[0], file, True))
        self.modules = choose_modules(files[0], files[1:], modules, include, exclude, pid, config.get("slow_path") == "1")
        self.path = new_session_directory(out)
        try:
            values = {**config, "output": os.path.abspath(self.path), "recorder_pid": os.getpid(), "recorder_start": segment.process_start(os.getpid())}
            self.session = runtime.new_session(values)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        self.gatherer = Gatherer(self.path, self.session, config.get("level", "returns"), flight=flight)
        rotate(self.gatherer, config)
        self.gatherer.commands["stop"] = self._asked_to_stop
        self.flight = flight
        self.process: NativeProcess | None = None
        self.place: Place | None = None
        self.stopping: str | None = None

    def run(self, duration_s: float | None = None, tick: Callable[[Any], None] | None = None) -> None:
        """Record until the process ends, the time is over, or SIGINT, SIGTERM or SIGHUP comes. From the main thread only.

        TargetError when the agent cannot be brought in; nothing is left behind then.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._heard())
        try:
            with shared_memory_of(self.pid):
                try:
                    self._begin()
                    self._watch(duration_s, tick)
                    self._end()
                finally:
                    self.gatherer.close()
                    if self.place is not None:
                        self.place.clear()
        finally:
            while sigwait.wait(self._heard(), 0) is not None:
                pass
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _heard(self) -> frozenset[int]:
        return STOPPERS if self.flight is None else STOPPERS | frozenset(self.flight.signals())

    def _begin(self) -> None:
        try:
            assert self.gatherer.session
            place = self.place = Place(self.pid, self.agent, self.gatherer.session)
            process = self.process = begin(self.gatherer, self.pid, self.command, self.modules, self.config, plan.LIVE, place)
            assert process.plan is not None
            self.gatherer.start()
            injector.call(self.pid, "start", place.agent, process.plan.path.removeprefix(place.root))
            process.wait_started(START_S)
        except (AtfError, OSError) as error:
            self.gatherer.stop()
            shutil.rmtree(self.path, ignore_errors=True)
            if isinstance(error, TargetError) or segment.alive(self.pid):
                raise
            raise TargetGone(f"process {self.pid} ended while the agent was brought in") from error

    def _asked_to_stop(self, said: dict[str, Any]) -> dict[str, Any]:
        self.stopping = "control"
        return {}

    def _watch(self, duration_s: float | None, tick: Callable[[Any], None] | None) -> None:
        started = ticked = time.monotonic()
        while self.stopping is None:
            now = time.monotonic()
            if duration_s is None or started + duration_s - now > CALM_S:
                self.gatherer.poll()
            if not self.gatherer.live:
                self.stopping = "end"
                return
            if duration_s is not None and now - started >= duration_s:
                self.stopping = "duration"
                return
            if tick is not None and now - ticked > 0.25:
                ticked = now
                tick(self)
            nap = 0.02 if duration_s is None else min(0.02, max(started + duration_s - time.monotonic(), 0.0))
            if self.flight is not None and self.flight.behind:
                nap = 0.0002
            if self.flight is not None:
                signal.pthread_sigmask(signal.SIG_BLOCK, self._heard())
            caught = sigwait.wait(self._heard(), nap)
            if caught is not None and self.flight is not None and caught[0] in self.flight.signals():
                self.flight.mark("signal", number=caught[0])
            elif caught is not None:
                self.stopping = "interrupt"

    def _end(self) -> None:
        process = self.process
        assert process is not None and process.plan is not None and self.place is not None
        if self.gatherer.live and not process.gone():
            assert process.segments.segments is not None
            process.segments.segments.stop()
            try:
                process.take_hooks_out(self.place.agent)
            except TargetGone:
                pass  # it ended by itself just now
            except TargetError as error:
                self.gatherer.complain(f"the hooks stay in process {self.pid}, and record nothing: {error}")
        self.gatherer.stop()
        process.keep_what_occurs()


def _arguments(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(part) for part in file.read().removesuffix(b"\0").split(b"\0")]
    except OSError:
        return []
