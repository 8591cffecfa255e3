"""What a method is given beside its params: the traces, how long it may take, and how large its answer may be."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from atf.errors import FormatError
from atf.query.errors import TOO_LARGE, TRACE_DAMAGED, RpcError
from atf.query.rpc import Caller, Method
from atf.query.traces import Traces, View

DEFAULT_TIMEOUT_S = 10.0
DEFAULT_ANSWER_BYTES = 256 * 1024


@dataclass
class Context(Caller):
    """One request body's, and by `one` each call's. Methods that read much call `check` between chunks of a few milliseconds."""

    traces: Traces
    timeout_s: float = DEFAULT_TIMEOUT_S
    answer_bytes: int = DEFAULT_ANSWER_BYTES
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False  # set by the transport when nobody waits for the answer any more
    above: Context | None = None  # of the body that this call stands in
    until: float | None = None  # on the monotonic clock; None: timeout_s after the start

    @property
    def elapsed_ms(self) -> float:
        return round((time.monotonic() - self.started) * 1000, 3)

    def check(self, hint: str = "narrow the time window, name functions or threads") -> None:
        """Raises RpcError -32003 when the time is over, or nobody waits."""
        if self.cancelled or (self.above is not None and self.above.cancelled):
            raise RpcError(TOO_LARGE, {"reason": "nobody waits for the answer any more"})
        until = self.started + self.timeout_s if self.until is None else self.until
        if time.monotonic() > until:
            raise RpcError(TOO_LARGE, {"reason": f"took longer than {self.timeout_s:g} s", "hint": hint})

    def one(self, room: int) -> Context:
        """For one call of a body: the calls share the time, and the room that is left."""
        until = self.started + self.timeout_s if self.until is None else self.until
        call = dataclasses.replace(self, started=time.monotonic(), answer_bytes=min(room, self.answer_bytes), above=self, until=until)
        call.check("the time of a request is shared by its calls: send fewer in a batch, or when there is less to do")
        return call

    def run(self, method: Method, params: Any) -> Any:
        """Runs a method. RpcError -32004 when a trace that it read lost a part of its files meanwhile."""
        with self.traces.taking() as taken:
            try:
                result = method.run(self, params)
            except (FormatError, OSError) as why:
                self._refuse_damaged(taken)
                raise RpcError(TRACE_DAMAGED, {"reason": str(why), "hint": "ask again for what is left of it"}) from None
            except Exception:
                self._refuse_damaged(taken)
                raise
            self._refuse_damaged(taken)
            return result

    def _refuse_damaged(self, taken: list[View]) -> None:
        for view in taken:
            try:
                view.check()
            except FormatError as why:
                self.traces.drop(view)
                data = {"traceId": view.id, "reason": str(why), **self._left(view), "hint": "ask again for what is left of it"}
                raise RpcError(TRACE_DAMAGED, data) from None

    def _left(self, view: View) -> dict[str, Any]:
        """How many events there were, and how many can still be read."""
        try:
            left = sum(len(thread.index) for thread in self.traces.view(view.id).trace.threads)
        except RpcError:
            left = 0
        return {"events": sum(len(thread.index) for thread in view.trace.threads), "recovered": left}

    def finish(self, result: Any) -> bytes:
        """The result as JSON. RpcError -32003 when it has more bytes than the answer may have."""
        encoded = msgspec.json.encode(result)
        if len(encoded) > self.answer_bytes:
            reason = f"the answer takes {len(encoded)} bytes; there is room for {self.answer_bytes}"
            hint = "ask for fewer rows or members, set a smaller limit, or send fewer calls in a batch"
            raise RpcError(TOO_LARGE, {"reason": reason, "hint": hint})
        return encoded
