"""Whether a program is recorded natively: compiled programs are, Python's and those that only start others are not."""

from __future__ import annotations

import mmap
import os
import re
import shutil

from atf._core.errors import UsageError

# They start other programs: recording follows the Python processes among those, as before.
LAUNCHERS = frozenset(
    "ash bash busybox chroot csh dash doas env fish ionice ksh make nice nohup numactl pkexec runuser script setsid sh stdbuf su sudo"
    " taskset tcsh time timeout unshare xargs xvfb-run zsh".split()
)
_PYTHON = re.compile(r"(python|pypy)[\d.]*\w*")


def is_native(words: list[str]) -> bool:
    """Whether the first word names a compiled program that is neither an interpreter of Python nor a launcher."""
    path = shutil.which(words[0]) if words else None
    if path is None:
        return bool(words) and "/" in words[0] and is_elf(words[0])  # not executable: the error says why
    real = os.path.basename(os.path.realpath(path))
    if os.path.basename(path) in LAUNCHERS or real in LAUNCHERS:
        return False
    return is_elf(path) and not is_python(path)


def refuse_python(words: list[str]) -> None:
    """UsageError for native options with a Python program."""
    path = shutil.which(words[0]) if words else None
    if path is not None and is_elf(path) and is_python(path):
        what = "--module, --all-modules and --slow-path are for compiled programs"
        raise UsageError(f"{what}: with Python add --native to --module, which records both kinds of calls")


def is_elf(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def is_python(path: str) -> bool:
    """An interpreter by its name, or by the one function that interpreters of Python are made of."""
    if _PYTHON.fullmatch(os.path.basename(os.path.realpath(path))):
        return True
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"\0Py_BytesMain\0") >= 0
    except (OSError, ValueError):
        return False
