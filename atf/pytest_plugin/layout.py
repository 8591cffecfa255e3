"""Where traces lie: DIR/RUN/[WORKER/]TEST, DIR/latest, and RUN/index.jsonl with one line for each kept trace.

Nothing is made before the first trace is kept. Workers append to the same index: one write a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from typing import Any

INDEX = "index.jsonl"
LONGEST = 255


def new_run_id() -> str:
    """Sorts by time."""
    now = time.time()
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}.{int(now % 1 * 1000):03}-{os.getpid()}"


def slug(nodeid: str, attempt: int = 1) -> str:
    """A file name for an attempt of a test, at most 255 characters."""
    name = re.sub(r"[^A-Za-z0-9._=-]+", "-", nodeid).strip("-.") or "test"
    if attempt > 1:
        name += f".attempt-{attempt}"
    if len(name) > LONGEST:
        name = f"{name[:100]}-{hashlib.sha256(nodeid.encode()).hexdigest()[:7]}-{name[-100:]}"
    return name


class Run:
    """The traces of one run of pytest, all its workers together."""

    def __init__(self, directory: str, run_id: str, worker: str = ""):
        self.base = directory
        self.id = run_id
        self.directory = os.path.join(directory, run_id)
        self.worker = worker
        self._names: dict[str, str] = {}
        self._opened = False

    def place(self, nodeid: str, attempt: int) -> str:
        """Where this attempt's trace belongs. The same every time, and never another one's."""
        name = slug(nodeid, attempt)
        if self._names.setdefault(name, nodeid) != nodeid:
            name = f"{name[:240]}-{hashlib.sha256(nodeid.encode()).hexdigest()[:7]}"
            self._names[name] = nodeid
        return os.path.join(self.directory, self.worker, name)

    def open(self) -> None:
        """Make the directory, once, and let ``latest`` lead to it."""
        if self._opened:
            return
        self._opened = True
        if os.path.isdir(self.directory):
            return
        os.makedirs(self.directory, exist_ok=True)
        link = os.path.join(self.base, f".latest-{os.getpid()}")
        try:
            os.symlink(self.id, link)
            os.replace(link, os.path.join(self.base, "latest"))
        except OSError:  # no links here, or a directory of that name: the run is found by its own name
            if os.path.islink(link):
                os.unlink(link)

    def add(self, entry: dict[str, Any]) -> None:
        """One line of the index, whole or not at all."""
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
        path, flags = os.path.join(self.directory, INDEX), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o666)
        except FileNotFoundError:  # another run has removed what it took for an empty directory
            os.makedirs(self.directory, exist_ok=True)
            handle = os.open(path, flags, 0o666)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def entries(self) -> list[dict[str, Any]]:
        return read_index(self.directory)


def read_index(run: str) -> list[dict[str, Any]]:
    """The kept traces of a run whose directories are there; ``trace`` is the path. Lines that are cut are left out."""
    found: dict[str, dict[str, Any]] = {}
    try:
        with open(os.path.join(run, INDEX), encoding="utf-8") as file:
            lines = file.readlines()
    except OSError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
            path = os.path.join(run, entry["path"])
        except (ValueError, KeyError, TypeError):
            continue
        if os.path.isdir(path):
            found[path] = {**entry, "trace": path}
    return list(found.values())


def runs(base: str) -> list[str]:
    """The runs below a directory, the newest first."""
    try:
        names = [entry.name for entry in os.scandir(base) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [os.path.join(base, name) for name in sorted(names, reverse=True) if os.path.exists(os.path.join(base, name, INDEX))]


def prune(base: str, most: int) -> int:
    """Keep the newest traces, over all runs. Only what an index lists is ever removed, and the index of a run stays as it is
    while one of its traces is there: other processes may be appending to it. Returns how many went."""
    if not most:
        return 0
    left, gone = most, 0
    for run in runs(base):
        entries = read_index(run)
        stay = entries[max(len(entries) - left, 0) :]
        left -= len(stay)
        if len(stay) == len(entries):
            continue
        for entry in entries[: len(entries) - len(stay)]:
            shutil.rmtree(entry["trace"], ignore_errors=True)
            gone += 1
        if not stay:
            os.unlink(os.path.join(run, INDEX))
            _remove_empty(run)
    return gone


def _remove_empty(run: str) -> None:
    """A run's directory and its workers', when nothing is in them."""
    for entry in [entry.path for entry in os.scandir(run) if entry.is_dir(follow_symlinks=False)] + [run]:
        try:
            os.rmdir(entry)
        except OSError:
            pass
