"""Who may ask: the checks before any route. A page in a browser on the same machine must not get at the traces through the browser.

- Host must name this server (a name that an attacker points to 127.0.0.1 is not ours), unless a Unix socket is served.
- Origin, which browsers send, must be this server itself.
- With a token, everything but /healthz needs `Authorization: Bearer`.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atf.errors import UsageError
from atf.query.serve.settings import Settings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_LEAST_TOKEN_BYTES = 16


class Guard:
    """An ASGI application around another one. `refused(status)` is told of what was not let through."""

    def __init__(self, app: Any, settings: Settings, refused: Callable[[int, Any], None] = lambda status, scope: None) -> None:
        self.app, self._refused = app, refused
        self._local = settings.uds is not None
        self._token = settings.token
        # A name that is bound to all addresses has none of its own; an address of the machine cannot be forged by a name server.
        self._any_address = not self._local and settings.host in ("0.0.0.0", "::")
        self._hosts = {name.lower() for name in (*_LOOPBACK, settings.host, *settings.allowed_hosts)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        status, said = self._judge(headers, scope["path"])
        if status == 200:
            await self.app(scope, receive, _with_headers(send))
            return
        self._refused(status, scope)
        answer = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"), *_HEADERS]
        if status == 401:
            answer.append((b"www-authenticate", b"Bearer"))
        body = said.encode() + b"\n"
        await send({"type": "http.response.start", "status": status, "headers": [*answer, (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _judge(self, headers: dict[bytes, bytes], path: str) -> tuple[int, str]:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._local and not self._is_ours(host):
            return 403, "this server does not go by that Host; start it with --allow-host to allow more"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() not in (f"http://{host}", f"https://{host}"):
            return 403, "pages of another Origin may not ask"
        if self._token is not None and path != "/healthz":
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            if not (hmac.compare_digest(given.strip(), self._token) and kind.lower() == b"bearer"):
                return 401, "send Authorization: Bearer and the token of the server's token file"
        return 200, ""

    def _is_ours(self, host: str) -> bool:
        name, bracket, port = host.rpartition("]") if host.startswith("[") else ("", "", "")
        if bracket:
            name = name[1:]
            port = port[1:] if port.startswith(":") else port
        else:
            name, _, port = host.partition(":")
        if port and not (port.isascii() and port.isdigit()):
            return False
        return name in self._hosts or (self._any_address and _is_address(name))


def _with_headers(send: Any) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            said = message.get("headers", [])
            names = {name.lower() for name, _ in said}
            ours = _HEADERS if message["status"] < 400 else (*_HEADERS, (b"connection", b"close"))  # its body may not have been read
            message = {**message, "headers": [*said, *(pair for pair in ours if pair[0] not in names)]}
        await send(message)

    return sending


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether everything that a host stands for is this machine itself."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError as why:
        raise UsageError(f"--host {host}: is no address of this machine: {why.strerror}") from None
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


def read_token(path: str) -> bytes:
    """The token of a file, which only its owner may read; made, with a token, when it is not there."""
    place = Path(path)
    try:
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        pass
    except OSError as why:
        raise UsageError(f"--token-file {path}: cannot be made: {why.strerror}") from None
    try:
        with open(os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise UsageError(f"--token-file {path}: is no regular file")
            if state.st_mode & 0o077:
                raise UsageError(f"--token-file {path}: others may read it; `chmod 600 {path}`, and write a new token into it")
            token = file.read(4096).strip()
    except OSError as why:
        raise UsageError(f"--token-file {path}: cannot be read: {why.strerror}") from None
    if len(token) < _LEAST_TOKEN_BYTES or len(token.split()) != 1:
        raise UsageError(f"--token-file {path}: holds no token (one word of {_LEAST_TOKEN_BYTES} bytes or more); remove it to get a new one")
    return token
