"""The agent of another processor: it and its targets are cross-compiled, and run under qemu's user emulation on this machine.

System V segments, /proc and signals are this machine's own there, so the recorder is the ordinary one. Only the clock must be one that
both sides read.
"""

import ast
import contextlib
import os
import pathlib
import shutil
import subprocess
import time

import agent_bench
from agent_bench import AGENT, NEVER, Bench, Module

PREFIX, QEMU, ROOT = "aarch64-linux-gnu-", "qemu-aarch64", "/usr/aarch64-linux-gnu"
MISSING = [tool for tool in (PREFIX + "gcc", PREFIX + "g++", PREFIX + "nm", QEMU) if not shutil.which(tool)]


def flags():
    """What setup.py compiles the agent with on such a machine; and that the emulator has a thread of its own."""
    rows = (AGENT.parents[2] / "setup.py").read_text().splitlines()
    texts = {key: [row.partition("= ")[2].partition("  #")[0] for row in rows if row.startswith(key)] for key in ("AGENT_FLAGS", "AGENT_ARCH")}
    common = [flag for text in texts["AGENT_FLAGS"] for flag in ast.literal_eval(text)]
    return [*common, *ast.literal_eval(texts["AGENT_ARCH"][0])["aarch64"], "-Werror", "-DATF_DEAF_MOST=1"]


def build_agent(place):
    """The agent as setup.py builds it on such a machine; its path."""
    sources = [path for path in [*sorted(AGENT.glob("*.c")), *sorted(AGENT.glob("aarch64/*.[cS]"))] if path.stem != "boot"]
    target = pathlib.Path(place) / "libatf_agent.so"
    link = ["-shared", "-Wl,-soname,libatf_agent.so", "-Wl,-z,nodelete", "-Wl,-z,now", "-Wl,-z,noexecstack", "-pthread", "-ldl"]
    subprocess.run([PREFIX + "gcc", *flags(), *map(str, sources), "-o", str(target), *link], check=True, timeout=120)
    return target


def symbols(path, dynamic=False):
    return agent_bench.symbols(path, dynamic, nm=PREFIX + "nm")


class Emulated(Bench):
    """As Bench, for programs of the other processor."""

    common_clock = True

    def __init__(self, path, library, cpu=None):
        super().__init__(path)
        self.library, self.cpu = library, cpu

    def build(self, source, name="program", cxx=False, flags=(), compiler=None):
        return super().build(source, name, cxx, flags, compiler or PREFIX + ("g++" if cxx else "gcc"))

    def emulator(self, environment=None):
        given = [f"{key}={value}" for key, value in (environment or {}).items()]
        return [QEMU, "-L", ROOT, *(["-cpu", self.cpu] if self.cpu else []), *(word for one in given for word in ("-E", one))]

    def plain(self, *command, **options):
        return super().plain(*self.emulator(), *command, **options)

    def modules(self, program, only=None, flags=None, extra=()):
        own = {name: where for name, where in symbols(program).items() if name.startswith("_Z") or not name.startswith("_")}
        own = {name: where for name, where in own.items() if name not in NEVER and ".cold" not in name and where[1]}
        if only is not None:
            own = {name: where for name, where in own.items() if name in only}
        return [Module(str(program), own, 1, flags or {}), *extra]

    @contextlib.contextmanager
    def session(self, modules, flags=0, **options):
        with super().session(modules, flags, common_clock=self.common_clock, **options) as session:
            yield session

    def preloaded(self, plan):
        return {"LD_PRELOAD": str(self.library), "ATF_AGENT": plan.path}

    def run(self, *command, modules=None, only=None, flags=0, environment=None, timeout=100, **options):
        modules = modules or self.modules(command[0], only)
        with self.session(modules, flags, **options) as (_, plan, take_in, gatherer):
            words = [*self.emulator({**(environment or {}), **self.preloaded(plan)}), *map(str, command)]
            process = subprocess.Popen(words, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.path)
            take_in(process.pid)
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            while gatherer.live:
                gatherer.poll()
                time.sleep(0.001)
        return self.finished(process.returncode, out, err, plan)
