"""A natively recorded process in the recorder's hands: its plan, its names, how its agent is."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from atf._core import segment
from atf._core.errors import InjectionError, TargetGone
from atf.gather import Process
from atf.native import plan as plans
from atf.native.choice import Chosen, Module
from atf.native.lines import Lines


class NativeProcess(Process):
    """A process whose agent works by a plan."""

    plan: plans.Plan | None = None
    _told = False

    def gone(self) -> bool:
        """Ended, or replaced by another program; before the agent is in, nobody is attached to the segments yet."""
        if self.plan is not None and self.plan.state in (plans.NEW, plans.STARTING, plans.DETACHED):
            return not segment.alive(self.pid, self.start)
        return super().gone()

    def wait_started(self, seconds: float) -> None:
        """Until the agent is at work. InjectionError when it refuses or never begins, TargetGone when the process ended."""
        assert self.plan is not None
        until = time.monotonic() + seconds
        while self.plan.state in (plans.NEW, plans.STARTING):
            if not segment.alive(self.pid, self.start):
                raise TargetGone(f"process {self.pid} ended while the agent was brought in")
            if time.monotonic() > until:
                raise InjectionError(f"the agent did not answer in process {self.pid} within {seconds:.0f} s: is the process stopped?")
            time.sleep(0.001)
        self.plan.require_started()

    def take_names(self) -> bool:
        """Functions have their names from the plan, threads from the agent: there is no log."""
        if self.flight is not None and self.plan is not None and not self._told:
            self._told = True
            names = [(1, module.id, 0, module.name, "") for module in self.plan.modules]
            names += [(2, module.function_id(one), 0, one.name, "") for module in self.plan.modules for one in module.chosen]
            self.flight.named(self.source, names, 1 << 63)
        return False

    def name_everything(self, plan: plans.Plan) -> None:
        """Every function of the plan into the manifest, so that a killed recorder leaves no nameless records."""
        self.plan = plan
        values = self.manifest.values
        for module in plan.modules:
            values["modules"].append(_module(module))
            values["symbols"] += [_symbol(module, one) for one in module.chosen if not one.role]

    def write_manifest(self, status: str) -> None:
        if self.plan is not None:
            self._note_plan(self.plan)
        super().write_manifest(status)

    def _note_plan(self, plan: plans.Plan) -> None:
        values = self.manifest.values
        biases = plan.images["load_bias"].tolist()
        for entry, bias in zip(values["modules"], biases, strict=False):
            entry["base_address"] = f"0x{bias:x}"
        native = values.setdefault("native", {})
        native.update(plan.counts())
        native.update({name: plan.value(name) for name in ("threads_stopped", "stop_ns", "setup_ns", "skipped", "orphans")})
        if plan.state in (plans.ACTIVE, plans.DETACHED):
            native["not_hooked"] = [[module.id, name, why] for module, name, why in plan.refused()]

    def keep_what_occurs(self) -> None:
        """The manifest lists the functions that occur in the files, with line numbers where the program has them."""
        assert self.plan is not None
        seen = _occurring(self.manifest.path)
        values = self.manifest.values
        symbols = [symbol for symbol in values["symbols"] if int(symbol["function_id"], 16) in seen]
        for module in self.plan.modules:
            mine = [symbol for symbol in symbols if symbol["module_id"] == module.id]
            if mine:
                addresses = {one.number: one.vaddr for one in module.chosen}
                places = Lines(module.file).of([addresses[symbol["symbol_index"]] for symbol in mine])
                for symbol in mine:
                    place = places.get(addresses[symbol["symbol_index"]])
                    if place is not None:
                        symbol["file"], symbol["line"] = place
        values["symbols"] = symbols
        self.manifest.write()


def _module(module: Module) -> dict[str, Any]:
    return {
        "module_id": module.id,
        "name": module.name,
        "path": module.path,
        "base_address": "0x0",
        "size": module.size,
        "uuid": module.build_id.hex(),
    }


def _symbol(module: Module, one: Chosen) -> dict[str, Any]:
    symbol = {
        "function_id": f"0x{module.function_id(one):016x}",
        "module_id": module.id,
        "symbol_index": one.number,
        "name": one.name,
        "address": f"0x{one.vaddr:x}",
    }
    if one.linkage != one.name:
        symbol["linkage_name"] = one.linkage
    return symbol


def _occurring(path: str) -> set[int]:
    """Function ids in the index files of a process."""
    event = np.dtype([("timestamp_ns", "<u8"), ("function_id", "<u8"), ("rest", "<u4", 4)])
    found: set[int] = set()
    for place in os.scandir(path):
        index = os.path.join(place.path, "index.atf")
        if not place.name.startswith("thread_") or not os.path.exists(index):
            continue
        count = (os.path.getsize(index) - 64) // 32
        if count <= 0:
            continue
        events = np.memmap(index, event, "r", 64, (count,))
        for first in range(0, count, 1 << 20):
            found.update(np.unique(events["function_id"][first : first + (1 << 20)]).tolist())
    return found
