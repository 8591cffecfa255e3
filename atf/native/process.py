"""A natively recorded process in the recorder's hands: its plan, its names, how its agent is."""

from __future__ import annotations

import os
import time
from typing import Any

from atf._core import segment
from atf._core.errors import InjectionError, TargetGone
from atf.native import injector
from atf.native import plan as plans
from atf.native.choice import FIRST_MODULE, Module
from atf.native.demangle import demangle, qualified
from atf.native.details import Details
from atf.native.names import Places, module_entry, name_entries, occurring, symbol_entry
from atf.native.places import name_places, returns_of
from atf.native.signatures import CHANGED, Signatures
from atf.recorded import Process

LEAVE_S = 10.0


class NativeProcess(Process):
    """A process whose agent works by a plan."""

    plan: plans.Plan | None = None
    _told = False
    details = Details()

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
                why = "is it stopped, or may its user not read the agent's file?"
                raise InjectionError(f"the agent did not answer in process {self.pid} within {seconds:.0f} s: {why}")
            time.sleep(0.001)
        self.plan.require_started()

    def take_hooks_out(self, agent: str) -> None:
        """Its code is itself again afterwards. InjectionError when it is not, and what entering the process raises. agent: its path there."""
        assert self.plan is not None
        injector.leave(self.pid, agent)
        until = time.monotonic() + LEAVE_S  # whoever enters a process is back before what it does there is over
        while self.plan.state == plans.ACTIVE and time.monotonic() < until:
            if self.plan.value("error") or not segment.alive(self.pid, self.start):
                break
            time.sleep(0.001)
        if self.plan.state == plans.ACTIVE and segment.alive(self.pid, self.start):
            why = plans.ERRORS.get(self.plan.value("error"), f"no answer within {LEAVE_S:.0f} s")
            raise InjectionError(f"{why}; attach for a moment to take them out")

    def take_names(self) -> bool:
        """Functions have their names from the plan, threads from the agent: there is no log."""
        if self.flight is not None and self.plan is not None and not self._told:
            self._told = True
            self.flight.named(self.source, name_entries(self.plan.modules), 1 << 63)
        return False

    def name_everything(self, plan: plans.Plan) -> None:
        """Every function of the plan into the manifest, so that a killed recorder leaves no nameless records."""
        self.plan = plan
        values = self.manifest.values
        for module in plan.modules:
            values["modules"].append(module_entry(module))
            values["symbols"] += [symbol_entry(module, one) for one in module.chosen if not one.role]

    def write_manifest(self, status: str) -> None:
        if self.plan is not None:
            self._note_plan(self.plan)
        super().write_manifest(status)

    def last_part(self) -> None:
        """The manifest names what occurs when the recording is over."""

    def _note_plan(self, plan: plans.Plan) -> None:
        values = self.manifest.values
        biases = {module.id: bias for module, bias in zip(plan.modules, plan.images["load_bias"].tolist(), strict=True)}
        for entry in values["modules"]:
            if entry["module_id"] in biases:
                entry["base_address"] = f"0x{biases[entry['module_id']]:x}"
        native = values.setdefault("native", {})
        native["plan"] = os.path.basename(plan.path)
        native.update(plan.counts())
        native["ways"] = plan.ways()
        native.update({name: plan.value(name) for name in ("threads_stopped", "stop_ns", "setup_ns", "skipped", "orphans")})
        if self.details.min_duration_ns:
            native["min_duration_ns"], native["filtered"] = self.details.min_duration_ns, plan.value("filtered")
        if plan.state in (plans.ACTIVE, plans.DETACHED):
            native["not_hooked"] = [[module.id, name, why] for module, name, why in plan.refused()]

    def keep_what_occurs(self, places: Places | None = None) -> None:
        """The manifest lists the native functions that occur in the files, with line numbers where the program has them."""
        assert self.plan is not None
        seen = occurring(self.manifest.path)
        values = self.manifest.values
        symbols = [symbol for symbol in values["symbols"] if symbol["module_id"] < FIRST_MODULE or int(symbol["function_id"], 16) in seen]
        values["symbols"] = symbols
        (places or Places()).fill(self.plan.modules, symbols)
        for module in self.plan.modules if self.details.args else ():
            self._note_signatures(module, [symbol for symbol in symbols if symbol["module_id"] == module.id])
        if self.details.backtrace:
            self._note_places(self.plan)
        self.manifest.write()

    def _note_signatures(self, module: Module, symbols: list[dict[str, Any]]) -> None:
        linkage = {symbol["function_id"]: symbol.get("linkage_name", symbol["name"]) for symbol in symbols}
        addresses = {int(one["address"], 16): one for one in symbols if not any(part in linkage[one["function_id"]] for part in CHANGED)}
        for address, signature in Signatures(module.file).of(addresses).items():
            addresses[address].update(signature)

    def _note_places(self, plan: plans.Plan) -> None:
        files = (os.path.join(place.path, "detail.atf") for place in os.scandir(self.manifest.path) if place.name.startswith("thread_"))
        loaded = zip(plan.modules, plan.images["load_bias"].tolist(), strict=True)
        self.manifest.values["return_places"] = name_places(returns_of(files), list(loaded), lambda name: qualified(demangle(name)))
