"""The producing half in this process: the session it writes to, its Python hooks, and the user's own spans and events."""

from types import TracebackType
from typing import Any, final

from atf._core.shm import Segments

__pyx_capi__: dict[str, object]  # for the collector
LEVEL_CALLS: int
LEVEL_RETURNS: int
LEVEL_C: int
LEVEL_ARGS: int
LEVEL_REPR: int

def open_session(segments: Segments) -> None:
    """Let the producers of this process write to these segments."""

def close_session() -> None:
    """Retire every thread of this process; nothing is written after this."""

def is_open() -> bool:
    """Whether this process has a session to write to."""

def record(kind: int, function_id: int) -> None:
    """Write one bare record: the floor of what a Python-side producer pays."""

def start_hooks(level: int, included: tuple[str, ...], excluded: tuple[str, ...], timed: bool = False) -> None:
    """Put the Python hooks in place: bits of LEVEL_*, globs on module names. UsageError; SessionError when they are taken."""

def stop_hooks(forked: bool = False) -> None:
    """Take the Python hooks out; in a forked child (forked=True) without writing anything."""

def mechanism() -> str:
    """How Python calls are seen: "sys.monitoring", "eval frame", "profile", or "" when not at all."""

def join(agent: bytes, plan: bytes) -> None:
    """Bring the native agent into this process: both sides write one lane from now on. Before open_session; followed by joined.
    InjectionError when it cannot be loaded or does not start."""

def joined(level: int) -> None:
    """The hooks are in place: what this thread calls is recorded natively from here on."""

@final
class Span:
    """``with Span(name, /, **attributes):`` writes a CALL and a RETURN of the user's own name, or an EXCEPTION when an
    exception leaves it. Without a recording it does nothing. UsageError when the name is not a str."""

    def __init__(self, name: str, /, **attributes: Any) -> None: ...
    def __enter__(self) -> Span: ...
    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> bool: ...

def event(name: str, /, **attributes: Any) -> None:
    """Write one INSTANT of the user's own name, with its attributes as a detail. Without a recording it does nothing."""

def kept_event(name: str, /, **attributes: Any) -> None:
    """The same, for what must not be lost: past the rings, which give their oldest away under overload."""
