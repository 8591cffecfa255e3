"""A stretch of time cut out of a process's rings, which stay as they are. See slice.h."""

import os

from atf._core.shm import Segments

THREAD: tuple[str, ...]

class Cut:
    """What was copied. It is in memory until it is written, or let go of."""

    @property
    def threads(self) -> list[tuple[int, int, str, int, int, int, int, int, int, int, int, int]]:
        """The threads that have records in it, by number: tuples of what THREAD names. overwritten: records of the stretch that were gone, at
        least so many; missing: between others; both are in GAPs."""
    @property
    def functions(self) -> list[int]:
        """The distinct ids of its records."""
    def write(self, path: str | os.PathLike[str], manifest: bytes) -> int:
        """Make the directory, the threads' files in it, and manifest.json last. Returns the bytes of all files. OutputError."""

class Cutter:
    """Cuts stretches out of the rings of one process: of this one (``own``), or of another, which is perhaps ``dead``."""

    def __new__(cls, segments: Segments, own: bool = True, dead: bool = False) -> Cutter: ...
    def now_ns(self) -> int:
        """Now, on the clock of the session's events. Only of the own process."""
    def cut(self, start_ns: int, end_ns: int, last_ns: int = 0) -> Cut:
        """Copy what all threads wrote in [start_ns, end_ns]. last_ns: of each thread that lives its last so many ns instead, of the
        others what lies in the last so many of all."""
