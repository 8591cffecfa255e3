"""The descendants of a natively recorded process: what they share with the recorder, and forked children in its hands."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from atf._core import drain, segment
from atf._core.errors import SessionError
from atf.flight import FOREVER
from atf.manifest import Manifest
from atf.native.choice import Module
from atf.native.names import Places, module_entry, name_entries, occurring, symbol_entry
from atf.native.plan import Plan
from atf.native.process import NativeProcess
from atf.recorded import Process

MAGIC, VERSION, FILE = 0x46465441, 1, "family"  # as in _core/agent/family.h
MOST = 256  # forked children whose segments may be there at a time: those beyond are counted and not recorded
WAIT_MS = 1500  # an executed program does not wait longer for its plan
NAMED_AFTER_S = 0.5  # children that live longer have all names in their manifest while they run
SHARED = np.dtype(
    [(name, "<u4") for name in ("magic", "version", "recorder_pid", "most", "drained", "wait_ms", "made", "unrecorded", "untouched", "late")]
    + [("recorder_start", "<u8"), ("reserved", "<u4", 4)]
)
assert SHARED.itemsize == 64


class Family:
    """The file that all agents of a session share, and the names that forked children have from their parent's plan."""

    def __init__(self, session: str, most: int | None = None, wait_ms: int | None = None):
        path = os.path.join(session, FILE)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.truncate(descriptor, SHARED.itemsize)
            self._map = mmap.mmap(descriptor, SHARED.itemsize)
        except OSError as error:
            raise SessionError(f"{path} cannot be written: {error.strerror}") from error
        finally:
            os.close(descriptor)
        self.shared = np.frombuffer(self._map, SHARED, 1)
        me = os.getpid()
        values = {"version": VERSION, "recorder_pid": me, "recorder_start": segment.process_start(me)}
        values |= {"most": most or MOST, "wait_ms": wait_ms or WAIT_MS, "magic": MAGIC}
        for name, value in values.items():
            self.shared[name][0] = value
        self.places = Places()
        self._plans: dict[str, tuple[list[Module], Callable[[], list[int]]]] = {}  # modules, and where they were loaded
        self._symbols: dict[int, dict[int, dict[str, Any]]] = {}

    def value(self, name: str) -> int:
        """A member of the shared file as it is now."""
        return int(self.shared[name][0])

    def know(self, plan: Plan) -> None:
        """Processes under this plan have their names from it."""
        self._plans[os.path.basename(plan.path)] = (plan.modules, plan.images["load_bias"].tolist)

    def settle(self, plan: Plan) -> None:
        """The process of this plan is over: what its children may still need is kept, its file and its memory are not."""
        biases: list[int] = plan.images["load_bias"].tolist()
        self._plans[os.path.basename(plan.path)] = (plan.modules, lambda: biases)
        try:
            os.unlink(plan.path)
        except OSError:
            pass

    def modules(self, name: str) -> list[dict[str, Any]]:
        """Manifest entries of a plan's modules; addresses are the same in a forked child."""
        modules, biases = self._plans[name]
        return [{**module_entry(module), "base_address": f"0x{bias:x}"} for module, bias in zip(modules, biases(), strict=True)]

    def names(self, name: str) -> list[tuple[int, int, int, str, str]]:
        """Entries of a names log for a plan."""
        return name_entries(self._plans[name][0])

    def symbols(self, name: str) -> dict[int, dict[str, Any]]:
        """Manifest entries of a plan's functions, by function id. Processes of one program share them."""
        modules = self._plans[name][0]
        if id(modules) not in self._symbols:
            self._symbols[id(modules)] = {module.function_id(one): symbol_entry(module, one) for module in modules for one in module.chosen if not one.role}
        return self._symbols[id(modules)]

    def add_lines(self, name: str, symbols: list[dict[str, Any]]) -> bool:
        """File and line for entries that have none yet; whether there are any now."""
        return self.places.fill(self._plans[name][0], symbols)

    def kind_of(self, values: dict[str, str]) -> Callable[..., Process] | None:
        """What takes a process in that announced itself: None for one of no plan."""
        return partial(ForkedChild, self) if values.get("plan") in self._plans else None

    def counts(self) -> dict[str, int]:
        """recorded (forked children), unrecorded (those beyond the limit, or refused by the system), untouched and late (executed programs)."""
        return {"recorded": self.value("made"), **{name: self.value(name) for name in ("unrecorded", "untouched", "late")}}

    def complaint(self) -> str | None:
        """What the user must be told of children that were not recorded."""
        counts = self.counts()
        told = [f"{counts['unrecorded']} forked children"] * bool(counts["unrecorded"])
        told += [f"{counts['late']} executed programs, whose functions were not read in time"] * bool(counts["late"])
        return f"not recorded: {' and '.join(told)}" if told else None


class Descendant(Process):
    """Names come from a plan: all of them, once, when it goes on for a while; those that occur when it is over."""

    family: Family
    plan_name: str
    since: float
    named = False
    _told = False
    often = True

    def take_names(self) -> bool:
        if self.flight is not None and not self._told:
            self._told = True
            self.flight.named(self.source, self.family.names(self.plan_name), FOREVER)
        if self.named or time.monotonic() - self.since < NAMED_AFTER_S:
            return False
        self._name(list(self.family.symbols(self.plan_name).values()))
        return True

    def _name(self, symbols: list[dict[str, Any]]) -> None:
        self.named = True
        self.manifest.values["modules"] = self.family.modules(self.plan_name)
        self.manifest.values["symbols"] = symbols

    def write_manifest(self, status: str) -> None:
        if status != "recording":
            known, seen = self.family.symbols(self.plan_name), occurring(self.manifest.path)
            self._name([dict(known[one]) for one in sorted(seen & known.keys())])
        super().write_manifest(status)

    def end_part(self, left: dict[str, Any], before: str, path: str) -> None:
        named = self.named
        super().end_part(left, before, path)
        self.named = named

    def last_part(self) -> None:
        """The manifest names what occurs already."""

    def keep_what_occurs(self) -> None:
        """Lines for the functions in the manifest, after the recording: reading them takes its time."""
        if self.family.add_lines(self.plan_name, self.manifest.values["symbols"]):
            self.manifest.write(durable=False)


class ForkedChild(Descendant):
    """A forked child: its segments are its own, its functions are its parent's."""

    def __init__(self, family: Family, values: dict[str, Any], segments: segment.SegmentSet, source: drain.Source, manifest: Manifest):
        super().__init__(values, segments, source, manifest)
        self.family, self.plan_name, self.since = family, str(values["plan"]), time.monotonic()
        manifest.values["native"] = {"plan": self.plan_name, "forked_from": int(values.get("ppid", 0) or 0)}

    def finished(self) -> None:
        """Its segments are gone: another child may have some."""
        self.family.shared["drained"][0] += 1


class ExecutedProgram(Descendant, NativeProcess):
    """A program that a followed process executed, with a plan of its own."""

    def __init__(self, family: Family, values: dict[str, Any], segments: segment.SegmentSet, source: drain.Source, manifest: Manifest):
        super().__init__(values, segments, source, manifest)
        self.family, self.plan_name, self.since = family, str(values["plan"]), time.monotonic()

    def name_everything(self, plan: Plan) -> None:
        self.plan = plan
        self.family.know(plan)

    def write_manifest(self, status: str) -> None:
        if self.plan is not None:  # else nothing is known yet: it is being taken in
            super().write_manifest(status)

    def finished(self) -> None:
        assert self.plan is not None
        self.family.settle(self.plan)
        self.plan = None

    def keep_what_occurs(self, places: Places | None = None) -> None:
        Descendant.keep_what_occurs(self)
