"""The methods: one question, or a family of questions, a module. Each module has METHODS."""

from __future__ import annotations

from importlib import import_module

from atf.query.openrpc import discover
from atf.query.rpc import Method

MODULES = (
    "trace_info",
    "trace_summary",
    "trace_compare",
    "trace_flamegraph",
    "trace_timeline",
    "events_get",
    "events_detail",
    "events_chain",
    "traces_list",
    "spans_list",
    "spans_tree",
    "spans_path",
    "functions_top",
)


def all_methods() -> list[Method]:
    """Every method, in the order of MODULES, and rpc.discover, which describes them."""
    found: list[Method] = [method for name in MODULES for method in import_module(f"atf.query.methods.{name}").METHODS]
    found.append(discover(lambda: found))
    return found
