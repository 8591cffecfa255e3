"""``atf record`` of a compiled program: started with the agent preloaded, drained from its first call to its last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from atf._core.errors import AtfError, UsageError
from atf.native import injector, plan
from atf.native.begin import begin, check_level
from atf.native.child import Child
from atf.native.elf import ElfFile
from atf.native.modules import choose_modules, find_program, of_program, traceable
from atf.native.process import NativeProcess
from atf.supervise import Running, Supervisor

if TYPE_CHECKING:
    from atf.flight import Flight


class NativeSupervisor(Supervisor):
    """One run of a compiled program under recording. Its environment is ours, but for what brings the agent in, which the agent takes out again.

    modules, include, exclude: what is traced, see choose_modules. TargetError when the program cannot be traced.
    """

    def __init__(
        self,
        command: list[str],
        out: str,
        config: dict[str, str],
        modules: Iterable[str] = ("main",),
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        flight: Flight | None = None,
    ):
        self.agent = injector.agent_file()
        check_level(config.get("level", "returns"))
        if not command:
            raise UsageError("no program: write it after --, as in `atf record -- ./program`")
        self.program = find_program(command[0])
        file = traceable(ElfFile(self.program))
        libraries = of_program(self.program, file)
        self.modules = choose_modules(self.program, libraries, modules, include, exclude)
        self.config = config
        self.process: NativeProcess | None = None
        super().__init__(command, out, config, flight)

    def _command_line(self, words: list[str]) -> list[str]:
        return words

    def environment(self) -> dict[str, str]:
        assert self.process is not None and self.process.plan is not None
        preload = os.environ.get("LD_PRELOAD")
        return {**os.environ, "ATF_AGENT": self.process.plan.path, "LD_PRELOAD": self.agent + (":" + preload if preload else "")}

    def _spawn(self, mask: set[int]) -> Running:
        child = Child(self.program, self.command, mask)
        try:
            self.process = begin(self.gatherer, child.pid, self.command, self.modules, self.config)
        except BaseException:
            child.abandon()
            raise
        return child

    def _released(self, process: Running) -> None:
        assert isinstance(process, Child)
        try:
            process.release(self.environment())
        except AtfError:
            process.abandon()
            self.stop("not started")
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def run(self, duration_s: float | None = None, tick: Callable[[Supervisor], None] | None = None) -> int:
        """As for any program; afterwards the manifest names what occurs in the trace, with lines."""
        status = super().run(duration_s, tick)
        process = self.process
        assert process is not None and process.plan is not None
        if process.plan.state == plan.NEW:
            self.gatherer.complain(f"{self.command[0]} ran without the agent: its loader ignores LD_PRELOAD (setuid program?); use `atf attach`")
        else:
            self._guarded(process.plan.require_started)
        self._guarded(process.keep_what_occurs)
        return status

    def stop(self, reason: str) -> None:
        """End the recording; the program runs on, with its own code back in place where it can be entered."""
        process = self.process
        if self.stopping is None and reason == "duration" and process is not None and injector.available():
            assert process.segments.segments is not None
            process.segments.segments.stop()
            self._guarded(injector.leave, process.pid, self.agent)
        super().stop(reason)
