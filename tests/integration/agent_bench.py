"""Compiles small programs, runs them with and without the native agent, and reads what was recorded.

The plan is written here by hand, from what nm says: the agent is tested without its controller.
"""

import contextlib
import os
import pathlib
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass, field

import atf
from atf._core import segment
from atf.gather import Gatherer
from atf.native.plan import sealed

AGENT = pathlib.Path(atf.__file__).resolve().parent / "_core" / "agent"
LIBRARY = AGENT / "libatf_agent.so"
HEADER = struct.Struct("<4I3i5I2Q" + "IIiI4I3Q" + "Q4Q")
MODULE = struct.Struct("<II32sIIQII")
FUNCTION = struct.Struct("<QIIQII")
assert (HEADER.size, MODULE.size, FUNCTION.size) == (160, 64, 32)
LIVE, ENTRY_ONLY = 1, 2
STATES = {1: "starting", 2: "active", 3: "detached", 4: "failed"}
REASONS = ["", "short", "jump back", "instruction", "reach", "overlap", "bounds", "agent", "module", "branched", "table", "shared"]
REASONS += [f"reason {n}" for n in range(12, 14)] + ["signal", "libc"]
# Return twice, run on the caller's stack, or are no functions of their own.
NEVER = ("setjmp", "_setjmp", "__sigsetjmp", "sigsetjmp", "fork", "vfork", "clone", "swapcontext", "getcontext", "setcontext", "makecontext", "__restore_rt")


def symbols(path, dynamic=False, nm="nm"):
    """``{name: (vaddr, size)}`` of the functions defined in an ELF file."""
    command = [nm, "--defined-only", "-S", *(["-D"] if dynamic else []), str(path)]
    found = {}
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        parts = line.split()
        if len(parts) == 4 and parts[2] in "tTwWi":
            found[parts[3].split("@")[0]] = (int(parts[0], 16), int(parts[1], 16))
    return found


@dataclass
class Module:
    """What to hook in one ELF file."""

    path: str
    functions: dict  # name -> (vaddr, size)
    number: int
    flags: dict = field(default_factory=dict)


class Plan:
    """A plan file, written once and read back as often as one likes."""

    def __init__(self, path, ids, modules, flags=0, stack_bytes=0, min_duration_ns=0):
        self.path, self.names, self.order, self.modules = str(path), {}, [], modules
        texts, rows, heads = b"\0", b"", b""
        first = 0
        for module in modules:
            listed = sorted(module.functions.items(), key=lambda item: item[1])
            unique = {vaddr: (name, vaddr, size) for name, (vaddr, size) in reversed(listed)}
            offset = len(texts)
            texts += os.fsencode(module.path) + b"\0"
            count = 0
            for _, (name, vaddr, size) in sorted(unique.items()):
                identifier = module.number << 32 | count
                self.names[identifier] = name
                self.order.append(name)
                rows += FUNCTION.pack(vaddr, size, module.flags.get(name, 0), identifier, 0, 0)
                count += 1
            heads += MODULE.pack(offset, 0, b"", first, count, 0, 0, 0)
            first += count
        modules_at = HEADER.size
        functions_at = modules_at + len(heads)
        texts_at = functions_at + len(rows)
        heads = b"".join(
            MODULE.pack(texts_at + row[0], *row[1:]) for row in (MODULE.unpack_from(heads, i * MODULE.size) for i in range(len(modules)))
        )
        total = texts_at + len(texts)
        header = (0x50465441, 2, total, flags, *ids, len(modules), first, modules_at, functions_at, texts_at, stack_bytes, min_duration_ns)
        self.functions_at, self.count = functions_at, first
        with open(self.path, "wb") as file:
            file.write(sealed(HEADER.pack(*header, *([0] * 16)) + heads + rows + texts))

    def header(self):
        with open(self.path, "rb") as file:
            values = HEADER.unpack(file.read(HEADER.size))
        keys = ("state", "error", "os_error", "pid", "hooked", "refused", "waiting", "stopped", "stop_ns", "setup_ns", "skipped", "orphans")
        found = {**dict(zip(keys, values[14:26])), "filtered": values[28]}
        found["state"] = STATES.get(found["state"], "new")
        return found

    def traps(self):
        """How many traps were set."""
        with open(self.path, "rb") as file:
            return HEADER.unpack(file.read(HEADER.size))[27]

    def refused(self):
        """``{name: reason}``"""
        with open(self.path, "rb") as file:
            data = file.read()
        rows = (FUNCTION.unpack_from(data, self.functions_at + i * FUNCTION.size) for i in range(self.count))
        return {name: REASONS[row[5]] for name, row in zip(self.order, rows) if row[4] == 3}


@dataclass
class Ran:
    """One run under the agent."""

    status: int
    out: str
    err: str
    path: pathlib.Path
    plan: Plan
    counters: dict

    def trace(self):
        return atf.open(self.path)

    def calls(self):
        """``{name: number of CALL records}``"""
        with self.trace() as trace:
            return {row.name: row.count for row in trace.top(None)}


class Bench:
    """A directory with programs in it."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.runs = 0

    def build(self, source, name="program", cxx=False, flags=(), compiler=None):
        compiler = shutil.which(compiler or ("g++" if cxx else "gcc"))
        file = self.path / f"{name}.{'cc' if cxx else 'c'}"
        file.write_text(source)
        target = self.path / name
        subprocess.run([compiler, "-O2", "-g", "-fno-inline", "-D_GNU_SOURCE", "-o", target, file, "-pthread", *flags], check=True, timeout=120)
        return target

    def plain(self, *command, **options):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=100, cwd=self.path, **options)
        return done.returncode, done.stdout, done.stderr

    def modules(self, program, only=None, flags=None, extra=()):
        own = {name: where for name, where in symbols(program).items() if name.startswith("_Z") or not name.startswith("_")}
        own = {name: where for name, where in own.items() if name not in NEVER and ".cold" not in name}
        if only is not None:
            own = {name: where for name, where in own.items() if name in only}
        return [Module(str(program), own, 1, flags or {}), *extra]

    @contextlib.contextmanager
    def session(self, modules, flags=0, policy="block", started=True, stack_bytes=0, min_duration_ns=0, common_clock=False, **options):
        """Segments, a plan that names them, and a drain: yields (segments, plan, take_in, gatherer). started: the drain runs at once."""
        self.runs += 1
        out = self.path / f"run{self.runs}"
        out.mkdir()
        geometry = {"slots": 64, "index_rings": 4, "index_bytes": 1 << 20, "detail_rings": 0, "names_bytes": 4096, **options}
        segments = segment.SegmentSet.create(options=geometry, policy=policy, common_clock=common_clock)
        plan = Plan(out / "plan", segments.ids, modules, flags, stack_bytes, min_duration_ns)
        gatherer = Gatherer(str(out), None)
        self.out = out
        if started:
            gatherer.start()
        try:

            def take_in(pid):
                process = gatherer.take_in({"pid": pid, "start": segment.process_start(pid)}, segments)
                gatherer.live["it"] = process
                self.taken = process
                return process

            yield segments, plan, take_in, gatherer
        finally:
            if "it" in gatherer.live:
                gatherer.stop()
            gatherer.close()
            segments.remove()

    def opened(self):
        """The trace of the last session."""
        return atf.open(self.taken.manifest.path)

    def run(self, *command, modules=None, only=None, flags=0, environment=None, timeout=100, **options):
        """Run under the agent, preloaded, to the end; everything that it recorded is in files then."""
        modules = modules or self.modules(command[0], only)
        with self.session(modules, flags, **options) as (_, plan, take_in, gatherer):
            values = {**os.environ, **(environment or {}), "LD_PRELOAD": str(LIBRARY), "ATF_AGENT": plan.path}
            process = subprocess.Popen([str(part) for part in command], env=values, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.path)
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

    def finished(self, status, out, err, plan):
        """What the last session recorded, with names."""
        names = [(2, identifier, 0, name, "") for identifier, name in plan.names.items()]
        self.taken.manifest.add_names([(1, m.number, 0, os.path.basename(m.path), m.path) for m in plan.modules] + names)
        self.taken.write_manifest("complete") if self.taken.segments.segments else self.taken.manifest.write()
        return Ran(status, out, err, pathlib.Path(self.taken.manifest.path), plan, self.taken.source.totals)
