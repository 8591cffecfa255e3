"""Which modules are recorded when nothing was said: the project's own, by the names of what is installed beside it."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable

import pytest

# What runs tests is not what is tested. Their frames stand between a test and its fixtures everywhere.
MACHINERY = (
    *("pytest", "_pytest", "pluggy", "iniconfig", "py", "xdist", "execnet", "pytest_*", "_hypothesis_pytestplugin", "anyio.pytest_plugin"),
    *("__main__", "__channelexec__", "coverage", "importlib", "_frozen_importlib", "_frozen_importlib_external"),
    *("namedtuple_*", "hypothesis_temporary_module_*"),  # made by exec, under names of their own
)


def excluded(root: str, include: tuple[str, ...] | None, exclude: tuple[str, ...]) -> tuple[str, ...]:
    """What the recorder leaves out. Without include: the standard library and whatever is installed, but what lies below root."""
    if include is not None:  # what runs tests may be asked for too, by its name
        return (*(name for name in MACHINERY if any(matches(pattern, name) for pattern in include if pattern.startswith("*"))), *exclude)
    own = _names(root) | _names(os.path.join(root, "src")) | _names(os.path.join(root, "lib"))
    others = set(sys.stdlib_module_names)
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        others |= _names(place)
    return (*MACHINERY, *sorted(others - own - {"__main__"}), *exclude)


def _names(directory: str) -> set[str]:
    """Top-level names that could be imported from a directory."""
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return set()
    found = set()
    for entry in entries:
        name, dot, _ = entry.name.partition(".")
        if name.isidentifier() and (not dot or entry.name.endswith((".py", ".so"))):
            found.add(name)
    return found - {"__pycache__"}


def matches(pattern: str, module: str) -> bool:
    """As the recorder matches: a plain name stands for the module and all below it."""
    return fnmatch.fnmatchcase(module, pattern) or (not set("*?[") & set(pattern) and module.startswith(pattern + "."))


def check(include: Iterable[str], where: str, root: str) -> None:
    """A glob that matches no module, imported or findable, is a mistake. Raises pytest.UsageError that says what is there."""
    modules = [name for name, module in list(sys.modules.items()) if module is not None]
    for pattern in include:
        if any(matches(pattern, module) for module in modules) or _findable(pattern):
            continue
        own = sorted({name for name in modules if _below(name, root) and not name.startswith("atf.")})
        there = ", ".join(own[:12]) + (f", and {len(own) - 12} more" if len(own) > 12 else "") if own else "none yet"
        raise pytest.UsageError(f"{where}: no module fits {pattern!r}. This project's modules: {there}")


def _findable(pattern: str) -> bool:
    """Whether the part before the first wildcard is a module that a test may import later."""
    head = pattern[: min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=len(pattern))]
    whole = head if head == pattern else head.rpartition(".")[0]
    if not whole:
        return not head  # '*' fits everything; 'sh*' must fit something that is imported
    package = whole.rpartition(".")[0]
    if package and package not in sys.modules and not _findable(package):
        return False
    try:
        return importlib.util.find_spec(whole) is not None
    except (ImportError, AttributeError, ValueError):
        return False


def _below(name: str, root: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return file.startswith(os.path.join(root, "")) and "site-packages" not in file
