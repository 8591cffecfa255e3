"""How a server is run: every option of the command line, with its default."""

from __future__ import annotations

import os
from dataclasses import dataclass

from atf.query.context import DEFAULT_ANSWER_BYTES, DEFAULT_TIMEOUT_S


@dataclass(frozen=True)
class Settings:
    """token: what clients must bring, None: nothing. rate: calls a second of one client, 0: any number."""

    trace_root: str = "."
    host: str = "127.0.0.1"
    port: int = 9090
    uds: str | None = None
    token: bytes | None = None
    allowed_hosts: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S
    answer_bytes: int = DEFAULT_ANSWER_BYTES
    body_bytes: int = 1 << 20
    body_timeout_s: float = 10.0
    rate: float = 2000.0
    max_connections: int = 256
    workers: int = max(4, os.cpu_count() or 1)
    cache_size: int = 100
    cache_ttl: float = 300.0
    access_log: str | None = None
    access_log_json: bool = False
