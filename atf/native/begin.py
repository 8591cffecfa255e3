"""Segments, plan and announcement of a natively recorded process."""

from __future__ import annotations

import os
from collections.abc import Callable

from atf import runtime
from atf._core import segment
from atf.gather import Gatherer
from atf.native.choice import Module
from atf.native.details import Details
from atf.native.place import Place, same_space
from atf.native.plan import SLOW_PATH, Plan
from atf.native.process import NativeProcess
from atf.native.texts import texts_of
from atf.recording import GEOMETRY


def flags_of(config: dict[str, str]) -> int:
    """The plan's flags for what the user chose."""
    return SLOW_PATH if config.get("slow_path") == "1" else 0


def begin(
    gatherer: Gatherer,
    pid: int,
    argv: list[str],
    modules: list[Module],
    config: dict[str, str],
    flags: int = 0,
    place: Place | None = None,
    kind: Callable[..., NativeProcess] = NativeProcess,
) -> NativeProcess:
    """Make everything that the agent of process ``pid`` will need, and begin to drain. SegmentError, OutputError.

    place: where a process finds its plan that is not like ours. kind: of process in the recorder's hands.
    """
    assert gatherer.session
    details = Details.of(config)
    texts = texts_of(modules) if details.strings else {}
    options = {key: int(config[key]) for key in GEOMETRY if config.get(key)}
    segments = segment.SegmentSet.create(options=options, pid=pid, policy=config.get("policy", "drop-oldest"))
    file = os.path.join(gatherer.session, f"{pid}-{segments.ids[0]}.process")
    try:
        directory = place.outside if place else gatherer.session
        path = os.path.join(directory, f"{pid}-{segments.ids[0]}.plan")
        plan = Plan(path, modules, segments.ids, flags | flags_of(config), details, texts)
        if place and place.foreign:
            segments.give_to(place.user)
            place.give(plan.path)
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
        if same_space(pid, "ipc"):
            runtime.write(file, values)
            values = {**runtime.read(file), "file": file}
        # Else nobody could take its segments up after us: their ids mean others elsewhere.
        process = gatherer.take_in(values, segments, kind=kind)
    except BaseException:
        segments.remove()
        segments.detach()
        raise
    process.details = details
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
