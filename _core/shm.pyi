"""The three segments of a recorded process: how they are laid out, checked and looked at from Python."""

from typing import Any

from typing_extensions import Buffer

PAGE: int
STATES: dict[int, str]
MODES: dict[int, str]
POLICIES: dict[str, int]

def sizes(
    *,
    slots: int = 64,
    index_rings: int = 4,
    detail_rings: int = 2,
    index_bytes: int = 1572864,
    detail_bytes: int = 1048576,
    spare_rings: int = 0,
    spare_bytes: int = 2097152,
    global_cells: int = 16384,
    names_bytes: int = 16777216,
) -> tuple[int, int, int]:
    """Bytes of the three segments for these numbers: (control, registry, rings). UsageError for numbers that cannot be.

    ``index_bytes``, ``detail_bytes`` and ``spare_bytes`` are of one ring; ``spare_rings`` are for all threads of the process
    together, the others for each; ``global_cells`` is a power of two.
    """

def format(
    control: Buffer,
    registry: Buffer,
    rings: Buffer,
    *,
    pid: int,
    start: int,
    policy: str = "drop-oldest",
    block_deadline_ns: int = 5000000000,
    drain_expected: bool = True,
    level: int = 0,
    slots: int = 64,
    index_rings: int = 4,
    detail_rings: int = 2,
    index_bytes: int = 1572864,
    detail_bytes: int = 1048576,
    spare_rings: int = 0,
    spare_bytes: int = 2097152,
    global_cells: int = 16384,
    names_bytes: int = 16777216,
    common_clock: bool = False,
    touched: bool = True,
) -> None:
    """Lay out three zeroed, writable buffers for a new session of process ``pid`` (started ``start`` clock ticks after boot).

    ``common_clock``: CLOCK_BOOTTIME instead of the processor's counter, for a process that cannot read this one's (an emulated one).
    ``touched``: a thread's ring memory is touched when it begins, else when it is needed.

    SegmentError when a buffer is smaller than ``sizes`` says; UsageError for an unknown policy.
    """

class Segments:
    """Three mapped segments, checked. SegmentError for buffers that are not a session of this layout version."""

    def __init__(self, control: Buffer, registry: Buffer, rings: Buffer) -> None: ...
    @property
    def info(self) -> dict[str, Any]:
        """State of the session, as plain values."""
    @property
    def anchors(self) -> tuple[int, int]:
        """The clocks now: (boottime_ns, unix_ns)."""
    def set_level(self, level: int) -> None:
        """Ask the producers for another level (bits of recorder.LEVEL_*): each thread changes at its next event."""
    @property
    def capture_ns(self) -> int:
        """Time that hooks spent on writing values down, of all threads; counted where a budget is set."""
    @property
    def pending_bytes(self) -> int:
        """What the rings hold at most for the files, in bytes."""
    def stop(self) -> None:
        """Tell every producer, in whichever process, to record nothing more."""
    def drained_by(self, pid: int) -> None:
        """Note which process drains."""
    def slots(self) -> list[dict[str, Any]]:
        """The threads that have a slot now."""
    def name_threads(self, names: dict[int, str]) -> None:
        """Give live threads that have none their names, by OS thread id. Cut at 47 bytes of UTF-8."""
    def names(self, start: int = 0) -> tuple[int, list[tuple[int, int, int, str, str]]]:
        """Names since byte ``start`` of the log: (next start, [(kind, id, line, name, file)]); kind 1 module, 2 function."""
