"""The checks of ``atf doctor``: each looks at one thing of this machine and says what to do where it is not as it should be."""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import pathlib
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from atf.cli import text

REQUIRED = ("numpy", "sysv_ipc", "msgspec", "rich")
# What makes an optional part work, and which part that is.
OPTIONAL = {"pytest": "tests that assert on traces", "frida": "atf attach", "pyelftools": "lines of native functions", "starlette": "the query service"}
# A recorded process has three segments; a thread's rings are 8 MB at the most.
NEEDED_SEGMENTS = 3
NEEDED_BYTES = 64 * 8 * 1024 * 1024
_IPC_PRIVATE, _IPC_RMID = 0, 0


@dataclass(frozen=True)
class Check:
    """One finding. status: ``ok``, ``note`` (works, with less), ``warning`` (may fail), ``fault`` (cannot record)."""

    name: str
    status: str
    found: str
    advice: str = ""


def python_version() -> Iterator[Check]:
    version = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.implementation.name != "cpython" or sys.version_info < (3, 10):
        yield Check("python", "fault", version, "use CPython 3.10 or newer")
    elif not getattr(sys, "_is_gil_enabled", bool)() and sys.version_info >= (3, 13):
        yield Check("python", "warning", f"{version} without the GIL", "recording is tried on builds with the GIL only")
    elif sys.version_info >= (3, 14):
        yield Check("python", "warning", version, "tried on 3.10 to 3.13 only")
    else:
        yield Check("python", "ok", version)
    monitored = sys.version_info >= (3, 12)
    yield Check("calls seen by", "ok", "sys.monitoring" if monitored else "frame evaluation function (PEP 523) and profile hook")
    if monitored:
        yield from monitoring_tools()


def monitoring_tools() -> Iterator[Check]:
    """sys.monitoring has six tool ids; another tool in this interpreter (coverage, a debugger) holds one."""
    tools = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    taken = {number: name for number in range(6) if (name := tools.get_tool(number)) is not None}
    if taken:
        yield Check("monitoring tools", "note", ", ".join(f"{number}: {name}" for number, name in taken.items()))


def compiled_modules() -> Iterator[Check]:
    import atf._core

    home = pathlib.Path(atf._core.__path__[0])
    stems = sorted({path.name.split(".")[0] for path in home.iterdir() if path.suffix in (".pyx", ".so")})
    missing = {}
    for stem in stems:
        try:
            importlib.import_module(f"atf._core.{stem}")
        except ImportError as error:
            missing[stem] = str(error)
    if missing:
        found = "; ".join(f"{stem}: {reason}" for stem, reason in missing.items())
        yield Check("compiled modules", "fault", found, "`make build`, or install atf again for this Python")
    else:
        yield Check("compiled modules", "ok", ", ".join(stems))


def packages() -> Iterator[Check]:
    for name in REQUIRED:
        version = _version(name)
        if version is None:
            yield Check(name, "fault", "not installed", f"pip install {name}")
        else:
            yield Check(name, "ok", version)
    for name, purpose in OPTIONAL.items():
        version = _version(name)
        yield Check(name, "note" if version is None else "ok", version or f"not installed (only needed for {purpose})")


def _version(name: str) -> str | None:
    import importlib.metadata  # here, since every command would wait for it

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def clock() -> Iterator[Check]:
    """The time stamp counter serves where it is constant and nonstop, which is what the kernel's two flags say; aarch64 has one by its architecture."""
    machine, flags = platform.machine(), _cpu_flags()
    if (sys.platform, machine) == ("linux", "aarch64"):
        yield Check("clock", "ok", "generic timer (cntvct_el0)")
        return
    if {"constant_tsc", "nonstop_tsc"} <= flags:
        yield Check("clock", "ok", "time stamp counter (constant, nonstop)")
    else:
        found = f"clock_gettime(CLOCK_BOOTTIME): this {machine} has no constant counter"
        yield Check("clock", "note", found, "a record costs about 20 ns more than with one")


def _cpu_flags() -> set[str]:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    except OSError:
        pass
    return set()


def shared_memory() -> Iterator[Check]:
    """Makes a segment of one thread's size and removes it, then compares the kernel's limits with what is in use."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    segment = libc.shmget(_IPC_PRIVATE, 8 << 20, 0o600)
    if segment < 0:
        number = ctypes.get_errno()
        advice = {
            errno.ENOSPC: "all segments or pages are in use: `ipcs -m` lists them; raise kernel.shmmni or kernel.shmall by sysctl",
            errno.EINVAL: "raise kernel.shmmax by sysctl",
            errno.ENOMEM: "memory is short, or a memory limit of the container is reached",
            errno.ENOSYS: "this kernel or sandbox has no System V shared memory; allow shmget, shmat and shmctl",
            errno.EPERM: "a sandbox forbids it: allow shmget, shmat and shmctl",
            errno.EACCES: "a sandbox forbids it: allow shmget, shmat and shmctl",
        }.get(number, "see `man shmget`")
        yield Check("shared memory", "fault", f"a segment of 8 MiB: {os.strerror(number)}", advice)
    else:
        libc.shmctl(segment, _IPC_RMID, None)
        yield Check("shared memory", "ok", "a segment of 8 MiB can be made")
    yield from shared_memory_limits()


def shared_memory_limits(kernel: str = "/proc/sys/kernel", in_use: str = "/proc/sysvipc/shm") -> Iterator[Check]:
    try:
        limits = {name: int(pathlib.Path(kernel, name).read_text()) for name in ("shmmax", "shmall", "shmmni")}
        lines = [line.split() for line in pathlib.Path(in_use).read_text().splitlines()]
    except (OSError, ValueError) as error:
        yield Check("shared memory limits", "note", f"not readable: {error}")
        return
    used_bytes = sum(int(row[lines[0].index("size")]) for row in lines[1:])
    page = os.sysconf("SC_PAGE_SIZE")
    for name, limit, used, needed, show in (
        ("shmmax", limits["shmmax"], 0, NEEDED_BYTES, text.size),
        ("shmall", limits["shmall"] * page, used_bytes, NEEDED_BYTES, text.size),
        ("shmmni", limits["shmmni"], len(lines) - 1, NEEDED_SEGMENTS, text.count),
    ):
        found = ("no limit" if limit >= 1 << 60 else show(limit)) + (f", {show(used)} in use" if used else "")
        if limit - used < needed:
            advice = f"{show(needed)} are wanted: raise kernel.{name} by sysctl, or record with smaller rings"
            yield Check(f"kernel.{name}", "warning", found, advice)
        else:
            yield Check(f"kernel.{name}", "ok", found)
