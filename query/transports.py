"""How a client's bytes reach an Rpc: over HTTP, over a Unix socket, or in this process."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from atf.errors import AtfError, UsageError
from atf.query.context import Context
from atf.query.rpc import Rpc
from atf.query.traces import Traces


class TransportError(AtfError):
    """No answer came: the server could not be reached, took too long, or refused before it read. status: of HTTP, if there was one."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Transport(Protocol):
    def send(self, body: bytes) -> bytes:
        """The answer to a request body; b"" when there is none. Raises TransportError."""

    def close(self) -> None: ...


class LocalTransport:
    """No server: the same Rpc, asked in this process."""

    def __init__(self, rpc: Rpc, traces: Traces, timeout_s: float) -> None:
        self._rpc, self._traces, self._timeout_s = rpc, traces, timeout_s

    def send(self, body: bytes) -> bytes:
        return self._rpc.answer(body, Context(self._traces, self._timeout_s)).body or b""

    def close(self) -> None:
        self._traces.close()


class HttpTransport:
    """One connection that is kept open; threads take turns on it."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], place: str, path: str, token: str | None, timeout_s: float) -> None:
        self._connect, self._place, self._path, self._timeout_s = connect, place, path, timeout_s
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._lock = threading.Lock()
        self._open: http.client.HTTPConnection | None = None

    def send(self, body: bytes) -> bytes:
        with self._lock:
            try:
                response, content = self._exchange(body)
            except TimeoutError:
                self._drop()
                raise TransportError(f"{self._place} gave no answer within {self._timeout_s:g} s") from None
            except (OSError, http.client.HTTPException) as why:
                self._drop()
                raise TransportError(f"{self._place} cannot be asked: {why or type(why).__name__}") from None
        if response.status == 204:
            return b""
        if response.status != 200:
            said = content[:300].decode("utf-8", "replace").strip()
            raise TransportError(f"{self._place} answered HTTP {response.status} {response.reason}: {said}", response.status)
        return content

    def _exchange(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        kept = self._open is not None
        try:
            return self._once(body)
        except (http.client.RemoteDisconnected, ConnectionError):
            if not kept:
                raise
            self._drop()  # the server had closed what was kept open; questions change nothing, so one may be asked again
            return self._once(body)

    def _once(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        if self._open is None:
            self._open = self._connect()
        self._open.request("POST", self._path, body, self._headers)
        response = self._open.getresponse()
        return response, response.read()

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def close(self) -> None:
        with self._lock:
            self._drop()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


def http_transport(url: str, token: str | None, timeout_s: float) -> HttpTransport:
    """For http://HOST[:PORT][/PATH], https://…, or unix:PATH of a socket."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        return HttpTransport(lambda: _UnixConnection(path, timeout_s), url, "/rpc", token, timeout_s)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.query or parts.fragment or parts.username is not None:
        raise UsageError(f"{url!r} is no URL of a server: http://HOST:PORT or unix:PATH")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return HttpTransport(lambda: kind(host, port, timeout=timeout_s), url, parts.path if parts.path.strip("/") else "/rpc", token, timeout_s)


def local_transport(place: str | os.PathLike[str], timeout_s: float) -> tuple[LocalTransport, str | None]:
    """For a directory of traces, or one trace: then its id comes with it."""
    from pathlib import Path

    from atf.query.methods import all_methods
    from atf.query.traces import is_trace

    root = Path(place).resolve()
    if not root.is_dir():
        raise UsageError(f"{place} is no directory; give a directory of traces, a trace, http://HOST:PORT or unix:PATH")
    trace_id = None
    if is_trace(root):
        root, trace_id = root.parent, root.name
    return LocalTransport(Rpc(all_methods()), Traces(root), timeout_s), trace_id
