"""Segments, plan and announcement of a natively recorded process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

from atf import runtime
from atf._core import segment
from atf._core.errors import UsageError
from atf.gather import Gatherer
from atf.native.choice import Module
from atf.native.plan import ENTRY_ONLY, Plan
from atf.native.process import NativeProcess
from atf.recording import GEOMETRY


def check_level(level: str) -> int:
    """The plan's flags for a level. UsageError for one that native recording has not."""
    if level not in ("calls", "returns"):
        raise UsageError(f"level {level!r}: native programs are recorded at calls or returns")
    return ENTRY_ONLY if level == "calls" else 0


def begin(
    gatherer: Gatherer,
    pid: int,
    argv: list[str],
    modules: list[Module],
    config: dict[str, str],
    flags: int = 0,
    kind: Callable[..., NativeProcess] = NativeProcess,
) -> NativeProcess:
    """Make everything that the agent of process ``pid`` will need, and begin to drain. SegmentError, OutputError."""
    assert gatherer.session
    options = {key: int(config[key]) for key in GEOMETRY if config.get(key)}
    segments = segment.SegmentSet.create(options=options, pid=pid, policy=config.get("policy", "drop-oldest"))
    file = os.path.join(gatherer.session, f"{pid}-{segments.ids[0]}.process")
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
        foreign = owner != os.geteuid()
        place = tempfile.mkdtemp(prefix="atf-") if foreign else gatherer.session
        plan = Plan(os.path.join(place, f"{pid}-{segments.ids[0]}.plan"), modules, segments.ids, flags | check_level(config.get("level", "returns")))
        if foreign:
            segments.give_to(owner)
            os.chown(plan.path, owner, -1)
            os.chown(place, owner, -1)
        values = {
            "pid": pid,
            "start": segment.process_start(pid),
            "ppid": _parent(pid),
            "segments": ",".join(map(str, segments.ids)),
            "argv": "\x1f".join(argv),
            "executable": modules[0].path,
            "native": "1",
            "plan": os.path.basename(plan.path),
        }
        runtime.write(file, values)
        process = gatherer.take_in({**runtime.read(file), "file": file}, segments, kind=kind)
    except BaseException:
        segments.remove()
        segments.detach()
        raise
    process.name_everything(plan)
    process.write_manifest("recording")
    gatherer.live[file] = process
    return process


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
