"""What becomes of a test's stretch of the rings: a trace directory that stays, or a short-lived one to look into."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from atf.pytest_plugin.layout import Run
    from atf.pytest_plugin.windows import Attempt


class Keeper:
    """Writes kept attempts of one process into its run."""

    def __init__(self, config: pytest.Config, run: Run, most: int):
        self.run, self.most = run, most
        self.places: list[str] = []
        self.dropped = 0
        self._about = about(config, run)

    def keep(self, slices: Any, attempt: Attempt, end_ns: int) -> Any:
        """Write [start, end_ns] of an attempt; what was written of it before is replaced. Returns Kept."""
        path = self.run.place(attempt.item.nodeid, attempt.number)
        self.run.open()
        fresh = f"{path}.{os.getpid()}.new" if os.path.exists(path) else path
        kept = slices.keep(fresh, attempt.start_ns, end_ns, note={**self._about, **attempt.told()})
        if fresh != path:
            shutil.rmtree(path)
            os.rename(fresh, path)
        attempt.kept = path
        return kept._replace(path=path)

    def settle(self, attempt: Attempt, kept: Any) -> None:
        """The attempt is over and its trace stays: it goes into the index, and the oldest one of this process may have to go."""
        phases = {f"{name}_ns": (part.end_ns or part.start_ns) - part.start_ns - part.shared_ns for name, part in attempt.phases.items()}
        entry = {
            "nodeid": attempt.item.nodeid,
            "attempt": attempt.number,
            "outcome": attempt.outcome,
            "time": time.time(),
            "error": attempt.error,
            "worker": self.run.worker,
            "path": kept.path[len(self.run.directory) + 1 :],
            "events": kept.events,
            "bytes": kept.bytes,
            "overwritten": kept.overwritten,
            **phases,
        }
        self.run.add(entry)
        self.places.append(kept.path)
        while self.most and len(self.places) > self.most:
            shutil.rmtree(self.places.pop(0), ignore_errors=True)

    def drop(self, attempt: Attempt) -> None:
        if attempt.kept:
            shutil.rmtree(attempt.kept, ignore_errors=True)
            attempt.kept = ""


def passing_directory() -> str:
    """For slices that are looked into and removed: in memory where there is such a file system."""
    return tempfile.mkdtemp(prefix="atf-slice-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def about(config: pytest.Config, run: Run) -> dict[str, Any]:
    """What is the same for all tests of a process."""
    told: dict[str, Any] = {"run": run.id, "worker": run.worker, "python": sys.version.split()[0], "argv": [str(arg) for arg in config.invocation_params.args]}
    seed = getattr(config.option, "randomly_seed", None)
    if isinstance(seed, int):
        told["seed"] = seed
    if commit := commit_of(str(config.rootpath)):
        told["commit"] = commit
    return told


def commit_of(root: str) -> str:
    """The commit that is checked out, read from the repository's files; empty when there is none or it is packed away."""
    while not os.path.isdir(git := os.path.join(root, ".git")):
        if os.path.dirname(root) == root:
            return ""
        root = os.path.dirname(root)
    try:
        with open(os.path.join(git, "HEAD"), encoding="ascii") as file:
            head = file.read().strip()
        if not head.startswith("ref: "):
            return head
        with open(os.path.join(git, head[5:]), encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeError):
        return ""


