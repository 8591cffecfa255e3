"""Whether a window of a trace holds everything that happened in it, and if not, why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atf._core.layout import EARLIER, GAP_REASONS, NOT_KEPT

if TYPE_CHECKING:
    from atf.trace import Trace
    from atf.trace_files import Process, Thread

_GAP = 8


def lost_in(trace: Trace, start_ns: int, end_ns: int) -> str | None:
    """Why records of [start_ns, end_ns) may be missing, as a sentence; None: none are."""
    for process in trace.processes:
        said = _of_process(process, end_ns)
        if said is not None:
            return said
    for thread in trace.threads:
        said = _of_thread(thread, start_ns, end_ns)
        if said is not None:
            return said
    return None


def details_lost(trace: Trace) -> str | None:
    """Whether arguments, messages or attributes were lost, as far as the manifests say."""
    for process in trace.processes:
        for thread in process.threads:
            number = process.manifest.threads.get(thread.number, {}).get("details_lost")
            if isinstance(number, int) and number > 0:
                return f"{number} details (arguments, attributes, messages) of thread {thread.name!r} were lost; a larger ring_size keeps more"
    return None


def _of_process(process: Process, end_ns: int) -> str | None:
    who = f"process {process.pid}"
    status = process.status
    if status == "recording" and any(len(t.index) == 0 or int(t.events[-1]["timestamp_ns"]) < end_ns for t in process.threads):
        return f"{who} is still being recorded, and what it did last may not be written yet"
    if status == "interrupted":
        return f"the recorder of {who} was killed: `atf recover` writes what is left of its events"
    cut = [t for t in process.threads if t.index.report.status == "recovered"]
    if cut or any("was cut" in problem or "not there" in problem for problem in process.problems):
        return f"a file of {who} was cut or damaged; `atf info` says which"
    told = sum((process.lost_said or {}).values())
    counted = sum(t.lost for t in process.threads)
    if told > counted:
        return f"{told - counted} events of {who} were lost outside of every thread's file"
    return None


def _of_thread(thread: Thread, start_ns: int, end_ns: int) -> str | None:
    """A gap stands for records between the event before it and the one behind it."""
    import numpy

    events = thread.events
    for at in numpy.flatnonzero(events["event_kind"] == _GAP).tolist():
        before = int(events[at - 1]["timestamp_ns"]) if at else 0
        behind = int(events[min(at + 1, len(events) - 1)]["timestamp_ns"])
        if before < end_ns and behind >= start_ns:
            return _gap(thread, events[at])
    return None


def _gap(thread: Thread, event: Any) -> str:
    count, reason = int(event["function_id"]), int(event["call_depth"])
    of = f"of thread {thread.name!r}"
    if reason == NOT_KEPT:
        return f"{count} events {of} lay outside of what the flight recorder kept"
    if reason == EARLIER:
        return f"{count} events {of} are in earlier parts of the recording"
    return f"{count} events {of} were lost ({GAP_REASONS.get(reason, f'reason {reason}')}); a larger ring_size keeps more"
