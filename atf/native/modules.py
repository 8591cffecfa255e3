"""The files of a program or a process, and which of them are traced."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from collections.abc import Iterable

from atf._core.errors import TargetDenied, TargetError, TargetForeign, TargetGone, UsageError
from atf.native.choice import Globs, Module, choose, require
from atf.native.elf import AARCH64, X86_64, ElfFile

_LISTED = re.compile(r"=> (/\S.*) \(0x|^\s*(/\S.*) \(0x", re.M)


def find_program(word: str, path: str | None = None) -> str:
    """The file that a shell would execute for this word. TargetGone when there is none."""
    found = shutil.which(word, path=path)
    if found is None:
        what = "was not found: write its path, or look at PATH"
        if os.path.isfile(word):
            apart = os.statvfs(word).f_flag & os.ST_NOEXEC and os.stat(word).st_mode & 0o111
            what = "lies on a file system that is mounted noexec: copy it elsewhere" if apart else "is not executable: chmod +x, or name its interpreter"
        raise TargetGone(f"{word} {what}")
    return found


def traceable(file: ElfFile) -> ElfFile:
    """TargetForeign, with what to do, for a program that the agent cannot enter."""
    here = {"x86_64": X86_64, "aarch64": AARCH64}.get(os.uname().machine)
    if file.machine != here:
        raise TargetForeign(f"{file.path} is a program for {file.machine_name}, this machine is {os.uname().machine}: run it natively to trace it")
    if file.is_static:
        how = "-static-pie" if file.type == 3 else "-static"
        raise TargetForeign(f"{file.path} is linked statically, so no agent can be loaded into it: link it dynamically (leave out {how})")
    return file


def of_program(path: str, file: ElfFile) -> list[str]:
    """The libraries that the dynamic loader will load for a program, as their real paths. Nothing of the program is executed."""
    if file.interpreter is None:
        return []
    try:
        done = subprocess.run([file.interpreter, "--list", path], capture_output=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return []
    listed = _LISTED.findall(os.fsdecode(done.stdout))
    found = [os.path.realpath(one or other) for one, other in listed]
    return [one for one in dict.fromkeys(found) if one != os.path.realpath(path)]


def of_process(pid: int) -> list[str]:
    """The files that are mapped to be executed in a process, the program itself first. TargetGone, TargetDenied."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            rows = [line.rstrip("\n").split(None, 5) for line in maps]
        program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        root = os.readlink(f"/proc/{pid}/root").rstrip("/")  # we see what lies in a chroot with its path before it
    except FileNotFoundError as error:
        raise TargetGone(f"there is no process {pid}: look for it with `pgrep -a NAME`") from error
    except ProcessLookupError as error:
        raise TargetGone(f"process {pid} has ended") from error
    except PermissionError as error:
        raise TargetDenied(f"process {pid} belongs to another user: run atf as that user, or as root") from error
    mapped = [row[5].removesuffix(" (deleted)") for row in rows if len(row) == 6 and "x" in row[1] and row[5].startswith("/")]
    return list(dict.fromkeys(path.removeprefix(root) if path.startswith(root + "/") else path for path in (program, *mapped)))


def choose_modules(
    program: str,
    libraries: Iterable[str],
    wanted: Iterable[str] = ("main",),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    pid: int | None = None,
    slow_path: bool = False,
) -> list[Module]:
    """The modules to trace with their functions. wanted: ``main``, globs on a file's name or path, or a path that is loaded later.

    pid: read the files as that process sees them. slow_path: short functions too. UsageError when a wanted module is not there; NothingToTrace.
    """
    globs, wanted = Globs(include, exclude), list(wanted)
    paths = [os.path.realpath(program) if pid is None else program, *libraries]
    found, used = [], set()
    for number, path in enumerate(paths):
        fits = [w for w in wanted if (w == "main" and number == 0) or _fits(path, w)]
        used.update(fits)
        if fits:
            found.append((number, path))
    for word in [w for w in wanted if w not in used and w != "*"]:
        if not os.path.isfile(word):
            loaded = ", ".join([os.path.basename(path) for path in paths[:12]] + ["…"] * (len(paths) > 12))
            raise UsageError(f"--module {word}: no such module; there are {loaded} (a library that is loaded later is named by its path)")
        paths.append(os.path.realpath(word))
        found.append((len(paths) - 1, paths[-1]))
    modules = []
    for number, path in found:
        readable = _readable(path, pid, number == 0)
        if readable is None:
            continue
        file = ElfFile(readable)
        module = Module(path, os.path.basename(path), number, file.build_id, file.size_in_memory, number == 0, file=readable)
        least = 4 if file.machine == AARCH64 else 1 if slow_path else 5  # bytes that a hook takes
        modules.append(choose(module, file, globs, least))
    require(modules, include, exclude)
    return modules


def _fits(path: str, word: str) -> bool:
    """By the file's name or path, or by the name that programs ask for (libz.so.1 for libz.so.1.2.13)."""
    name = os.path.basename(path)
    if fnmatch.fnmatchcase(name, word) or fnmatch.fnmatchcase(path, word) or ("/" in word and os.path.realpath(word) == path):
        return True
    if word == "main" or "/" in word:
        return False
    try:
        return fnmatch.fnmatchcase(ElfFile(path).soname or "", word)
    except TargetError:
        return False


def _readable(path: str, pid: int | None, main: bool) -> str | None:
    """Where a module of a process can be read: by its own path if that is still the same file, else as the process sees it."""
    if pid is None:
        return path
    places = ([f"/proc/{pid}/exe"] if main else []) + [f"/proc/{pid}/root{path}"]
    for place in places:
        try:
            seen = os.stat(place)
        except OSError:
            continue
        try:
            return path if os.path.samestat(seen, os.stat(path)) else place
        except OSError:
            return place
    return path if os.path.isfile(path) else None
