"""Runs a server until it is told to end: sockets bound by us, signals, and an end that takes no longer than it may."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import uvicorn

from atf._core import busguard
from atf.errors import UsageError
from atf.query.methods import all_methods
from atf.query.rpc import Rpc
from atf.query.serve.app import Service
from atf.query.serve.connections import protocol_of
from atf.query.serve.security import is_loopback
from atf.query.serve.settings import Settings
from atf.query.traces import Traces

_KEEP_ALIVE_S = 30
_END_GRACE_S = 2.0
_SAME_SIGNAL_S = 0.5
_SOCKET_PATH_BYTES = 107


class Server(uvicorn.Server):
    """Leaves signals to us, and says where it can be reached once it can."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address
        self._told = 0.0  # when the first signal came, on the monotonic clock

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def install_signal_handlers(self) -> None:
        """What releases of uvicorn before 0.30 call."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        print(self._address, flush=True)

    def end(self) -> None:
        """At the first signal the requests in flight are finished, at the second one no longer.

        `timeout` and service managers signal a process and its group: what comes within _SAME_SIGNAL_S of the first is the first.
        """
        now = time.monotonic()
        if not self.should_exit:
            self.should_exit, self._told = True, now
        elif now - self._told > _SAME_SIGNAL_S:
            self.force_exit = True


def serve(settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM; 0. UsageError when the sockets cannot be had."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="atf: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what clients send is not our fault, and is counted
    if settings.uds is None and settings.token is None and not is_loopback(settings.host):
        raise UsageError(f"--host {settings.host}: can be reached from other machines: give --token-file FILE too (it is made if missing)")
    with unix_socket(settings.uds) if settings.uds is not None else tcp_socket(settings.host, settings.port) as sock:
        try:
            ended = _serve(settings, sock)
        finally:
            if settings.uds is not None:
                with contextlib.suppress(OSError):
                    os.unlink(settings.uds)
    if not ended:  # the interpreter would wait for the worker
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _serve(settings: Settings, sock: socket.socket) -> bool:
    """Serves until the end; False when a worker is still busy with a method that does not look at its time."""
    busguard.install()
    import_module("atf.trace")  # and numpy: now, not in the first request
    service = Service(Rpc(all_methods()), Traces(settings.trace_root, settings.cache_size, settings.cache_ttl), settings)
    config = uvicorn.Config(
        service.app,
        http=protocol_of(settings.max_connections, settings.body_timeout_s),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(settings.timeout_s + _END_GRACE_S),
    )
    server = Server(config, address_of(sock))
    service.connections = server.server_state.connections
    try:
        asyncio.run(_run(server, sock))
    finally:
        until = time.monotonic() + _END_GRACE_S
        while not (ended := service.close()) and time.monotonic() < until:
            time.sleep(0.02)
    return ended


async def _run(server: Server, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.end)
    await server.serve(sockets=[sock])


def tcp_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0: any that is free."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: ports are 0 to 65535; --port 0 takes any that is free")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as why:
        raise UsageError(f"--host {host}: is no address of this machine: {why.strerror}") from None
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen()
    except OSError as why:
        sock.close()
        raise UsageError(f"--host {host} --port {port}: cannot be bound: {why.strerror}; --port 0 takes any that is free") from None
    return sock


def unix_socket(path: str) -> socket.socket:
    """A socket at a path, which only the owner may use. A socket that nobody listens on any more is replaced."""
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        raise UsageError(f"--uds {path}: is longer than the {_SOCKET_PATH_BYTES} bytes that a socket's path may have")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # the socket must not be open to others for even a moment
    try:
        sock.bind(path)
    except OSError as why:
        sock.close()
        raise UsageError(f"--uds {path}: cannot be bound: {why.strerror}") from None
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: str) -> None:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:  # a socket without a server; a file of another kind refuses too
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
            return
        except OSError:
            return
    raise UsageError(f"--uds {path}: another server listens there; end it, or choose another path")


def address_of(sock: Any) -> str:
    """Where a bound socket can be reached."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}/rpc" if ":" in host else f"http://{host}:{port}/rpc"
