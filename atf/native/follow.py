"""Programs that a recorded process executes: each asks, before its first instruction, what is to be done with it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial

from atf import runtime
from atf._core import segment
from atf._core.errors import AtfError
from atf.gather import Gatherer
from atf.native import plan
from atf.native.begin import begin
from atf.native.choice import Module
from atf.native.elf import ElfFile
from atf.native.family import ExecutedProgram, Family
from atf.native.kind import LAUNCHERS, is_python
from atf.native.modules import choose_modules, of_program, traceable


class Follower:
    """Answers ``PID-START.ask`` files of a session. The program waits meanwhile: what was read of a file is kept for the next process of it.

    boot: the directory by which a Python begins to record. modules, include, exclude: what is traced in each program.
    everything: what a Python executes is followed too.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        family: Family,
        config: dict[str, str],
        boot: str,
        modules: Iterable[str] = ("main",),
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        everything: bool = False,
    ):
        self.gatherer, self.family, self.config, self.boot = gatherer, family, config, boot
        self.everything = everything
        self.wanted, self.include, self.exclude = list(modules), list(include), list(exclude)
        self._chosen: dict[tuple[int, int, int, int], list[Module]] = {}
        gatherer.asked = self.look
        gatherer.kind_of = family.kind_of

    def look(self) -> None:
        """Answer everybody who asks."""
        session = self.gatherer.session
        assert session
        for name in os.listdir(session):
            if not name.endswith(".ask"):
                continue
            path = os.path.join(session, name)
            try:
                values = runtime.read(path)
                os.unlink(path)  # who gave up waiting has taken its question away
                answer = self._answer(int(values["pid"]), int(values["start"]))
                runtime.write(path.removesuffix(".ask") + ".answer", answer)
            except (OSError, KeyError, ValueError):
                continue

    def _answer(self, pid: int, start: int) -> dict[str, str]:
        """``plan``: record by it. ``python``: a Python, which records itself. ``follow``: what it executes asks too."""
        program = os.readlink(f"/proc/{pid}/exe")
        if os.path.basename(program) in LAUNCHERS:
            return {"follow": "1"}
        if is_python(program):
            return {"python": self.boot, **({"follow": "1"} if self.everything else {})}
        if os.path.exists(os.path.join(str(self.gatherer.session), "stopped")) or not segment.alive(pid, start):
            return {"follow": "1"}
        try:
            modules = self._modules(pid, program)
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                argv = [os.fsdecode(part) for part in file.read().removesuffix(b"\0").split(b"\0")]
            process = begin(self.gatherer, pid, argv, modules, self.config, plan.CHILDREN, kind=partial(ExecutedProgram, self.family)) if modules else None
        except AtfError as error:
            self.gatherer.complain(f"process {pid} ({program}) is not recorded: {error}")
            process = None
        return {"follow": "1"} if process is None or process.plan is None else {"plan": process.plan.path}

    def _modules(self, pid: int, program: str) -> list[Module]:
        """What is traced in a program, [] when nothing is."""
        found = os.stat(f"/proc/{pid}/exe")
        key = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        if key not in self._chosen:
            try:
                file = traceable(ElfFile(f"/proc/{pid}/exe"))
                libraries = of_program(program, file) if self.wanted != ["main"] else []
                self._chosen[key] = choose_modules(program, libraries, self.wanted, self.include, self.exclude, pid)
            except AtfError:  # none of the functions that were asked for is in it
                self._chosen[key] = []
        return self._chosen[key]
