"""What stands in the way of tracing a program or a process natively, and what to do about each."""

from __future__ import annotations

import os
from collections.abc import Iterator

from atf._core import segment
from atf._core.errors import TargetDenied, TargetError, TargetForeign, TargetGone
from atf.native import door, injector, place
from atf.native.choice import GO, Globs, Module, choose
from atf.native.door import Finding
from atf.native.elf import ElfFile
from atf.native.modules import find_program, of_process, traceable

SYS_PTRACE = 19  # CAP_SYS_PTRACE


def examine(target: str) -> Iterator[Finding]:
    """Of a process by its id, or of a program by its name or path. Stops at what makes the rest meaningless."""
    yield from _agent()
    if target.isdecimal() and not os.path.exists(target):
        pid = int(target)
        yield (Finding("frida", "ok", "installed") if injector.available() else _no_frida())
        faults = False
        for finding in process(pid):
            faults = faults or finding.status == "fault"
            yield finding
        if not faults:
            try:
                files = of_process(pid)
                yield from program(files[0], f"/proc/{pid}/exe")
            except TargetError as error:
                yield Finding("program", "fault", str(error), error=type(error))
        return
    try:
        path = find_program(target)
    except TargetError as error:
        yield Finding("program", "fault", str(error), error=type(error))
        return
    yield from program(path, path)


def _agent() -> Iterator[Finding]:
    try:
        yield Finding("agent", "ok", injector.agent_file())
    except TargetError as error:
        yield Finding("agent", "fault", "not built", str(error))


def _no_frida() -> Finding:
    return Finding("frida", "fault", "not installed", "a running process is entered by it: pip install 'atf[native]'")


def process(pid: int) -> Iterator[Finding]:
    """Whether a running process can be entered by this one."""
    status = _status(pid)
    if not segment.alive(pid) or not status:
        yield Finding("process", "fault", f"there is no process {pid}, or it has ended", "look for it with `pgrep -a NAME`", TargetGone)
        return
    what, advice = _no_program(pid, status)
    if what:
        yield Finding("process", "fault", what, advice, TargetForeign)
        return
    yield Finding("process", "ok", f"{pid} {status.get('Name', '')}")
    owner = int(status.get("Uid", "0").split()[0])
    if os.geteuid() not in (0, owner):
        advice = "run atf as that user, or as root"
        yield Finding("permission", "fault", f"process {pid} belongs to user {owner}, this is user {os.geteuid()}", advice, TargetDenied)
        return
    yield _ptrace(pid, status, owner)
    yield from _container(pid)
    if injector.stopped(pid):
        yield Finding("state", "fault", f"process {pid} is stopped", "let it go on: kill -CONT, or leave the debugger", TargetDenied)
    if status.get("Seccomp", "0") == "2":
        yield Finding("sandbox", "warning", "a seccomp filter is active", "it must allow shmat and mprotect; else the agent says so and changes nothing")
    if "shstk" in status.get("x86_Thread_features", ""):
        yield Finding("shadow stack", "note", "the processor checks return addresses (CET)", "calls are recorded without returns")


def _container(pid: int) -> Iterator[Finding]:
    """Namespaces of its own. Root gives the process a copy of the agent among its files, and makes the shared memory where it looks."""
    ways = {"files": place.same_files(pid), "shared memory": place.same_space(pid, "ipc")}
    apart = " and ".join(what for what, same in ways.items() if not same)
    found = f"process {pid} has {apart} of its own (a container, a chroot)"
    if apart and os.geteuid() != 0:
        advice = "run atf as root, or inside the same container (docker exec, nsenter -t PID -m -i -p)"
        yield Finding("container", "fault", found, advice, TargetDenied)
        return
    if apart:
        advice = "atf puts a copy of the agent into its file system for the time; `atf recover` cannot save what is left if atf is killed"
        yield Finding("container", "note", found, advice)
    if os.path.exists(f"/proc/{pid}/root/") and not os.path.exists(f"/proc/{pid}/root/proc/stat"):
        yield Finding("proc", "fault", f"process {pid} sees no /proc", "mount it there: mount -t proc proc ROOT/proc", TargetDenied)
    if not place.room_for(pid):
        yield Finding("container", "fault", f"process {pid} sees no place for the agent's file ({', '.join(place.ROOMS)})", place.ROOM_ADVICE, TargetDenied)


def _no_program(pid: int, status: dict[str, str]) -> tuple[str, str]:
    """What a process id names instead of a program's process, and what to do; empty where it is one."""
    if pid == os.getpid():
        return f"{pid} is atf itself", "name another process; Python records itself by atf.record()"
    if status.get("Tgid", str(pid)) != str(pid):
        return f"{pid} is a thread of process {status['Tgid']}", f"attach to {status['Tgid']}: all its threads are recorded"
    if "VmSize" not in status:
        return f"{pid} {status.get('Name', '')} is a thread of the kernel", "only programs can be traced: see `perf trace` for the kernel"
    return "", ""


def _ptrace(pid: int, status: dict[str, str], owner: int, setting: str = "/proc/sys/kernel/yama/ptrace_scope") -> Finding:
    if status.get("TracerPid", "0") != "0":
        return Finding("ptrace", "fault", f"process {status['TracerPid']} debugs it already", "end that debugger or strace first", TargetDenied)
    try:
        with open(setting, encoding="ascii") as file:
            scope = int(file.read())
    except (OSError, ValueError):
        scope = 0
    if scope >= 3:
        return Finding("ptrace", "fault", "kernel.yama.ptrace_scope is 3: nobody may", "start the program under `atf record` instead", TargetDenied)
    if scope >= 1 and os.geteuid() != 0:
        advice = "run atf as root, or `sysctl kernel.yama.ptrace_scope=0`, or start the program under `atf record`"
        return Finding("ptrace", "fault", f"kernel.yama.ptrace_scope is {scope}: only root may enter running processes", advice, TargetDenied)
    if (scope >= 1 or owner != os.geteuid()) and not int(_status(os.getpid()).get("CapEff", "0"), 16) >> SYS_PTRACE & 1:
        advice = "run atf with that capability: docker run --cap-add SYS_PTRACE, or outside the container"
        return Finding("ptrace", "fault", "this root has no right to trace (CAP_SYS_PTRACE)", advice, TargetDenied)
    if os.geteuid() != 0 and _owner_of(pid) != os.geteuid():
        advice = "it changed its user or asked for that (PR_SET_DUMPABLE): run atf as root"
        return Finding("ptrace", "fault", f"process {pid} lets nobody but root look into it", advice, TargetDenied)
    return Finding("ptrace", "ok", "permitted" if not scope else "permitted to root")


def program(path: str, readable: str) -> Iterator[Finding]:
    """Whether a program's file can be traced, and how much of it. readable: where the file can be read, another path for a process's."""
    try:
        file = traceable(ElfFile(readable))
    except TargetError as error:
        yield Finding("program", "fault", str(error), error=type(error))
        return
    yield Finding("program", "ok", f"{path} ({file.machine_name}, dynamically linked)")
    faults = False
    for finding in door.startable(path, file) if path == readable else door.loadable(path, file, True):
        faults = True
        yield finding
    if file.is_go:
        yield Finding("language", "fault", f"{path} is a Go program", GO, TargetForeign)
        return
    if faults:
        return
    module = choose(Module(path, os.path.basename(path), 0, b"", 0, True), file, Globs())
    named = sum(not one.name.startswith("sub_") for one in module.chosen)
    found = f"{module.functions} functions, {len(module.chosen)} can be chosen, {named} with names"
    if not module.chosen:
        yield Finding("symbols", "fault", found, "neither symbols nor an unwind table: install its debug symbols or build it again", TargetForeign)
    elif named < len(module.chosen) // 2:
        yield Finding("symbols", "note", found, "it is stripped: functions are called sub_ADDRESS; its debug symbols (-dbgsym, -debuginfo) give them names")
    else:
        yield Finding("symbols", "ok", found)
    if file.section(".debug_line") is None and file.debug_file() is None:
        yield Finding("lines", "note", "no debug information", "build with -g, or install its debug symbols, to see file and line")


def require(pid: int) -> None:
    """Raise the first fault of a process as its error."""
    door.require(process(pid))


def _owner_of(pid: int) -> int:
    """Root's where the process must not be looked into."""
    try:
        return os.stat(f"/proc/{pid}/environ").st_uid
    except OSError:
        return os.geteuid()


def _status(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}
