"""One line for each call: who asked for what, with what outcome, for how long, and how many rows."""

from __future__ import annotations

import os
import queue
import threading
from datetime import datetime, timezone

import msgspec

from atf.errors import UsageError
from atf.query.rpc import Reply

_MOST_WAITING = 10_000
_END_WAIT_S = 2.0


class AccessLog:
    """Writes to `path` ("-": standard output) in a thread of its own: a disk or a reader that stalls does not stall the server.

    lost: lines that could not be written.
    """

    def __init__(self, path: str, as_json: bool) -> None:
        self._as_json = as_json
        self.lost = 0
        try:
            self._fd = 1 if path == "-" else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as why:
            raise UsageError(f"--access-log {path}: cannot be written: {why.strerror}") from None
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._write, name="access log", daemon=True)
        self._thread.start()

    def done(self, client: str, reply: Reply) -> None:
        """The calls of one answer."""
        size = len(reply.body or b"")
        for call in reply.calls:
            self._put(client, method=call.method or "-", code=call.code, durationMs=call.duration_ms, rows=call.rows, bytes=size)

    def refused(self, client: str, status: int) -> None:
        """A request that got an answer of HTTP."""
        self._put(client, method="-", code=None, status=status)

    def _put(self, client: str, **said: object) -> None:
        time = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        said = {"time": time, "client": client, **{name: value for name, value in said.items() if value is not None}}
        if self._as_json:
            line = msgspec.json.encode(said)
        else:
            first = [str(said.pop(name)) for name in ("time", "client", "method")]
            line = " ".join([*first, *(f"{name}={value}" for name, value in said.items())]).encode()
        try:
            self._lines.put_nowait(line + b"\n")
        except queue.Full:
            self.lost += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                os.write(self._fd, line)
            except OSError:
                self.lost += 1

    def close(self) -> None:
        """Writes what waits, for a short while at most."""
        try:
            self._lines.put(None, timeout=_END_WAIT_S)
        except queue.Full:
            return
        self._thread.join(_END_WAIT_S)
