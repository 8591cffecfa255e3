"""Where a process finds what it is given: of another user, with other files, or with shared memory of its own (a container)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator

from atf._core.errors import TargetDenied, TargetGone

NEW_IPC = 0x08000000  # CLONE_NEWIPC
ROOMS = ("/tmp", "/var/tmp", "/dev/shm", "/run")
ROOM_ADVICE = "mount a writable file system without noexec at /tmp in its container, or run atf inside"


def user_of(pid: int) -> int:
    """The user whose rights a process has. TargetGone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[2]) for line in file if line.startswith("Uid:"))
    except (OSError, StopIteration) as error:
        raise TargetGone(f"process {pid} has ended") from error


def same_space(pid: int, space: str) -> bool:
    """Whether a process shares one of our namespaces; also where the kernel does not say."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{space}") == os.readlink(f"/proc/self/ns/{space}")
    except OSError:
        return True


def same_files(pid: int) -> bool:
    """Whether a path means the same to a process as to us."""
    try:
        return same_space(pid, "mnt") and os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))
    except OSError:
        return True


def _usable(root: str) -> Iterator[str]:
    """Directories whose files may be written, and mapped to be executed."""
    for room in ROOMS:
        try:
            if os.path.isdir(root + room) and not os.statvfs(root + room).f_flag & (os.ST_NOEXEC | os.ST_RDONLY):
                yield room
        except OSError:
            continue


def room_for(pid: int) -> bool:
    """Whether a process with files of its own can be given the agent's."""
    return same_files(pid) or next(_usable(f"/proc/{pid}/root"), None) is not None


class Place:
    """A directory that a process can read, with the agent in it. For a process like ours it is the session's own, and nothing is copied.

    outside, inside: how we and how the process call it. TargetDenied when there is none.
    """

    def __init__(self, pid: int, agent: str, own: str):
        self.user, self.agent = user_of(pid), agent
        self.foreign = self.user != os.geteuid()
        self.outside = self.inside = own
        self.root = "" if same_files(pid) else f"/proc/{pid}/root"
        if not self.foreign and not self.root:
            return
        self.outside = self._new_room(pid)
        self.inside = self.outside.removeprefix(self.root)
        copy = os.path.join(self.outside, os.path.basename(agent))
        shutil.copyfile(agent, copy)
        os.chmod(copy, 0o755)
        self.give(copy)
        self.agent = copy.removeprefix(self.root)

    def _new_room(self, pid: int) -> str:
        for room in _usable(self.root):
            try:
                made = tempfile.mkdtemp(prefix="atf-", dir=self.root + room)
            except OSError:
                continue
            self.give(made)
            return made
        raise TargetDenied(f"process {pid} sees no place for the agent's file ({', '.join(ROOMS)}): {ROOM_ADVICE}")

    def give(self, path: str) -> None:
        """Let the process own a file."""
        if self.foreign:
            os.chown(path, self.user, -1)

    def clear(self) -> None:
        """Take the copies away; what the process has mapped stays with it."""
        if self.root or self.foreign:
            shutil.rmtree(self.outside, ignore_errors=True)


@contextlib.contextmanager
def shared_memory_of(pid: int) -> Iterator[bool]:
    """This thread, and those that it starts, see the shared memory of a process; whether that is another than ours. TargetDenied."""
    if same_space(pid, "ipc"):
        yield False
        return
    own = os.open("/proc/thread-self/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            theirs = os.open(f"/proc/{pid}/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TargetDenied(f"process {pid} has its shared memory in a namespace of its own: run atf as root, or inside its container") from error
        try:
            _enter(theirs, pid)
        finally:
            os.close(theirs)
        try:
            yield True
        finally:
            _enter(own, pid)
    finally:
        os.close(own)


def _enter(descriptor: int, pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, NEW_IPC) != 0:
        why = os.strerror(ctypes.get_errno())
        raise TargetDenied(f"the shared memory of process {pid} cannot be reached ({why}): run atf as root, or inside its container (nsenter -t {pid} -a)")
