"""Programs compiled for tracing, under the agent; what the compiler put into them is found as the controller finds it."""

import collections
import pathlib
import shutil
import struct
import subprocess

from agent_bench import FUNCTION, NEVER, Bench, Module
from agent_programs import HEAD

from atf.native import instrumented, plan
from atf.native.elf import ElfFile

BUILDS = {
    "mcount": ("-pg",),
    "mcount, fixed address": ("-pg", "-no-pie", "-fno-pie", "-U_FORTIFY_SOURCE"),
    "mcount, cet": ("-pg", "-fcf-protection=full"),
    "fentry": ("-pg", "-mfentry"),
    "fentry, fixed address": ("-pg", "-mfentry", "-no-pie", "-fno-pie"),
    "fentry, cet": ("-pg", "-mfentry", "-fcf-protection=full"),
    "fentry, nops": ("-pg", "-mfentry", "-mnop-mcount", "-no-pie", "-fno-pie"),
    "nops": ("-fpatchable-function-entry=5",),
    "nops before": ("-fpatchable-function-entry=16,8",),
    "nops, cet": ("-fpatchable-function-entry=8", "-fcf-protection=full"),
    "cyg": ("-finstrument-functions",),
    "cyg, fixed address": ("-finstrument-functions", "-no-pie", "-fno-pie"),
    "cyg, cet": ("-finstrument-functions", "-fcf-protection=full"),
    "cyg, bound at once": ("-finstrument-functions", "-Wl,-z,now", "-fno-plt"),
}


STARTUP = ("frame_dummy", "register_tm_clones", "deregister_tm_clones")


class InstrumentedBench(Bench):
    """A Bench whose plans say how each function was compiled."""

    compiler = "gcc"

    def build(self, source, name="program", cxx=False, flags=(), head=True, inline=False):
        if self.compiler == "gcc" and not inline:
            return super().build((HEAD if head else "") + source, name, cxx, flags)
        file, target = self.path / f"{name}.{'cc' if cxx else 'c'}", self.path / name
        file.write_text((HEAD if head else "") + source)
        compiler = {"gcc": ("gcc", "g++"), "clang": ("clang", "clang++")}[self.compiler][cxx]
        subprocess.run([compiler, "-O2", "-g", "-D_GNU_SOURCE", "-w", "-o", target, file, "-pthread", *flags], check=True, timeout=120)
        return target

    def modules(self, program, only=None, flags=None, extra=()):
        return [module_of(program, 1, only), *extra]


def module_of(path, number, only=None):
    """A module of a plan with the flags and roles of its functions."""
    file = ElfFile(str(path))
    functions = file.functions()
    found = instrumented.flags_of(file, functions)
    reports = any(flag & instrumented.INSTRUMENTED for flag in found.values())
    module = Module(str(path), {}, number)
    for one in functions:
        role = instrumented.CYG_ROLES.get(one.name, 0) if reports else 0
        wanted = one.name in only if only is not None else one.name not in NEVER and one.name != "atexit" and ".cold" not in one.name
        if role or (wanted and one.name not in STARTUP and one.room >= 5 and (one.name.startswith("_Z") or not one.name.startswith("_"))):
            name = next((name for name in (one.name, *one.aliases) if name in (only or ())), one.name)
            module.functions[name] = (one.vaddr, one.size)
            module.flags[name] = role << 8 or found.get(one.vaddr, 0)
    return module


def ways(ran):
    """``{way: functions}``, and ``{name: reason}`` of those refused."""
    data = pathlib.Path(ran.plan.path).read_bytes()
    rows = [FUNCTION.unpack_from(data, ran.plan.functions_at + i * FUNCTION.size) for i in range(ran.plan.count)]
    found = collections.Counter(plan.WAYS[row[2] >> 24] for row in rows if row[4] in (1, 2, 4) and not row[2] >> 8 & 0xFF)
    return dict(found), {name: plan.REASONS.get(row[5], row[5]) for name, row in zip(ran.plan.order, rows, strict=True) if row[4] == 3 and row[5]}


def told(text):
    """What a program says of itself: ``{name: calls}``."""
    return {name: int(n) for name, n in (line[1:].split() for line in text.splitlines() if line.startswith("@"))}


def plain_lines(text):
    return [line for line in text.splitlines() if not line.startswith("@")]


def same(bench, program, *arguments, **options):
    """Runs a program with and without; the same output, and the calls that it tells."""
    before = bench.plain(program, *arguments)
    ran = bench.run(program, *arguments, **options)
    assert (ran.status, plain_lines(ran.out), ran.err) == (before[0], plain_lines(before[1]), before[2])
    assert ran.plan.header()["state"] == "active"
    missing = ways(ran)[1]
    expected = {name: n for name, n in told(ran.out).items() if name not in missing}
    if not ran.plan.header()["skipped"]:
        calls = ran.calls()
        assert {name: calls.get(name, 0) for name in expected} == expected
    return ran


def arcs(path):
    """``{(from, to): calls}`` of a gmon.out, as offsets from where the program was loaded."""
    data = path.read_bytes()
    assert data[:4] == b"gmon"
    at, low, found = 20, 0, {}
    while at < len(data):
        tag, at = data[at], at + 1
        if tag == 0:
            low, _, bins = struct.unpack_from("<QQI", data, at)
            at += 16 + 24 + 2 * bins
        elif tag == 1:
            origin, to, count = struct.unpack_from("<QQI", data, at)
            found[origin - low, to - low] = count
            at += 20
    return found


def have(*programs):
    return all(map(shutil.which, programs))
