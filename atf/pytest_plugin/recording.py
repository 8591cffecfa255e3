"""The recording of this process: one for the whole run, and another one only around tests whose markers ask for something else."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import pytest

from atf._core.errors import AtfError
from atf.pytest_plugin import filters
from atf.pytest_plugin.options import Settings


class Plan(NamedTuple):
    """What makes two recordings different."""

    level: str
    include: tuple[str, ...] | None
    exclude: tuple[str, ...]
    ring: str | None


def plan_of(settings: Settings) -> Plan:
    return Plan(settings.level, settings.include, settings.exclude, settings.ring)


class Recorder:
    """Switched between plans at the beginning of tests; None records nothing."""

    def __init__(self, root: str):
        self.root = root
        self.plan: Plan | None = None
        self.slices: Any = None
        self._origin = self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that the run began in."""
        return os.getpid() != self._origin

    def switch(self, plan: Plan | None) -> None:
        """Record by this plan from now on. Raises pytest.UsageError when that cannot be."""
        if os.getpid() != self._pid:
            self._pid, self.slices, self.plan = os.getpid(), None, None  # what there was is the parent's
        if plan == self.plan:
            return
        self.end()
        if plan is None:
            return
        from atf.slices import Slices

        slices = Slices(None, self.config(plan))
        try:
            slices.begin()
        except (AtfError, OSError) as error:
            raise pytest.UsageError(f"atf cannot record here: {error}") from error
        self.slices, self.plan = slices, plan

    def config(self, plan: Plan) -> dict[str, Any]:
        return {
            "level": plan.level,
            "include": plan.include or (),
            "exclude": filters.excluded(self.root, plan.include, plan.exclude),
            "ring_size": plan.ring,
        }

    def end(self) -> None:
        """Hooks out, segments removed."""
        slices, self.slices, self.plan = self.slices, None, None
        if slices is not None:
            slices.end()
