"""rpc.discover: an OpenRPC document made from the very Structs that check the params and make the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from atf import __version__
from atf.query.context import Context
from atf.query.errors import INTERNAL_ERROR, INVALID_PARAMS, MESSAGES, TOO_LARGE, TOO_MANY_REQUESTS, TRACE_DAMAGED, TRACE_NOT_FOUND
from atf.query.params import Params, fields_of
from atf.query.rpc import Method

_REFERENCE = "#/components/schemas/{name}"
_ERRORS = (INVALID_PARAMS, INTERNAL_ERROR, TOO_MANY_REQUESTS, TOO_LARGE)
_TRACE_ERRORS = (TRACE_NOT_FOUND, TRACE_DAMAGED)


class Nothing(Params):
    """No params."""


def discover(methods: Callable[[], Iterable[Method]]) -> Method:
    """The method rpc.discover for what `methods()` gives when it is first asked."""
    made: list[msgspec.Raw] = []

    def run(context: Context, params: Nothing) -> msgspec.Raw:
        if not made:
            made.append(msgspec.Raw(msgspec.json.encode(document(methods()))))
        return made[0]

    return Method("rpc.discover", Nothing, dict[str, Any], run, "This document: every method with its params and its result.")


def document(methods: Iterable[Method]) -> dict[str, Any]:
    """The OpenRPC document of these methods, as plain values."""
    methods = list(methods)
    schemas, components = msgspec.json.schema_components(
        [kind for method in methods for kind in (method.params, method.result)], ref_template=_REFERENCE
    )
    said = [_method(method, components[_name(schemas[2 * n])], schemas[2 * n + 1]) for n, method in enumerate(methods)]
    used = _used(said, components)
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "atf query engine",
            "version": __version__,
            "description": "Questions about recorded traces. POST /rpc; answers are bounded, listings are paged by cursors.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "methods": said,
        "components": {"schemas": {name: schema for name, schema in components.items() if name in used}},
    }


def _name(reference: Any) -> str:
    return str(reference.get("$ref", "")).rpartition("/")[2]


def _method(method: Method, params: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    fields, schemas = fields_of(method.params), params["properties"]
    codes = (*_ERRORS, *_TRACE_ERRORS) if any(name.lower().endswith("traceid") for name in fields) else _ERRORS
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": [{"name": name, "required": one.required, "schema": schemas[name]} for name, (one, _) in fields.items()],
        "result": {"name": "result", "schema": result},
        "errors": [{"code": code, "message": MESSAGES[code]} for code in codes],
    }


def _used(said: Any, components: dict[str, Any]) -> set[str]:
    """The names of the components that a value refers to, and those that these refer to."""
    used: set[str] = set()
    left = [said]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            name = _name(value)
            if name and name not in used:
                used.add(name)
                left.append(components[name])
            left += value.values()
        elif isinstance(value, list):
            left += value
    return used
