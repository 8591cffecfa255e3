"""What is looked at before a program is started or entered: whether the agent can be loaded into it at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from atf._core.errors import TargetDenied, TargetError, TargetForeign
from atf.native.elf import ElfFile

_GLIBC = ("ld-linux", "ld64.so", "ld.so")


class Finding(NamedTuple):
    """One finding; status: ``ok``, ``note`` (works, with less), ``warning`` (may fail), ``fault`` (cannot be traced)."""

    name: str
    status: str
    found: str
    advice: str = ""
    error: type[TargetError] = TargetError


def require(findings: Iterable[Finding]) -> None:
    """Raise the first fault as its error."""
    for finding in findings:
        if finding.status == "fault":
            raise finding.error(f"{finding.found}: {finding.advice}")


def loadable(path: str, file: ElfFile, running: bool = False) -> Iterator[Finding]:
    """Whether the agent's library fits the program's C library. running: its loader was found."""
    loader = file.interpreter
    if loader is None:
        return
    name = os.path.basename(loader)
    if "musl" in name or not name.startswith(_GLIBC):
        found = f"{path} is built for {'musl' if 'musl' in name else f'another C library ({loader})'}"
        yield Finding("C library", "fault", found, "the agent is built for glibc: build the program on a system with glibc", TargetForeign)
    elif not running and not os.access(loader, os.X_OK):
        found = f"{path} asks for the loader {loader}, which {'cannot be executed' if os.path.exists(loader) else 'is not there'}"
        yield Finding("loader", "fault", found, "install the C library it was built for, or build it here", TargetForeign)


def startable(path: str, file: ElfFile) -> Iterator[Finding]:
    """Whether the loader will take a preloaded library when this process starts the program. A loader that runs with new privileges does not."""
    yield from loadable(path, file)
    advice = "the loader ignores preloaded libraries then: start it yourself and use `atf attach PID` as root"
    try:
        about, limits = os.stat(path), os.statvfs(path).f_flag
    except OSError:
        return
    if limits & os.ST_NOSUID or _no_new_privileges():
        return
    if about.st_mode & 0o4000 and about.st_uid != os.getuid():
        yield Finding("privileges", "fault", f"{path} is setuid: it runs as user {about.st_uid}", advice + ", or run atf as that user", TargetDenied)
    elif about.st_mode & 0o2010 == 0o2010 and about.st_gid != os.getgid():
        yield Finding("privileges", "fault", f"{path} is setgid: it runs as group {about.st_gid}", advice, TargetDenied)
    elif os.getuid() != 0 and _has_capabilities(path):
        yield Finding("privileges", "fault", f"{path} has file capabilities (getcap)", advice + ", or run atf as root", TargetDenied)


def _no_new_privileges() -> bool:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return any(line.split() == ["NoNewPrivs:", "1"] for line in file)
    except OSError:
        return False


def _has_capabilities(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False
