"""Bringing the agent into a running process. The only file that imports frida."""

from __future__ import annotations

import os
from typing import Any

import atf._core
from atf._core import segment
from atf._core.errors import InjectionError, TargetDenied, TargetGone


def agent_file(name: str = "libatf_agent.so") -> str:
    """Where the agent's library lies. InjectionError when it was not built for this machine."""
    path = os.path.join(os.path.realpath(atf._core.__path__[0]), "agent", name)
    if not os.path.exists(path):
        raise InjectionError(f"the native agent was not built for this machine ({path} is missing): build it with `make build`, or install atf's wheel")
    return path


def available() -> bool:
    """Whether running processes can be entered."""
    import importlib.util

    return importlib.util.find_spec("frida") is not None


def require() -> None:
    """InjectionError, with what to install, when running processes cannot be entered."""
    if not available():
        raise InjectionError("entering a running process needs the package frida: pip install 'atf[native]'")


def _frida() -> Any:
    try:
        import frida
    except ImportError as error:
        raise InjectionError(f"frida cannot be imported: pip install 'atf[native]' ({error})") from error
    return frida


def stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, a debugger): it answers nobody who enters it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def leave(pid: int, agent: str) -> None:
    """Let the agent take its hooks out. Errors as call(); a process that is stopped is not waited for."""
    if stopped(pid):
        raise InjectionError("it is stopped; let it go on, and attach for a moment to take them out")
    call(pid, "stop", agent)


def call(pid: int, *words: str) -> None:
    """Let the process run one of the boot library's commands, in a thread of its own. That may go on after the return.

    words: ``start``, agent, plan; or ``stop``, agent. TargetGone, TargetDenied, InjectionError.
    """
    frida = _frida()
    try:
        device = frida.get_local_device()
        with open(agent_file("libatf_boot.so"), "rb") as file:
            boot = file.read()  # its path may mean nothing to the process
        device.inject_library_blob(pid, boot, "atf_boot", "\n".join(words) + "\n")
    except frida.ProcessNotFoundError as error:
        raise TargetGone(f"process {pid} has ended") from error
    except frida.PermissionDeniedError as error:
        if not segment.alive(pid):
            raise TargetGone(f"process {pid} ended while the agent was brought in") from error
        advice = "run atf as its user or as root; where kernel.yama.ptrace_scope is 1 or more, as root or after `sysctl kernel.yama.ptrace_scope=0`"
        raise TargetDenied(f"process {pid} may not be entered: {advice} ({error})") from error
    except Exception as error:  # its errors have no common root
        if not segment.alive(pid):
            raise TargetGone(f"process {pid} ended while the agent was brought in") from error
        raise InjectionError(f"process {pid} could not be entered: {error}") from error
