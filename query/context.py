"""What a method is given beside its params: the traces, how long it may take, and how large its answer may be."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from atf.query.rpc import TOO_LARGE, RpcError
from atf.query.traces import Traces

DEFAULT_TIMEOUT_S = 10.0
DEFAULT_ANSWER_BYTES = 256 * 1024


@dataclass
class Context:
    """One request's. Methods that read much call `check` between chunks of a few milliseconds."""

    traces: Traces
    timeout_s: float = DEFAULT_TIMEOUT_S
    answer_bytes: int = DEFAULT_ANSWER_BYTES
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False  # set by the transport when nobody waits for the answer any more

    @property
    def elapsed_ms(self) -> float:
        return round((time.monotonic() - self.started) * 1000, 3)

    def check(self, hint: str = "narrow the time window, name functions or threads") -> None:
        """Raises RpcError -32003 when the time is over, or nobody waits."""
        if self.cancelled or time.monotonic() - self.started > self.timeout_s:
            raise RpcError(TOO_LARGE, {"reason": f"took longer than {self.timeout_s:g} s", "hint": hint})
