"""Events and spans as JSON objects, and as the short texts that tables and trees show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atf.cli import text
from atf.wording import ITEMS, arguments, call, exception, outcome, value

__all__ = ["arguments", "call", "callers", "detail", "event_json", "exception", "function_json", "outcome", "place", "span_json", "value"]

if TYPE_CHECKING:
    from atf.trace_events import Event
    from atf.trace_manifest import Function
    from atf.trace_spans import Span

def function_json(function: Function | None) -> dict[str, Any] | None:
    if function is None:
        return None
    return {"name": function.name, "module": function.module, "file": function.file, "line": function.line}


def event_json(event: Event) -> dict[str, Any]:
    made = {
        "timestamp_ns": event.timestamp_ns,
        "kind": event.kind,
        "function": function_json(event.function),
        "pid": event.thread.process.pid,
        "tid": event.thread.tid,
        "depth": event.depth,
        "index_seq": event.index_seq,
        "detail": event.detail,
    }
    return {**made, "lost": event.lost, "unkept": event.unkept, "reason": event.reason, "depth": 0} if event.kind == "gap" else made


def span_json(span: Span) -> dict[str, Any]:
    parent = span.parent
    return {
        "span_id": span.span_id,
        "parent_id": parent.span_id if parent is not None else None,
        "function": function_json(span.function),
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "duration_ns": span.duration_ns,
        "active_ns": span.active_ns,
        "self_ns": span.self_ns,
        "depth": span.depth,
        "pid": span.thread.process.pid,
        "tid": span.thread.tid,
        "status": span.status,
        "args": span.args,
        "attributes": span.attributes,
        "result": span.result,
        "exception": span.exception,
    }


def detail(recorded: Mapping[str, Any]) -> str:
    """The values that an event carries: arguments, result, exception or attributes."""
    if isinstance(recorded.get("args"), Mapping):
        return arguments(recorded["args"]) + callers(recorded)
    if "registers" in recorded:  # of a native call; without its arguments when they were not asked for
        return f"→ {value(recorded['value'])}" if "value" in recorded else callers(recorded).strip() or value(recorded)
    if "type" in recorded:
        return exception(recorded)
    if isinstance(recorded.get("attributes"), Mapping):
        return arguments(recorded["attributes"])
    return f"→ {value(recorded['value'])}" if list(recorded) == ["value"] else value(recorded)


def callers(recorded: Mapping[str, Any]) -> str:
    """`` ← main+0x1c ← 0x7f…`` of a call that was recorded with its backtrace."""
    walk = recorded.get("backtrace")
    return "" if not isinstance(walk, list) else "".join(f" ← {one['returns_to']}" for one in walk[:ITEMS]) + (" ← …" if len(walk) > ITEMS else "")


def place(file: str, line: int) -> str:
    """``file:line``, the directory shortened away where the line is long; nothing where it is not known."""
    return text.tail(f"{file}:{line}" if line else file, 48)
