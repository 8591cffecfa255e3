"""The plan: the file in which the controller lists what to hook, and the agent answers what came of it (``_core/agent/plan.h``)."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from atf._core.errors import InjectionError
from atf.native.choice import Module

MAGIC, VERSION = 0x50465441, 1
LIVE, ENTRY_ONLY, CHILDREN = 1, 2, 16
NEW, STARTING, ACTIVE, DETACHED, FAILED = range(5)
WAITING, HOOKED, HOOKED_ENTRY, REFUSED, RESTORED = range(5)
HEADER = np.dtype(
    [
        *[(name, "<u4") for name in ("magic", "version", "bytes", "flags")],
        *[(name, "<i4") for name in ("control_id", "registry_id", "rings_id")],
        *[(name, "<u4") for name in ("module_count", "function_count", "modules_offset", "functions_offset", "texts_offset")],
        ("reserved", "<u8", 2),
        *[(name, "<u4") for name in ("state", "error")],
        ("os_error", "<i4"),
        *[(name, "<u4") for name in ("pid", "hooked", "refused", "waiting", "threads_stopped")],
        *[(name, "<u8") for name in ("stop_ns", "setup_ns", "skipped", "orphans")],
        ("spare", "<u8", 4),
    ]
)
MODULE = np.dtype(
    [
        ("path_offset", "<u4"),
        ("build_id_bytes", "<u4"),
        ("build_id", "u1", 32),
        ("first_function", "<u4"),
        ("function_count", "<u4"),
        ("load_bias", "<u8"),
        ("state", "<u4"),
        ("reserved", "<u4"),
    ]
)
FUNCTION = np.dtype([("vaddr", "<u8"), ("size", "<u4"), ("flags", "<u4"), ("function_id", "<u8"), ("state", "<u4"), ("reason", "<u4")])
assert (HEADER.itemsize, MODULE.itemsize, FUNCTION.itemsize) == (160, 64, 32)

REASONS = {
    1: "shorter than 5 bytes up to the next code",
    2: "a branch of its own leads into its first 5 bytes",
    3: "begins with an instruction that cannot be moved",
    4: "out of reach of its stub",
    5: "the function before it needs these bytes",
    6: "not inside executable memory of its module",
    7: "the agent itself stands on it",
    8: "the module in memory is another build",
}
ERRORS = {
    1: "the plan could not be read; is its file system visible to the program?",
    2: "the shared memory could not be attached: another user, another IPC namespace (container), or a sandbox; run atf as the program's user, beside it",
    3: "its threads did not stop in time; nothing was changed: try again when it is less busy",
    4: "there is not enough memory for its stubs",
    5: "this processor or kernel lacks what return hooks need",
    6: "another recording is active in it: end that one first",
}


class Plan:
    """A plan file, mapped: the agent's answers are seen as they are written."""

    def __init__(self, path: str, modules: list[Module], segments: tuple[int, int, int], flags: int = 0):
        self.path, self.modules = path, modules
        content = _build(modules, segments, flags)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, content) if len(content) < 1 << 20 else _write_all(descriptor, content)
            self._map: Any = mmap.mmap(descriptor, len(content))
        finally:
            os.close(descriptor)
        self.header = np.frombuffer(self._map, HEADER, 1)[0:1]
        head = self.header[0]
        self.entries = np.frombuffer(self._map, FUNCTION, int(head["function_count"]), int(head["functions_offset"]))
        self.images = np.frombuffer(self._map, MODULE, int(head["module_count"]), int(head["modules_offset"]))

    def value(self, name: str) -> int:
        """A member of the header as it is now."""
        return int(self.header[name][0])

    @property
    def state(self) -> int:
        return self.value("state")

    def require_started(self) -> None:
        """InjectionError when the agent refused."""
        if self.state == FAILED:
            code, number = self.value("error"), self.value("os_error")
            why = ERRORS.get(code, f"error {code}")
            more = f" ({errno.errorcode.get(number, number)}: {os.strerror(number)})" if number else ""
            raise InjectionError(f"the agent did not start: {why}{more}")

    def refused(self) -> Iterator[tuple[Module, str, str]]:
        """(module, name, why) of every function that was asked for and not hooked."""
        states, reasons = self.entries["state"].copy(), self.entries["reason"].copy()
        first = 0
        for module in self.modules:
            for name, why in module.refused:
                yield module, name, why
            for i in (states[first : first + len(module.chosen)] == REFUSED).nonzero()[0].tolist():
                yield module, module.chosen[i].name, REASONS.get(int(reasons[first + i]), f"reason {int(reasons[first + i])}")
            first += len(module.chosen)

    def counts(self) -> dict[str, int]:
        """hooked, refused, waiting (their module is not loaded), as functions; roles are not counted."""
        traced = self.entries["flags"] >> 8 & 0xFF == 0
        states = self.entries["state"][traced]
        hooked = int(((states == HOOKED) | (states == HOOKED_ENTRY) | (states == RESTORED)).sum())
        excluded = sum(len(module.refused) for module in self.modules)
        return {"hooked": hooked, "refused": int((states == REFUSED).sum()) + excluded, "waiting": int((states == WAITING).sum())}


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _build(modules: list[Module], segments: tuple[int, int, int], flags: int) -> bytes:
    total = sum(len(module.chosen) for module in modules)
    header, images, entries = np.zeros(1, HEADER), np.zeros(len(modules), MODULE), np.zeros(total, FUNCTION)
    modules_at = HEADER.itemsize
    functions_at = modules_at + images.nbytes
    texts_at = functions_at + entries.nbytes
    texts, first = bytearray(b"\0"), 0
    for i, module in enumerate(modules):
        count, image = len(module.chosen), images[i]
        if module.main:
            image["path_offset"] = texts_at
        else:
            image["path_offset"] = texts_at + len(texts)
            texts += os.fsencode(module.path) + b"\0"
        mark = module.build_id[:32]
        image["build_id_bytes"] = len(mark)
        image["build_id"][: len(mark)] = np.frombuffer(mark, "u1")
        image["first_function"], image["function_count"] = first, count
        part = entries[first : first + count]
        part["vaddr"] = [one.vaddr for one in module.chosen]
        part["size"] = [min(one.size, 0xFFFFFFFF) for one in module.chosen]
        part["flags"] = [one.role << 8 for one in module.chosen]
        part["function_id"] = [module.function_id(one) for one in module.chosen]
        first += count
    head = header[0]
    head["magic"], head["version"], head["flags"] = MAGIC, VERSION, flags
    head["bytes"] = texts_at + len(texts)
    head["control_id"], head["registry_id"], head["rings_id"] = segments
    head["module_count"], head["function_count"] = len(modules), total
    head["modules_offset"], head["functions_offset"], head["texts_offset"] = modules_at, functions_at, texts_at
    return header.tobytes() + images.tobytes() + entries.tobytes() + bytes(texts)
