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
from atf.native.details import Details

MAGIC, VERSION = 0x50465441, 2
LIVE, CHILDREN, SLOW_PATH = 1, 16, 64
NEW, STARTING, ACTIVE, DETACHED, FAILED = range(5)
WAITING, HOOKED, HOOKED_ENTRY, REFUSED, RESTORED, HOOKED_TRAP = range(6)
HEADER = np.dtype(
    [
        *[(name, "<u4") for name in ("magic", "version", "bytes", "flags")],
        *[(name, "<i4") for name in ("control_id", "registry_id", "rings_id")],
        *[(name, "<u4") for name in ("module_count", "function_count", "modules_offset", "functions_offset", "texts_offset")],
        *[(name, "<u8") for name in ("stack_bytes", "min_duration_ns")],
        *[(name, "<u4") for name in ("state", "error")],
        ("os_error", "<i4"),
        *[(name, "<u4") for name in ("pid", "hooked", "refused", "waiting", "threads_stopped")],
        *[(name, "<u8") for name in ("stop_ns", "setup_ns", "skipped", "orphans")],
        ("spare", "<u8", 2),
        ("filtered", "<u8"),
        ("spare_more", "<u8"),
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
OURS = (64, 48, 24)  # bytes of each that are ours: the agent's fields begin there

WAYS = ("jump", "nops", "fentry", "mcount", "cyg")  # a function's flags, bits 24 to 31
REASONS = {
    1: "shorter than its hook up to the next code",
    2: "a branch of its own leads to where its hook would stand",
    3: "begins with an instruction that cannot be moved",
    4: "out of reach of its stub",
    5: "the function before it needs these bytes",
    6: "not inside executable memory of its module",
    7: "the agent itself stands on it",
    8: "the module in memory is another build",
    9: "other code branches into its first 5 bytes",
    10: "a table of addresses leads into its first 5 bytes",
    11: "shares its code with another function",
    12: "calls its profiler from a prologue of another shape, or of any with details or a duration filter",
    13: "a loop begins behind the call of its profiler, where the hook would stand",
    14: "a trap only, and the program handles, ignores or blocks SIGTRAP",
    15: "a trap only, and the C library may run with all signals blocked",
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

    def __init__(
        self,
        path: str,
        modules: list[Module],
        segments: tuple[int, int, int],
        flags: int = 0,
        details: Details | None = None,
        texts: dict[int, int] | None = None,
    ):
        self.path, self.modules = path, modules
        content = _build(modules, segments, flags, details or Details(), texts or {})
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
            mine = slice(first, first + len(module.chosen))
            for i in ((states[mine] == REFUSED) & (reasons[mine] != 0)).nonzero()[0].tolist():  # without a reason: a role that nobody needs
                yield module, module.chosen[i].name, REASONS.get(int(reasons[first + i]), f"reason {int(reasons[first + i])}")
            first += len(module.chosen)

    def counts(self) -> dict[str, int]:
        """hooked, refused, waiting (their module is not loaded), as functions; roles are not counted. traps: how many of the hooks are slow ones."""
        traced = self.entries["flags"] >> 8 & 0xFF == 0
        states = self.entries["state"][traced]
        hooked = int(((states == HOOKED) | (states == HOOKED_ENTRY) | (states == RESTORED) | (states == HOOKED_TRAP)).sum())
        excluded = sum(len(module.refused) for module in self.modules)
        counts = {"hooked": hooked, "refused": int((states == REFUSED).sum()) + excluded, "waiting": int((states == WAITING).sum())}
        return {**counts, "traps": int(self.header["spare"][0][1])}


    def ways(self) -> dict[str, int]:
        """Hooked functions by how the agent came into them; ``entry-only``: by a jump that leaves the return alone. Ways without any are left out."""
        flags, states = self.entries["flags"].copy(), self.entries["state"].copy()
        hooked = (flags >> 8 & 0xFF == 0) & np.isin(states, (HOOKED, HOOKED_ENTRY, HOOKED_TRAP, RESTORED))
        found = {name: int((hooked & (flags >> 24 == way)).sum()) for way, name in enumerate(WAYS)}
        entries = int((hooked & (states == HOOKED_ENTRY)).sum())
        return {name: count for name, count in {**found, "entry-only": entries}.items() if count}


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _build(modules: list[Module], segments: tuple[int, int, int], flags: int, details: Details, followed: dict[int, int]) -> bytes:
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
        strings = [followed.get(module.function_id(one), 0) << 16 for one in module.chosen]
        of_role = [one.role << 8 | one.flags for one in module.chosen]
        plain = [details.function_flags | one.flags for one in module.chosen]
        part["flags"] = [role if one.role else flags | text for one, role, flags, text in zip(module.chosen, of_role, plain, strings, strict=True)]
        part["function_id"] = [module.function_id(one) for one in module.chosen]
        first += count
    head = header[0]
    head["magic"], head["version"], head["flags"] = MAGIC, VERSION, flags | details.plan_flags
    head["stack_bytes"], head["min_duration_ns"] = details.stack_bytes, details.min_duration_ns
    head["control_id"], head["registry_id"], head["rings_id"] = segments
    head["module_count"], head["function_count"] = len(modules), total
    head["modules_offset"], head["functions_offset"], head["texts_offset"] = modules_at, functions_at, texts_at
    return sealed(header.tobytes() + images.tobytes() + entries.tobytes() + bytes(texts))


def sealed(content: bytes) -> bytes:
    """A plan's content, filled up, with its size and its sum: the agent refuses it when one word is another."""
    content += bytes(-len(content) % 8)
    words = np.frombuffer(content, "<u8").copy()
    words[1] = words[1] >> np.uint64(32) << np.uint64(32) | np.uint64(len(content) + 8)
    written = words.copy()  # without what is the agent's
    head = words.view("u1")[: HEADER.itemsize].view(HEADER)[0]
    modules_at, functions_at = HEADER.itemsize, HEADER.itemsize + int(head["module_count"]) * MODULE.itemsize
    texts_at = functions_at + int(head["function_count"]) * FUNCTION.itemsize
    raw = written.view("u1")
    raw[OURS[0] : HEADER.itemsize] = 0
    raw[modules_at:functions_at].reshape(-1, MODULE.itemsize)[:, OURS[1] :] = 0
    raw[functions_at:texts_at].reshape(-1, FUNCTION.itemsize)[:, OURS[2] :] = 0
    total = int((written * (2 * np.arange(len(written), dtype="<u8") + np.uint64(1))).sum(dtype="<u8"))
    return words.tobytes() + ((total + 1) % (1 << 64)).to_bytes(8, "little")
