"""traces.list: which recordings there are below the root, the newest first."""

from __future__ import annotations

import os
import re
import shlex
import zlib
from bisect import bisect_right
from collections import OrderedDict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from msgspec import UNSET, UnsetType

from atf.errors import AtfError
from atf.query.context import Context
from atf.query.pages import Limit, Metadata, Offset, Shape, fit_columns, invalid, make_cursor, query_of, read_cursor
from atf.query.params import Params, Result, camel
from atf.query.rpc import Method, RpcError
from atf.query.traces import Traces, signature_of

METADATA_BYTES = 1024
KEY_LENGTH = 6
_PART = re.compile(r"part_\d+")
_NAME_BYTES = 32  # of a name in a key, as four numbers
_PROCESSES, _COMMAND_LENGTH, _PROBLEMS, _PROBLEM_LENGTH = 50, 200, 3, 300
_KEPT = 4096  # rows kept beside a root


class TracesListParams(Params):
    offset: Offset = 0
    limit: Limit = 100
    cursor: str | None = None
    shape: Shape = "rows"


class ProcessRow(Result):
    """traceId: of this process alone."""

    trace_id: str
    process_id: int
    status: str
    command: str


class PartRow(Result):
    """number: from 1; of: the highest there is. previous, next: traceIds of its neighbours, null where there is none (any more)."""

    number: int
    of: int
    previous: str | None
    next: str | None


class TraceRow(Result):
    """status: recording, interrupted, unknown, recovered, complete; damaged: nothing of it can be read. modified: of its manifests, UTC.

    durationNs: null without events. processes: the first 50. problems: what of it could not be read. part: of a long recording that
    was written in parts.
    """

    trace_id: str
    status: str
    modified: str
    time_start_ns: int | None
    duration_ns: int | None
    event_count: int
    thread_count: int
    process_count: int
    size_bytes: int
    processes: list[ProcessRow]
    growing: bool
    problems: list[str] | UnsetType = UNSET
    part: PartRow | UnsetType = UNSET


class TracesList(Result):
    traces: list[TraceRow] | dict[str, list[Any]]
    metadata: Metadata


class Entry(NamedTuple):
    """A trace before it is opened. key: rises from the newest to the oldest, no two are the same."""

    key: tuple[int, ...]
    trace_id: str
    modified_ns: int


def _modified_ns(place: Path) -> int:
    """When the session, a process directory of it, or a manifest changed last."""
    newest = os.stat(place).st_mtime_ns
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name == "manifest.json":
                newest = max(newest, entry.stat().st_mtime_ns)
            elif entry.name.startswith("pid_") and entry.is_dir():
                newest = max(newest, entry.stat().st_mtime_ns)
                try:
                    newest = max(newest, os.stat(os.path.join(entry.path, "manifest.json")).st_mtime_ns)
                except OSError:
                    continue
    return max(0, newest)


def _entries(context: Context) -> list[Entry]:
    found = []
    for trace_id in context.traces.ids():
        context.check("remove recordings that nobody needs")
        place = context.traces.root / trace_id
        try:
            if place.is_symlink():
                place = context.traces.place(trace_id)  # one that leaves the root is none of ours
            modified_ns = _modified_ns(place)
        except (OSError, RpcError):
            continue
        name = trace_id.encode()
        shown = name[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
        parts = [(1 << 64) - 1 - int.from_bytes(shown[at : at + 8], "big") for at in range(0, _NAME_BYTES, 8)]
        found.append(Entry(((1 << 64) - 1 - modified_ns, *parts, zlib.crc32(name)), trace_id, modified_ns))
    return sorted(found)


_kept: WeakKeyDictionary[Traces, OrderedDict[tuple[str, Any], TraceRow]] = WeakKeyDictionary()


def _row(traces: Traces, entry: Entry) -> TraceRow:
    """The row of a trace; read again only when its files changed."""
    kept = _kept.setdefault(traces, OrderedDict())
    place = traces.root / entry.trace_id
    key = (entry.trace_id, signature_of(place))
    row = kept.get(key)
    if row is None or row.growing:  # whether its process still lives is not in the files
        row = kept[key] = _read(place, entry)
        while len(kept) > _KEPT:
            kept.popitem(last=False)
    return row


def _read(place: Path, entry: Entry) -> TraceRow:
    from atf.trace import open_trace

    modified = datetime.fromtimestamp(entry.modified_ns // 10**9, timezone.utc).isoformat().replace("+00:00", "Z")
    row = TraceRow(
        trace_id=entry.trace_id,
        status="damaged",
        modified=modified,
        time_start_ns=None,
        duration_ns=None,
        event_count=0,
        thread_count=0,
        process_count=0,
        size_bytes=0,
        processes=[],
        growing=False,
    )
    try:
        with open_trace(place) as trace:
            times = trace.times
            row.status, row.growing = trace.status, trace.status == "recording"
            if times:
                row.time_start_ns, row.duration_ns = times[0], max(0, times[1] - times[0])
            row.event_count, row.thread_count = sum(len(t.index) for t in trace.threads), len(trace.threads)
            row.process_count = len(trace.processes)
            row.size_bytes = sum(p.manifest.size_bytes for p in trace.processes) + sum(
                t.index.size_bytes + _size(t.place / "detail.atf") for t in trace.threads
            )
            row.processes = [
                ProcessRow(
                    trace_id=entry.trace_id if p.place == place else f"{entry.trace_id}/{p.place.name}",
                    process_id=p.pid,
                    status=p.status,
                    command=_command(p.manifest.data.get("argv")),
                )
                for p in trace.processes[:_PROCESSES]
            ]
            problems = [f"pid {p.pid}: {problem}" for p in trace.processes for problem in p.problems]
    except (AtfError, OSError) as why:
        problems = [str(why)]
    if problems:
        more = [f"and {len(problems) - _PROBLEMS} more: trace.info has them"] if len(problems) > _PROBLEMS else []
        row.problems = [problem[:_PROBLEM_LENGTH] for problem in problems[:_PROBLEMS]] + more
    return row


def _parts_of(entries: list[Entry]) -> dict[str, list[str]]:
    """By session: its parts, in order."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        session, _, name = entry.trace_id.rpartition("/")
        if session and _PART.fullmatch(name):
            found.setdefault(session, []).append(entry.trace_id)
    return {session: sorted(parts, key=_number) for session, parts in found.items()}


def _number(trace_id: str) -> int:
    return int(trace_id.rpartition("_")[2])


def _part(trace_id: str, parts: dict[str, list[str]]) -> PartRow | UnsetType:
    """Its place among the parts of its session, which others may have joined or left since its row was made."""
    mine = parts.get(trace_id.rpartition("/")[0], [])
    if trace_id not in mine:
        return UNSET
    at = mine.index(trace_id)
    before, after = mine[at - 1] if at else None, mine[at + 1] if at + 1 < len(mine) else None
    return PartRow(number=_number(trace_id), of=_number(mine[-1]), previous=before, next=after)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _command(argv: Any) -> str:
    words = shlex.join(str(word) for word in argv) if isinstance(argv, list) else ""
    return words if len(words) <= _COMMAND_LENGTH else words[: _COMMAND_LENGTH - 1] + "…"


def run(context: Context, params: TracesListParams) -> TracesList:
    if params.cursor is not None and params.offset:
        raise invalid("offset", "was given beside cursor", "give one of the two")
    key = None if params.cursor is None else read_cursor(params.cursor, query_of(params), KEY_LENGTH)
    entries = _entries(context)
    start = params.offset if key is None else bisect_right([entry.key for entry in entries], key)
    wanted = entries[start : start + params.limit]
    rows: list[TraceRow] = []
    parts = _parts_of(entries)

    def columns(count: int) -> dict[str, list[Any]]:
        for entry in wanted[len(rows) : count]:
            context.check("set a smaller limit")
            row = _row(context.traces, entry)
            row.part = _part(entry.trace_id, parts)
            rows.append(row)
        return {camel(name): [getattr(row, name) for row in rows[:count]] for name in TraceRow.__struct_fields__}

    content, count = fit_columns(columns, len(wanted), params.shape, context.answer_bytes - METADATA_BYTES)
    more = count > 0 and start + count < len(entries)
    metadata = Metadata(
        total_count=len(entries),
        returned_count=count,
        offset=None if params.cursor is not None else params.offset,
        limit=params.limit,
        has_more=more,
        execution_time_ms=context.elapsed_ms,
    )
    if more:
        metadata.next_cursor = make_cursor(query_of(params), entries[start + count - 1].key)
        metadata.did_truncate = True if count < params.limit else UNSET
    return TracesList(traces=content, metadata=metadata)


METHODS = [
    Method("traces.list", TracesListParams, TracesList, run, "The recordings that can be asked about, the newest first: what, when, how large.")
]
