"""What events are called on the wire, and the filters that choose them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from atf._core.merge import distinct_functions
from atf._core.pages import Filter
from atf.query.pages import invalid
from atf.query.params import Params
from atf.query.rpc import RpcError
from atf.trace_filters import LAST_NS, glob

if TYPE_CHECKING:
    from atf.query.traces import View
    from atf.trace_files import Process, Thread
    from atf.trace_manifest import Function

CALL, GAP = 1, 8
TYPES = {
    1: "FunctionCall", 2: "FunctionReturn", 3: "Exception", 4: "Instant", 5: "Yield", 6: "Resume",
    7: "SignalDelivery", GAP: "Gap",
}
UNKNOWN = "Unknown"
_ALL_KINDS = 0xFFFFFFFF
_MASKS = {
    **{name.lower(): 1 << kind for kind, name in TYPES.items()},
    "call": 1 << 1, "return": 1 << 2, "signal": 1 << 7,
    "tracestart": 0, "traceend": 0,  # of traces of an older kind: there are none in these files
    "unknown": _ALL_KINDS & ~sum(1 << kind for kind in TYPES),
}
_SPELLED = ["functionCall", "functionReturn", "exception", "instant", "yield", "resume", "signalDelivery", "gap", "unknown"]
Time = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class EventFilters(Params):
    """What events must be; all of it. timeStartNs, timeEndNs: inclusive, CLOCK_BOOTTIME nanoseconds. threadIds: the operating system's.

    eventTypes: functionCall, functionReturn, exception, instant, yield, resume, signalDelivery, gap, unknown (traceStart and traceEnd
    are known words that no event has), in any case. functionNames: exact, `name` or `module.name`; pattern: a glob of either;
    moduleNames: exact.
    """

    time_start_ns: Time | None = None
    time_end_ns: Time | None = None
    thread_ids: list[int] | None = None
    event_types: list[str] | None = None
    function_names: list[str] | None = None
    pattern: str | None = None
    module_names: list[str] | None = None

    def window(self) -> tuple[int, int]:
        return self.time_start_ns or 0, LAST_NS if self.time_end_ns is None else self.time_end_ns


def kinds_of(types: Sequence[str] | None) -> int:
    """The mask of kinds of event types; RpcError -32602 for a word that is none."""
    if types is None:
        return _ALL_KINDS
    mask = 0
    for at, word in enumerate(types):
        plain = word.lower().replace("_", "")
        if plain not in _MASKS:
            raise _no_type(at, word)
        mask |= _MASKS[plain]
    return mask


def _no_type(at: int, word: str) -> RpcError:
    error = invalid(f"filters.eventTypes[{at}]", f"{word[:60]!r} is no event type", f"known: {', '.join(_SPELLED)}")
    near = difflib.get_close_matches(word.lower(), list(_MASKS), 3)
    if near:
        error.data["didYouMean"] = [one for one in _SPELLED if one.lower() in near] or near
    return error


def events_of(view: View, filters: EventFilters, check: Callable[[], Any]) -> tuple[list[Thread], Filter | None]:
    """(the threads in which something may pass, what passes there), but for time. None: everything."""
    kinds, ids = kinds_of(filters.event_types), _ids(view, filters, check)
    if ids is not None:
        kinds &= ~(1 << GAP)  # a gap's function id is a number of events
    wanted = None if filters.thread_ids is None else set(filters.thread_ids)
    threads = [
        t
        for t in view.trace.threads
        if kinds and (wanted is None or t.tid in wanted) and (ids is None or ids[t.process.position])
    ]
    return threads, None if ids is None and kinds == _ALL_KINDS else Filter(kinds, ids)


def _ids(view: View, filters: EventFilters, check: Callable[[], Any]) -> list[list[int]] | None:
    """The ids whose names fit, process by process."""
    names, pattern, modules = filters.function_names, filters.pattern, filters.module_names
    if names is None and pattern is None and modules is None:
        return None
    exact, fits = None if names is None else set(names), glob("pattern", pattern)
    inside = None if modules is None else set(modules)

    def passes(f: Function) -> bool:
        return (
            (exact is None or f.name in exact or f.qualified in exact)
            and (fits(f.name) or fits(f.qualified))
            and (inside is None or f.module in inside)
        )

    # Ids that the manifest does not name are shown as `module:0x…`: they are looked for where that could be meant.
    unnamed = exact is None or any(":0x" in name for name in exact)
    found = []
    for process in view.trace.processes:
        ids = [f.id for f in process.manifest.functions.values() if passes(f)]
        if unnamed:
            ids += [id for id in _unnamed(view, process, check) if passes(process.function(id))]
        found.append(ids)
    return found


def _unnamed(view: View, process: Process, check: Callable[[], Any]) -> list[int]:
    """Ids that occur in the events of a process and have no name in its manifest."""

    def look(view: View) -> list[int]:
        found: set[int] = set()
        for thread in process.threads:
            check()
            found.update(distinct_functions([thread.events]).tolist())
        return sorted(found - set(process.manifest.functions))

    made: list[int] = view.once(("events.unnamed", process.position), look)
    return made
