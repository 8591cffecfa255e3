"""trace.info: what a recording is, from headers, footers and the manifest alone: the size of the trace does not matter."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from atf.metrics import together
from atf.query.context import Context
from atf.query.live import counted
from atf.query.params import Params, Result, camel
from atf.query.rpc import Method
from atf.query.samples import Samples, samples_of
from atf.query.traces import View


class InfoParams(Params):
    trace_id: str
    include_checksums: bool = False
    include_samples: bool = False


class Files(Result):
    manifest_size: int
    events_size: int
    details_size: int
    total_size: int
    avg_event_size: int


class Checksums(Result):
    manifest_md5: str
    events_md5: str


class ThreadInfo(Result):
    id: int
    tid: int
    pid: int
    name: str
    events: int
    lost: int
    metrics: dict[str, Any] | UnsetType = UNSET


class Window(Result):
    """A stretch that the flight recorder kept. mark_ns: of its first mark, of `marks`; trigger: as it was asked for. complete: all of it
    is in the files. pre_roll_sec null: as far back as there was memory for."""

    start_ns: int
    end_ns: int
    trigger_kind: str
    trigger: str
    mark_ns: int
    marks: int
    pre_roll_sec: float | None
    post_roll_sec: float
    policy_version: int
    complete: bool


class Info(Result):
    """lost: {reason: events}; null: the manifest does not say, and too many events would have to be read to count them.

    metrics: what the recorder counted, while it records what it counts now; left out where nobody counted.
    """

    trace_id: str
    os: str
    arch: str
    time_start_ns: int | None
    time_end_ns: int | None
    duration_ns: int | None
    event_count: int
    span_count: int | None
    files: Files
    thread_count: int
    processes: list[dict[str, Any]]
    threads: list[ThreadInfo]
    status: str
    growing: bool
    lost: dict[str, int] | None
    windows: list[Window]
    recovered: dict[str, Any]
    metrics: dict[str, Any] | UnsetType = UNSET
    checksums: Checksums | UnsetType = UNSET
    samples: Samples | UnsetType = UNSET


_WHO = {"pid", "number", "tid", "name"}
_OS = {1: "windows", 2: "freebsd", 3: "macos", 4: "linux"}
_ARCH = {1: "x86_64", 2: "aarch64"}


def run(context: Context, params: InfoParams) -> Info:
    view = context.traces.view(params.trace_id)
    info, trace = view.info, view.trace
    sizes = info["files"]
    first = trace.threads[0].index if trace.threads else None
    result = Info(
        trace_id=view.id,
        os=_OS.get(first.os, "unknown") if first else "unknown",
        arch=_ARCH.get(first.arch, "unknown") if first else "unknown",
        time_start_ns=info["time_start_ns"],
        time_end_ns=info["time_end_ns"],
        duration_ns=info["duration_ns"],
        event_count=info["events"],
        span_count=len(spans) if (spans := view.derived.get("spanset")) is not None else info["spans"],
        files=Files(
            manifest_size=sizes["manifest_bytes"],
            events_size=sizes["index_bytes"],
            details_size=sizes["detail_bytes"],
            total_size=sum(sizes.values()),
            avg_event_size=sizes["index_bytes"] // max(1, info["events"]),
        ),
        thread_count=info["threads"],
        processes=[_on_the_wire(process) for process in info["processes"]],
        threads=[
            ThreadInfo(id=t.number, tid=t.tid, pid=t.process.pid, name=t.name, events=len(t.index), lost=t.lost) for t in trace.threads
        ],
        status=info["status"],
        growing=view.growing,
        lost=info["lost"],
        windows=_windows(view),
        recovered=_on_the_wire(info["recovered"], view.path),
    )
    _count(result, view)
    if params.include_samples:
        result.samples = view.once("samples", lambda view: samples_of(view, context.check))
    if params.include_checksums:
        result.checksums = view.once("checksums", lambda view: _checksums(context, view))
    return result


def _windows(view: View) -> list[Window]:
    """In order, each once: the manifest of every process of a session lists them, as far as they had come when it was written."""
    found: dict[tuple[int, int], Window] = {}
    for process in view.trace.processes:
        rows = process.manifest.data.get("windows")
        for row in rows if isinstance(rows, list) else []:
            try:
                one = msgspec.convert(row, Window)
            except msgspec.ValidationError:
                continue  # a manifest may hold anything
            known = found.get((one.policy_version, one.mark_ns))
            if known is None or (one.complete, one.end_ns, one.marks) > (known.complete, known.end_ns, known.marks):
                found[one.policy_version, one.mark_ns] = one
    return sorted(found.values(), key=lambda one: (one.start_ns, one.end_ns))


def _count(result: Info, view: View) -> None:
    """Numbers from the recorder while it runs, else from the manifests. A manifest may hold anything."""
    now = counted(view.path) if view.growing else None
    by_thread: dict[tuple[int, int], dict[str, Any]] = {}
    if now is not None:
        by_thread = {(row["pid"], row["number"]): row for row in now.pop("threads")}
    else:
        for process in view.trace.processes:
            for number, row in process.manifest.threads.items():
                if isinstance(said := row.get("metrics"), dict):
                    by_thread[process.pid, number] = said
        said = [m for process in view.trace.processes if isinstance(m := process.manifest.data.get("metrics"), dict)]
        if said:
            now = together(said)
    for thread in result.threads:
        if (thread.pid, thread.id) in by_thread:
            thread.metrics = {camel(name): value for name, value in by_thread[thread.pid, thread.id].items() if name not in _WHO}
    if now is not None:
        result.metrics = {camel(name): value for name, value in now.items() if name != "path"}


def _on_the_wire(value: Any, root: Path | None = None) -> Any:
    """The value with names as the contract spells them, and files as they are called below `root`."""
    if isinstance(value, dict):
        return {
            camel(name): os.path.relpath(inner, root) if name == "file" and root else _on_the_wire(inner, root) for name, inner in value.items()
        }
    return [_on_the_wire(inner, root) for inner in value] if isinstance(value, list) else value


def _checksums(context: Context, view: View) -> Checksums:
    def md5(paths: list[Path]) -> str:
        total = hashlib.md5(usedforsecurity=False)
        for path in paths:
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    total.update(block)
                    context.check("leave out includeChecksums: it reads every byte of the trace")
        return total.hexdigest()

    manifests = [path for p in view.trace.processes if (path := p.place / "manifest.json").exists()]
    return Checksums(manifest_md5=md5(manifests), events_md5=md5([Path(t.index.path) for t in view.trace.threads]))


METHODS = [Method("trace.info", InfoParams, Info, run, "What a recording is: times, counts, threads, files, what was lost.")]
