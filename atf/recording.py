"""Recording in this process: its segments, its hooks, and what happens at fork and at exit.

Runs inside the recorded program, in its first milliseconds: imports nothing that a bare interpreter does not have.
"""

from __future__ import annotations

import atexit
import os
import sys

from atf._core import recorder, segment
from atf._core.errors import AtfError, SessionError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
from atf import runtime

BITS = {
    "calls": recorder.LEVEL_CALLS,
    "returns": recorder.LEVEL_RETURNS,
    "c": recorder.LEVEL_C,
    "args": recorder.LEVEL_ARGS,
    "repr": recorder.LEVEL_REPR | recorder.LEVEL_ARGS,
}
GEOMETRY = ("slots", "index_rings", "detail_rings", "index_bytes", "detail_bytes", "spare_rings", "spare_bytes", "global_cells", "names_bytes")
SPARES, SPARE_BYTES = 64, 2 << 20  # of a process, unless the machine is small

_active: Recording | None = None
_fork_hooks = False


def levels(text: str) -> int:
    """The bits of a level, or of several joined by commas (``"c,args"``). UsageError for others."""
    bits = 0
    for name in text.split(","):
        if name.strip() not in BITS:
            raise UsageError(f"level {name!r}: choose from {', '.join(BITS)} (c and args can be joined: c,args)")
        bits |= BITS[name.strip()]
    return bits


def ring_options(ring_size: str | int | None, slots: int | None = None, burst_size: str | int | None = None) -> dict:
    """Geometry from a thread's ring memory in all (``"8M"``): three quarters for events, a quarter for details; and from
    what all threads of a process share when the drain does not follow."""
    options: dict = burst_options(burst_size)
    if ring_size is not None:
        total = parse_size(ring_size)
        if not 64 << 10 <= total <= 1 << 31:
            raise UsageError(f"ring size {ring_size}: from 64K to 2G for each thread")
        options["index_bytes"] = max(total * 3 // 4 // 4 // 4096, 1) * 4096
        options["detail_bytes"] = max(total // 4 // 2 // 4096, 4) * 4096
    if slots is not None:
        if not 1 <= slots <= 4096:
            raise UsageError(f"{slots} threads: from 1 to 4096 can have rings of their own")
        options["slots"] = slots
    return options


def burst_options(burst_size: str | int | None) -> dict:
    """Spare rings: by default 128 MiB, at most a sixteenth of the memory that this machine or container has."""
    total = min(SPARES * SPARE_BYTES, memory() // 16) if burst_size is None else parse_size(burst_size)
    if not 0 <= total <= 1 << 34:
        raise UsageError(f"burst size {burst_size}: from 0 to 16G for all threads of a process together")
    size = max(SPARE_BYTES, total // SPARES // 4096 * 4096)
    return {"spare_rings": total // size, "spare_bytes": size}


def memory() -> int:
    """Bytes of memory that a process here can have: the machine's, or its control group's."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                return min(found, int(file.read()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return found


def parse_size(text: str | int) -> int:
    """Bytes from ``"64K"``, ``"8M"``, ``"1G"`` or a number. UsageError for anything else."""
    if isinstance(text, int):
        return text
    units = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    digits = text.lower().removesuffix("b").removesuffix("i")
    unit = digits[-1:] if digits[-1:].isalpha() else ""
    try:
        return int(float(digits.removesuffix(unit)) * units[unit])
    except (KeyError, ValueError):
        raise UsageError(f"size {text!r}: write it like 64K, 8M or 1G") from None


class Recording:
    """What this process records now. One at a time in a process."""

    def __init__(self, session: str | None, config: dict[str, str]):
        self.session = session
        self.config = config
        self.level = levels(config.get("level", "returns"))
        self.segments: segment.SegmentSet | None = None
        self.file: str | None = None
        self.native = session is not None and config.get("native") == "1"  # the agent comes in too
        self.forked: object = None  # called in a forked child instead of following it

    def begin(self) -> None:
        """Make the segments, announce them, set the hooks."""
        self.begin_with(None)

    def begin_with(self, drained_by: Callable[[segment.SegmentSet, str], None] | None) -> None:
        """The same; ``drained_by`` is called between announcing and the first event: this process drains itself."""
        global _active
        if _active is not None:
            raise SessionError("this process is recording already: stop that recording first (one at a time in a process)")
        config = self.config
        options = {key: int(config[key]) for key in GEOMETRY if config.get(key)}
        self.segments = segment.SegmentSet.create(
            options=options,
            policy=config.get("policy", "drop-oldest"),
            drain_expected=config.get("drain", "1") == "1",
            level=self.level,
            touched=config.get("touched", "1") == "1",
        )
        try:
            if self.session:
                self._announce()
                if drained_by is not None:
                    assert self.file
                    drained_by(self.segments, self.file)
            if self.native:
                self._join()
            if self._too_late():
                raise SessionError("the recording ended while this process began")
            assert self.segments.segments is not None
            recorder.open_session(self.segments.segments)
            if config.get("python", "1") == "1":
                recorder.start_hooks(self.level, _globs(config.get("include", "")), _globs(config.get("exclude", "")), config.get("budget") == "1")
            recorder.joined(self.level)
        except BaseException:
            self.end()
            if drained_by is None:
                self.withdraw()
            raise
        _active = self
        _register_fork_hooks()

    def _join(self) -> None:
        """Native recording beside this one; without it, Python's goes on."""
        assert self.file and self.session
        try:
            from atf.native.join import join

            join(self.file, self.config)
        except AtfError as error:
            complain(self.session, error)

    def _too_late(self) -> bool:
        """The recorder writes ``stopped``, then looks for announcements one last time. Asked after announcing, so one of both sees the other."""
        return bool(self.session) and os.path.exists(os.path.join(str(self.session), "stopped"))

    def withdraw(self) -> None:
        """Segments that nobody will drain vanish, and with them their announcement."""
        if self.file:
            try:
                os.unlink(self.file)
            except OSError:
                pass
        if self.segments is not None:
            self.segments.remove()
            self.detach()

    def _announce(self) -> None:
        assert self.session and self.segments
        pid = os.getpid()
        start = segment.process_start(pid)
        more = {}
        if self.native:
            from atf.native.join import announcement

            more = announcement()
        self.file = os.path.join(self.session, f"{pid}-{self.segments.ids[0]}.process")
        runtime.write(
            self.file,
            {
                "pid": pid,
                "start": start,
                "ppid": os.getppid(),
                "segments": ",".join(map(str, self.segments.ids)),
                "argv": "\x1f".join(getattr(sys, "orig_argv", None) or sys.argv or []),
                "python": sys.version.split()[0],
                "executable": sys.executable,
                **more,
            },
        )

    def end(self) -> None:
        """Take the hooks out and let go of the rings; what they hold is the drain's business now."""
        global _active
        recorder.stop_hooks()
        self._name_threads()
        recorder.close_session()
        if self.segments is not None and self.segments.segments is not None:
            self.segments.segments.stop()
        if _active is self:
            _active = None

    def _name_threads(self) -> None:
        """Threads that were seen before Python had a name for them get it now."""
        threading = sys.modules.get("threading")
        if threading is not None and self.segments is not None and self.segments.segments is not None:
            self.segments.segments.name_threads({t.native_id: t.name for t in threading.enumerate() if t.native_id})

    def detach(self) -> None:
        """Unmap the segments (after end, when this process does not drain them itself)."""
        if self.segments is not None:
            self.segments.detach()
            self.segments = None


def active() -> Recording | None:
    """The recording of this process, or None."""
    return _active


def _globs(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split("\x1f") if part)


def _register_fork_hooks() -> None:
    global _fork_hooks
    if not _fork_hooks:  # they cannot be unregistered: once, and gated by _active
        os.register_at_fork(after_in_child=_after_in_child)
        _fork_hooks = True


def _after_in_child() -> None:
    """The child gets segments of its own. The parent's are only unmapped: they are the parent's."""
    global _active
    parent, _active = _active, None
    if parent is None:
        return
    recorder.stop_hooks(forked=True)
    if callable(parent.forked):
        parent.forked()
        return
    parent.detach()
    follow(parent.session, {**parent.config, "native": "0"})  # the agent let go of the child at the fork


def follow(session: str | None, config: dict[str, str], first: bool = False) -> Recording | None:
    """Start recording in a process of a session, if its recorder lives and wants it. Never raises: the program comes first.

    first: in a process that was started, not forked; without ``children`` only the one that the recorder started itself.
    """
    wanted = config.get("children", "1") == "1" or (first and os.getppid() == int(config.get("recorder_pid", "0")))
    if session is None or not wanted or not runtime.recorder_alive(config) or os.path.exists(os.path.join(session, "stopped")):
        return None
    recording = Recording(session, config)
    try:
        recording.begin()
    except (AtfError, OSError) as error:
        if not recording._too_late():
            complain(session, error)
        return None
    if first:
        atexit.register(_at_exit)
    return recording


def _at_exit() -> None:
    """Registered before the program could register anything: runs last."""
    if _active is not None:
        if _active.config.get("crash") == "1":
            _tell_crash()
        _active.end()


def _tell_crash() -> None:
    """An exception that nobody caught ends this program: an event ``crash``, which the trigger of that name looks for.

    ``sys.last_value`` is set by test runners and shells too; one that ended the program unwound its first frame.
    """
    error = getattr(sys, "last_value", None)
    trace = getattr(error, "__traceback__", None)
    if error is None or hasattr(sys, "ps1") or (trace is not None and trace.tb_frame.f_back is not None):
        return
    kind = type(error)
    recorder.kept_event("crash", crash=True, type=f"{kind.__module__}.{kind.__qualname__}")


def complain(session: str, error: BaseException) -> None:
    """Leave a word for the recorder, which tells the user; the program's own output stays as it is."""
    try:
        runtime.write(os.path.join(session, f"{os.getpid()}.error"), {"pid": os.getpid(), "error": f"{type(error).__name__}: {error}"})
    except OSError:
        pass
