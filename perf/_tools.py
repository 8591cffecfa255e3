"""The recorders that python_calls.py compares, each as start / stop / recorded calls, in the process that is recorded.

Every peer is set up in its own favour: VizTracer only fills memory, and memory that it has touched before; cProfile keeps
sums; trace0 writes its default format. What a tool records of a run is asked for only after the clock has stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _perfetto import count_slices

CALL, RESUME = 1, 6  # kinds of record
CALLS_AT_MOST = 800_000  # Python and C calls of one run of the largest program


class Tool:
    """A recorder that is on between start() and stop(). between() stands before each timed run, outside the clock."""

    def start(self) -> None: ...

    def between(self) -> None: ...

    def stop(self) -> None: ...

    def recorded(self) -> int | None:
        """Calls that it kept of the last run; None: it cannot say here."""
        return None


class Setprofile(Tool):
    """Not a competitor: the count of calls that the others are checked against."""

    def __init__(self, c_calls: bool) -> None:
        self.counted, self.kinds = 0, ("call", "c_call") if c_calls else ("call",)

    def start(self) -> None:
        def note(frame, event, argument):
            self.counted += event in self.kinds

        sys.setprofile(note)

    def between(self) -> None:
        self.counted = 0

    def stop(self) -> None:
        sys.setprofile(None)

    def recorded(self) -> int:
        return self.counted


class Viztracer(Tool):
    def __init__(self, c_calls: bool) -> None:
        from viztracer import VizTracer

        self.tracer = VizTracer(ignore_c_function=not c_calls, tracer_entries=CALLS_AT_MOST, verbose=0, file_info=False)

    def start(self) -> None:
        self.tracer.start()

    def between(self) -> None:
        self.tracer.stop()
        self.tracer.clear()
        self.tracer.start()

    def stop(self) -> None:
        self.tracer.stop()

    def recorded(self) -> int:
        self.tracer.parse()
        return sum(event["ph"] == "X" for event in self.tracer.data["traceEvents"])


class CProfile(Tool):
    def __init__(self) -> None:
        from cProfile import Profile

        self.profile = Profile()

    def start(self) -> None:
        self.profile.enable()

    def between(self) -> None:
        self.profile.disable()
        self.profile.clear()
        self.profile.enable()

    def stop(self) -> None:
        self.profile.disable()

    def recorded(self) -> int:
        return sum(entry.callcount for entry in self.profile.getstats())


class Trace0(Tool):
    """Streaming, or with `ring_mb` the last megabytes in memory only."""

    def __init__(self, out: Path, ring_mb: int | None) -> None:
        from trace0 import Tracer

        self.out, self.ring = out / "trace0", ring_mb is not None
        self.tracer = Tracer(str(self.out), record_last_mb=ring_mb)

    def start(self) -> None:
        self.tracer.__enter__()

    def stop(self) -> None:
        self.tracer.__exit__(None, None, None)

    def recorded(self) -> int | None:
        return None if self.ring else count_slices(self.out)


class Atf(Tool):
    """In the process and into the rings only, with nobody draining them; when what was recorded is asked for, into files."""

    def __init__(self, files: Path | None, **options) -> None:
        import atf

        self.files = files
        self.recording = atf.record(files, **options) if files is None else atf.record(files, policy="block", **options)

    def start(self) -> None:
        self.recording.start()

    def stop(self) -> None:
        self.recording.stop()

    def recorded(self) -> int | None:
        if self.files is None:
            return None
        import atf

        with atf.open(self.files) as trace:
            return sum(count_calls(thread.events) for thread in trace.threads)


def count_calls(events) -> int:
    """Entries into functions among these records: calls, and resumes of generators and coroutines."""
    kinds = events["event_kind"]
    return int(((kinds == CALL) | (kinds == RESUME)).sum())


def make(name: str, out: Path, check: bool) -> Tool:
    """The recorder of this name; `out` is a directory for files, `check` says that recorded() will be asked."""
    files = out / "atf" if check else None
    made = {
        "untraced": Tool,
        "count": lambda: Setprofile(False),
        "count c": lambda: Setprofile(True),
        "viztracer": lambda: Viztracer(False),
        "viztracer c": lambda: Viztracer(True),
        "cProfile": CProfile,
        "trace0 ring": lambda: Trace0(out, 256),
        "trace0": lambda: Trace0(out, None),
        "atf ring": lambda: Atf(files),
        "atf c": lambda: Atf(files, level="c"),
        "atf excluded": lambda: Atf(files, exclude=("*",)),
    }
    return made[name]()
