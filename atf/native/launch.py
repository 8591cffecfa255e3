"""``atf record --programs``: a shell, make or a Python, and the compiled programs that it starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from atf._core.errors import TargetError
from atf.native import injector
from atf.native.elf import ElfFile
from atf.native.family import Descendant, Family
from atf.native.follow import Follower
from atf.native.kind import is_elf
from atf.native.modules import find_program, traceable
from atf.native.preload import preloading
from atf.supervise import BOOT, Supervisor

if TYPE_CHECKING:
    from atf.flight import Flight


class LauncherSupervisor(Supervisor):
    """One run of a program that starts others. The agent comes into it, but only to bring itself into what it executes.

    modules, include, exclude: what is traced in every compiled program below it.
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
        super().__init__(command, out, config, flight)
        native = {**config, "level": "calls" if config.get("level") == "calls" else "returns"}  # other levels are Python's
        try:
            self.family = Family(self.session)
        except BaseException:
            self.gatherer.close()
            self._discard()
            raise
        Follower(self.gatherer, self.family, native, BOOT, modules, include, exclude, everything=True)

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        if self._takes_the_agent():
            return preloading(environment, self.agent, self.session, f"@{self.session}")
        return environment

    def _takes_the_agent(self) -> bool:
        """A program that the loader would not load the agent into would only see the variables."""
        try:
            path = find_program(self.command[0])
            mode = os.stat(path).st_mode
            return not mode & 0o6000 and (not is_elf(path) or bool(traceable(ElfFile(path))))
        except (TargetError, OSError):
            return False

    def run(self, duration_s: float | None = None, tick: Callable[[Supervisor], None] | None = None) -> int:
        """As for any program; afterwards manifests of compiled programs have lines."""
        status = super().run(duration_s, tick)
        told = self.family.complaint()
        if told:
            self.gatherer.complain(told)
        for process in self.gatherer.done:
            if isinstance(process, Descendant):
                self._guarded(process.keep_what_occurs)
        return status
