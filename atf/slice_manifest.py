"""The manifest of a slice: the functions that occur in it and nothing else, put together from text that is made once a function."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from atf._core.errors import UsageError
from atf.manifest import FORMAT_VERSION, filters_of

if TYPE_CHECKING:
    from atf._core.shm import Segments

_dumps = json.JSONEncoder(separators=(",", ":")).encode


class Made(NamedTuple):
    text: bytes
    events: int
    overwritten: int
    lost: dict[str, int]


class Names:
    """The names log of a process as far as it was read: for each id its entry of a manifest, as text."""

    def __init__(self) -> None:
        self._position = 0
        self.modules: dict[int, str] = {}
        self.functions: dict[int, str] = {}

    def take(self, segments: Segments) -> None:
        """Read what was added."""
        self._position, added = segments.names(self._position)
        for kind, identifier, line, name, file in added:
            if kind == 1:
                entry: dict[str, Any] = {"module_id": identifier, "name": name, "path": file, "base_address": "0x0", "size": 0, "uuid": ""}
                self.modules.setdefault(identifier, _dumps(entry))
            else:
                entry = {"function_id": f"0x{identifier:016x}", "module_id": identifier >> 32, "symbol_index": identifier & 0xFFFFFFFF, "name": name}
                if file:
                    entry["file"] = file
                if line:
                    entry["line"] = line
                self.functions.setdefault(identifier, _dumps(entry))

    def of(self, functions: Iterable[int]) -> tuple[str, str]:
        """Entries of these functions' modules, and of the functions, joined by commas."""
        named, modules = self.functions, self.modules
        symbols = [named[one] for one in functions if one in named]
        theirs = {one >> 32 for one in functions}
        return ",".join([modules[one] for one in theirs if one in modules]), ",".join(symbols)


def process(pid: int, parent_pid: int, argv: list[str], python: str | None, config: dict[str, str]) -> dict[str, Any]:
    """What every manifest of a process says of it; ``text`` is the beginning of each."""
    host = os.uname()
    values = {
        "format_version": FORMAT_VERSION,
        "clock_type": 3,
        "os": sys.platform,
        "arch": host.machine,
        "host": host.nodename,
        "pid": pid,
        "parent_pid": parent_pid,
        "argv": argv,
        "python": python,
        "level": config.get("level", "returns"),
        "filters": filters_of(config),
        "exit": None,
        "windows": [],
    }
    return {"pid": pid, "text": _dumps(values)[:-1]}


def _thread_names() -> dict[int, str]:
    return {one.native_id: one.name for one in threading.enumerate() if one.native_id}


def manifest_of(
    threads: list[tuple[Any, ...]],
    functions: list[int],
    process: dict[str, Any],
    names: Names,
    anchors: tuple[int, int],
    status: str,
    said: dict[str, Any],
    note: dict[str, Any] | None,
) -> Made:
    """threads: rows of slicer.Cut.threads. said: stands in it as ``slice``; note: as ``test``."""
    events = overwritten = missing = details_lost = 0
    start_ns, end_ns = (1 << 64) - 1, 0
    rows = []
    alive: dict[int, str] | None = None
    for number, tid, name, entered, n, gaps, details, gone, holes, broken, first_ns, last_ns in threads:
        if not name:
            if process["pid"] == os.getpid():
                alive = _thread_names() if alive is None else alive
                name = alive.get(tid, "")
            name = name or ("MainThread" if tid == process["pid"] else "")
        lost = gone + holes
        by = _dumps({"exhausted": lost}) if lost else "{}"
        rows.append(
            f'{{"id":{number},"has_detail":{"true" if details else "false"},"tid":{tid},"name":{_dumps(name)},"events":{n},"details":{details},'
            f'"lost":{lost},"lost_by":{by},"details_lost":{broken},"entered":{entered},'
            f'"metrics":{{"produced":{n - gaps + lost},"written":{n - gaps},"dropped":{lost},"details_produced":{details + broken},"details":{details},'
            f'"details_dropped":{broken}}}}}'
        )
        events += n
        overwritten += gone
        missing += holes
        details_lost += broken
        start_ns, end_ns = min(start_ns, first_ns), max(end_ns, last_ns)
    lost_by = {"exhausted": overwritten + missing} if overwritten + missing else {}
    modules, symbols = names.of(functions)
    try:
        test = "" if note is None else f',"test":{_dumps(note)}'
    except (TypeError, ValueError) as error:
        raise UsageError(f"note: values that JSON has, not these ({error})") from error
    parts = [
        f'{process["text"]},"status":"{status}","time_start_ns":{min(start_ns, end_ns)},"time_end_ns":{end_ns}',
        f'"clock":{{"anchors":[[{anchors[0]},{anchors[1]}]]}},"lost":{_dumps(lost_by)},"slice":{_dumps({**said, "overwritten": overwritten})}',
        f'"threads":[{",".join(rows)}],"modules":[{modules}],"symbols":[{symbols}]{test}}}',
    ]
    text = ",".join(parts)
    if details_lost:
        lost_by["details"] = details_lost
    return Made(text.encode("ascii"), events, overwritten, lost_by)
