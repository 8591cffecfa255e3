"""How many connections there may be, and how long one may say nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_SPARE = 32  # connections beyond the limit that still get an answer: that there are too many


def protocol_of(max_connections: int, header_timeout_s: float) -> type[H11Protocol]:
    """The protocol class of a server with these limits."""

    class Connection(H11Protocol):
        """One client's. A connection beyond the limit answers every call with -32002 (scope["atf.crowded"]), one far beyond is cut."""

        _waiting: asyncio.TimerHandle | None = None  # for the headers of a request

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            beyond = len(self.connections) - max_connections
            if beyond > _SPARE:
                transport.abort()
            elif beyond > 0:
                self.app = _crowded(self.app)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unwait()

        def _wait(self) -> None:
            """Gives the headers of the next request their time, when a part of them has come, or nothing yet."""
            if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
                self._unwait()
            elif self._waiting is None:
                self._waiting = self.loop.call_later(header_timeout_s, self._give_up)

        def _unwait(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _give_up(self) -> None:
            self._waiting = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()

        def timeout_keep_alive_handler(self) -> None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # the client does not read its answer
            super().timeout_keep_alive_handler()

    return Connection


def _crowded(app: Any) -> Any:
    async def crowded(scope: Any, receive: Any, send: Any) -> None:
        scope["atf.crowded"] = True
        await app(scope, receive, send)

    return crowded
