"""System V segments: made without a key, 0600, attached by id. The only file that knows sysv_ipc."""

from __future__ import annotations

import errno
import os

from atf._core import shm
from atf._core.errors import SegmentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def library_path() -> str:
    """Where sysv_ipc is installed."""
    return os.path.dirname(os.path.abspath(_sysv().__file__))


def _sysv() -> Any:
    try:
        import sysv_ipc
    except ImportError as error:
        raise SegmentError("shared memory needs the package sysv_ipc: pip install sysv_ipc") from error
    return sysv_ipc


def process_start(pid: int) -> int:
    """Start time of a process in clock ticks after boot, 0 when it does not exist or the system does not tell. Pid and start name a process for ever."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def alive(pid: int, start: int = 0) -> bool:
    """Whether that very process still runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0] not in (b"Z", b"X") and (not start or int(fields[19]) == start)
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return False
    except (OSError, IndexError, ValueError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _refused(error: Exception, size: int) -> SegmentError:
    # sysv_ipc tells the errno in the message only, for most of its errors.
    names = ("ENOSPC", "EACCES", "EPERM", "EINVAL", "ENOMEM")
    code = getattr(error, "errno", None) or next((getattr(errno, name) for name in names if name in str(error)), None)
    if code == errno.ENOSPC or "limit" in str(error).lower():
        what = "the system's limit is reached: remove stale segments with `atf doctor --clean`, or raise kernel.shmmni and kernel.shmall"
    elif code in (errno.EACCES, errno.EPERM) or "permission" in str(error).lower():
        what = "shared memory is not permitted here: run atf as the user who owns the session, and allow shmget in the sandbox or container"
    elif code == errno.EINVAL or isinstance(error, ValueError):
        what = "the size is beyond kernel.shmmax: raise it, or use --ring-size and --burst-size for less"
    elif code == errno.ENOMEM or isinstance(error, MemoryError):
        what = "there is not enough memory: use --ring-size and --burst-size for less"
    else:
        what = "the system refused it"
    return SegmentError(f"no shared memory segment of {size} bytes: {what} ({error})")


class SegmentSet:
    """The three segments of one recorded process, attached: ``.ids``, ``.segments`` (checked view)."""

    def __init__(self, memories: list, segments: shm.Segments):
        self._memories = memories
        self.segments: shm.Segments | None = segments
        self.ids = tuple(memory.id for memory in memories)

    @classmethod
    def create(cls, *, options: dict[str, Any], pid: int | None = None, **formatting: Any) -> SegmentSet:
        """Make, format and attach three new segments of this process, or of process ``pid``. ``options``: what shm.sizes takes."""
        sysv = _sysv()
        memories: list = []
        try:
            for size in shm.sizes(**options):
                try:
                    # IPC_PRIVATE: no key that anybody could guess; and with IPC_CREX sysv_ipc would write every page.
                    memories.append(sysv.SharedMemory(sysv.IPC_PRIVATE, 0, mode=0o600, size=size))
                except (sysv.Error, OSError, ValueError, MemoryError) as error:
                    raise _refused(error, size) from error
            pid = pid or os.getpid()
            control, registry, rings = memories
            shm.format(control, registry, rings, pid=pid, start=process_start(pid), **formatting, **options)
            return cls(memories, shm.Segments(*memories))
        except BaseException:
            for memory in memories:
                memory.remove()
            raise

    @classmethod
    def attach(cls, ids: tuple[int, int, int]) -> SegmentSet:
        """Attach segments that another process made. SegmentError when they are gone or not ours."""
        sysv = _sysv()
        try:
            memories = [sysv.attach(identifier) for identifier in ids]
        except sysv.ExistentialError as error:
            raise SegmentError(f"the segments {ids} are gone: the session was finished or the machine restarted") from error
        except (sysv.Error, OSError, ValueError) as error:
            raise SegmentError(f"the segments {ids} cannot be attached: {error}") from error
        for memory in memories:
            if memory.uid != os.geteuid() and os.geteuid() != 0:
                raise SegmentError(f"segment {memory.id} belongs to user {memory.uid}: run atf as that user")
        return cls(memories, shm.Segments(*memories))

    def give_to(self, uid: int) -> None:
        """Let processes of another user attach; ours still can (root alone may do this)."""
        for memory in self._memories:
            memory.uid = uid

    @property
    def attached(self) -> int:
        """How many attachments the rings segment has, over all processes."""
        return self._memories[2].number_attached

    def remove(self) -> None:
        """Mark the segments for removal: they vanish with their last user."""
        sysv = _sysv()
        for memory in self._memories:
            try:
                memory.remove()
            except sysv.Error:
                pass

    def detach(self) -> None:
        """Unmap. Only when nothing holds a pointer any more: a view into a detached segment is a crash."""
        self.segments = None
        memories, self._memories = self._memories, []
        for memory in memories:
            memory.detach()
