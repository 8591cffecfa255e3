"""``atf record`` of a compiled program: started with the agent preloaded, drained from its first call to its last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from atf._core.errors import AtfError, UsageError
from atf.native import door, injector, plan
from atf.native.begin import begin
from atf.native.child import Child
from atf.native.details import Details
from atf.native.elf import ElfFile
from atf.native.family import Descendant, Family
from atf.native.follow import Follower
from atf.native.modules import choose_modules, find_program, of_program, traceable
from atf.native.preload import preloading
from atf.native.process import NativeProcess
from atf.supervise import BOOT, Running, Supervisor

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
        Details.of(config)
        if not command:
            raise UsageError("no program: write it after --, as in `atf record -- ./program`")
        self.program = find_program(command[0])
        file = traceable(ElfFile(self.program))
        door.require(door.startable(self.program, file))
        libraries = of_program(self.program, file)
        modules, include, exclude = list(modules), list(include), list(exclude)
        self.modules = choose_modules(self.program, libraries, modules, include, exclude, slow_path=config.get("slow_path") == "1")
        self.config, self._wanted = config, (modules, include, exclude)
        self.process: NativeProcess | None = None
        self.family: Family | None = None
        super().__init__(command, out, config, flight)

    def _command_line(self, words: list[str]) -> list[str]:
        return words

    def environment(self) -> dict[str, str]:
        assert self.process is not None and self.process.plan is not None
        return preloading(os.environ, self.agent, self.session, self.process.plan.path)

    def _spawn(self, mask: set[int]) -> Running:
        child = Child(self.program, self.command, mask)
        try:
            if self.config.get("children") == "1":
                self.family = Family(self.session)
                Follower(self.gatherer, self.family, self.config, BOOT, *self._wanted)
            self.process = begin(self.gatherer, child.pid, self.command, self.modules, self.config, plan.CHILDREN if self.family else 0)
            if self.family and self.process.plan:
                self.family.know(self.process.plan)
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
        self._complete(process)
        return status

    def _complete(self, process: NativeProcess) -> None:
        """Manifests name what occurs in the trace; the program's own tells of its children."""
        if self.family is not None:
            process.manifest.values["native"]["children"] = self.family.counts()
            told = self.family.complaint()
            if told:
                self.gatherer.complain(told)
        self._guarded(process.keep_what_occurs, self.family and self.family.places)
        for other in self.gatherer.done:
            if isinstance(other, Descendant):
                self._guarded(other.keep_what_occurs)

    def stop(self, reason: str) -> None:
        """End the recording; the program runs on, with its own code back in place where it can be entered."""
        process = self.process
        if self.stopping is None and reason == "duration" and process is not None and not process.gone() and injector.available():
            assert process.segments.segments is not None
            process.segments.segments.stop()
            self._guarded(process.take_hooks_out, self.agent)
        super().stop(reason)
