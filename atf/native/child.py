"""A program that is started, but waits before its first instruction until the recorder is ready."""

from __future__ import annotations

import os
import signal
import warnings

from atf._core import segment
from atf._core.errors import TargetGone, UsageError


class Child:
    """A forked process that executes the program when it is released. Behaves as a Popen for who watches it."""

    def __init__(self, path: str, command: list[str], mask: set[int]):
        self.path, self.command = path, command
        self.returncode: int | None = None
        go, self._go = os.pipe()
        self._answer, answer = os.pipe()
        with warnings.catch_warnings():
            # Threads of libraries (numpy's) are idle, and the child only reads, unblocks signals and executes.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            self._execute(go, answer, mask)
        os.close(go)
        os.close(answer)

    def _execute(self, go: int, answer: int, mask: set[int]) -> None:
        """In the child; never returns. What it is told: the environment."""
        try:
            told = b""
            while part := os.read(go, 1 << 16):
                told += part
            if told:
                entries = (entry.partition(b"=") for entry in told.removesuffix(b"\0").split(b"\0"))
                environment = {key: value for key, _, value in entries}
                for name in ("SIGPIPE", "SIGXFSZ"):  # ignored by Python alone
                    signal.signal(getattr(signal, name), signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                os.execve(self.path, self.command, environment)
        except OSError as error:
            os.write(answer, str(error.errno).encode())
        except BaseException:
            pass
        finally:
            os._exit(127)

    def release(self, environment: dict[str, str]) -> None:
        """Execute the program now. UsageError when the system refuses it."""
        content = b"".join(os.fsencode(key) + b"=" + os.fsencode(value) + b"\0" for key, value in environment.items()) or b"\0"
        try:
            with os.fdopen(self._go, "wb", buffering=0) as pipe:
                self._go = -1
                view = memoryview(content)
                while view:
                    view = view[pipe.write(view) :]
        except BrokenPipeError as error:
            raise TargetGone(f"{self.command[0]}: its process was killed before it began") from error
        said = os.read(self._answer, 16)
        if said:
            raise UsageError(f"{self.command[0]} cannot be started: {os.strerror(int(said))}")

    def poll(self) -> int | None:
        """The exit status, or minus the number of the signal that killed it; None while it runs."""
        # Asked only when it is over: a wait before that would take the stops away from an injector at work in this process.
        if self.returncode is None and not segment.alive(self.pid):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                self.close()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, sig)

    def abandon(self) -> None:
        """End a program that was not released, or that cannot be recorded."""
        self.close()
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """Let the pipes go."""
        for descriptor in (self._go, self._answer):
            if descriptor >= 0:
                os.close(descriptor)
        self._go = self._answer = -1
