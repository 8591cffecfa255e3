"""Names of events that stay the same: `<tid>:<indexSeq>`.

Of several threads with one tid (the system gives numbers out again), the first of the trace has this name; the others have
`<pid>.<n>:<indexSeq>`, n of their directory thread_<n>. Both are understood for every thread.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from atf.query.pages import invalid

if TYPE_CHECKING:
    from atf.query.traces import View
    from atf.trace_files import Thread

_EVENT_ID = re.compile(r"(?:(\d{1,10})|(\d{1,10})\.(\d{1,10})):(\d{1,10})", re.ASCII)


def thread_handles(view: View) -> list[str]:
    """By position in the trace, what stands before the colon in the ids of a thread's events."""

    def make(view: View) -> list[str]:
        threads = view.trace.threads
        first: dict[int, Thread] = {}
        for thread in threads:
            first.setdefault(thread.tid, thread)
        return [str(t.tid) if first[t.tid] is t else f"{t.process.pid}.{t.number}" for t in threads]

    made: list[str] = view.once("handles", make)
    return made


def thread_with(view: View, tid: int, pid: int | None = None, param: str = "threadId") -> Thread:
    """The first thread with a tid (of a process); RpcError -32602 when there is none."""
    for thread in view.trace.threads:
        if thread.tid == tid and pid in (None, thread.process.pid):
            return thread
    known = sorted({t.tid for t in view.trace.threads})
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    of = "" if pid is None else f" of process {pid}"
    raise invalid(param, f"there is no thread {tid}{of}", f"known: {', '.join(map(str, known[:20]))}{more}")


def find_event(view: View, event_id: str) -> tuple[Thread, int]:
    """(thread, index_seq) of an event's id; RpcError -32602 when there is no such event."""
    match = _EVENT_ID.fullmatch(event_id)
    if not match:
        raise invalid("eventId", f"{event_id[:60]!r} is no event id", "an event id is <threadId>:<indexSeq>, as events.get gives it")
    tid, pid, number, seq = (None if part is None else int(part) for part in match.groups())
    if tid is not None:
        thread = thread_with(view, tid, param="eventId")
    else:
        fits = [t for t in view.trace.threads if (t.process.pid, t.number) == (pid, number)]
        if not fits:
            raise invalid("eventId", f"there is no thread {number} of process {pid}", "take ids from events.get")
        thread = fits[0]
    assert seq is not None
    return thread, within(thread, seq, "eventId")


def within(thread: Thread, index_seq: int, param: str = "indexSeq") -> int:
    """index_seq, when the thread has such an event."""
    if not 0 <= index_seq < len(thread.index):
        raise invalid(param, f"thread {thread.tid} has {len(thread.index)} events, none at {index_seq}", "indexSeq begins at 0")
    return index_seq
