"""What one client may take: bytes and time of a body, and calls a second."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from typing import Any

_READ_ON = 16  # a body that is too large is read on up to so many times the limit, so that the client gets to read the answer
_MOST_CLIENTS = 4096


class Refused(Exception):
    """An answer of HTTP instead of JSON-RPC."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


class Gone(Exception):
    """The client went away before it had sent its body."""


async def read_body(scope: Any, receive: Any, most_bytes: int, timeout_s: float) -> bytes:
    """The body of a request that says it is JSON. Refused: 415, 413 or 408; Gone."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
        raise Refused(415, "send Content-Type: application/json")
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
        raise Refused(415, "send the body without a Content-Encoding")
    said = headers.get(b"content-length", b"0")
    length = int(said) if said.isdigit() else 0
    waits = headers.get(b"expect", b"").lower() == b"100-continue"
    if length > most_bytes and (waits or length > most_bytes * _READ_ON):
        raise Refused(413, f"a body has at most {most_bytes} bytes")
    try:
        return await asyncio.wait_for(_read(receive, most_bytes), timeout_s)
    except asyncio.TimeoutError:
        raise Refused(408, f"the body took longer than {timeout_s:g} s") from None


async def _read(receive: Any, most_bytes: int) -> bytes:
    chunks: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        total += len(chunk)
        if total <= most_bytes:
            chunks.append(chunk)
        else:
            chunks.clear()
        more = message.get("more_body", False)
        if total > most_bytes and (not more or total > most_bytes * _READ_ON):
            raise Refused(413, f"a body has at most {most_bytes} bytes")
        if not more:
            return b"".join(chunks)


class Bucket:
    """`rate` tokens a second, at most a second's worth at once. 0: always one there."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(1.0, rate)
        self._tokens, self._at = self._most, time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> float:
        """0 when there was a token, else the seconds until there is one."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens < 1:
                return (1 - self._tokens) / self._rate
            self._tokens -= 1
            return 0.0


class Buckets:
    """A bucket for each client; those that were asked for longest ago are forgotten."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._of: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, client: str) -> Bucket:
        bucket = self._of.get(client)
        if bucket is None:
            bucket = self._of[client] = Bucket(self._rate)
            if len(self._of) > _MOST_CLIENTS:
                self._of.popitem(last=False)
        self._of.move_to_end(client)
        return bucket
