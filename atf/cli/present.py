"""Events and spans as JSON objects, and as the short texts that tables and trees show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atf.cli import text

_VALUE_LENGTH = 40


def function_json(function: Any) -> dict[str, Any]:
    return {"name": function.name, "module": function.module, "file": function.file, "line": function.line}


def event_json(event: Any) -> dict[str, Any]:
    return {
        "timestampNs": event.timestamp_ns,
        "kind": event.kind,
        "function": function_json(event.function) if event.function is not None else None,
        "thread": event.thread,
        "depth": event.depth,
        "indexSeq": event.index_seq,
        "detail": event.detail,
    }


def span_json(span: Any) -> dict[str, Any]:
    return {
        "spanId": span.span_id,
        "function": function_json(span.function),
        "startNs": span.start_ns,
        "endNs": span.end_ns,
        "durationNs": span.duration_ns,
        "activeNs": span.active_ns,
        "selfNs": span.self_ns,
        "depth": span.depth,
        "thread": span.thread,
        "status": span.status,
        "args": span.args,
        "result": span.result,
        "exception": span.exception,
    }


def label(function: Any) -> str:
    """``module.name``; a name that already begins with its module is left alone."""
    if not function.module or function.name.startswith(f"{function.module}."):
        return str(function.name)
    return f"{function.module}.{function.name}"


def brief(value: Any) -> str:
    """A value in one line of bounded length."""
    shown = text.clean(value if isinstance(value, str) else repr(value))
    return shown if len(shown) <= _VALUE_LENGTH else shown[: _VALUE_LENGTH - 1] + "…"


def arguments(args: Any) -> str:
    """``(a=1, b='x')`` of a span's recorded arguments; nothing where none were recorded."""
    if args is None:
        return ""
    if isinstance(args, Mapping):
        return "(" + ", ".join(f"{name}={brief(repr(value))}" for name, value in args.items()) + ")"
    if isinstance(args, (list, tuple)):
        return "(" + ", ".join(brief(repr(value)) for value in args) + ")"
    return f"({brief(repr(args))})"


def exception(value: Any) -> str:
    """``ValueError: message`` of a recorded exception."""
    if isinstance(value, Mapping):
        kind, message = value.get("type"), value.get("message")
        return brief(f"{kind}: {message}" if message else str(kind))
    return brief(value)


def outcome(span: Any) -> str:
    """What a reader must know about how a span ended; empty for one that returned."""
    if span.status == "ok":
        return ""
    if span.status == "exception":
        return f"raised {exception(span.exception)}" if span.exception is not None else "raised"
    return str(span.status)
