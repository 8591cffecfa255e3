"""Schemas of tools, made from the Structs that validate the params and carry the results (JSON Schema 2020-12)."""

from __future__ import annotations

from typing import Any

import msgspec

from atf.query.mcp.tools import DEFAULT_TOKENS, GLOSSARY, LEAST_TOKENS, MOST_TOKENS, Tool
from atf.query.rpc import Method

_REF = "#/$defs/"
MAX_TOKENS = {
    "type": "integer",
    "minimum": LEAST_TOKENS,
    "maximum": MOST_TOKENS,
    "default": DEFAULT_TOKENS,
    "description": "how long the answer may be; what does not fit is left for a cursor",
}
NOTE = {"type": "string", "description": "what was left out of this answer, and how to get it"}


def input_schema(tool: Tool, method: Method) -> dict[str, Any]:
    """No references and no nulls: a member that is left out has its default. What a model reads is kept short."""
    (root,), parts = msgspec.json.schema_components([method.params], ref_template=_REF + "{name}")
    schema = _inlined(root, parts, ())
    members = schema.setdefault("properties", {})
    for name in tool.hidden:
        members.pop(name, None)
    members["maxTokens"] = MAX_TOKENS
    for name, value in tool.defaults.items():
        if name in members and isinstance(value, dict):
            for inner, one in value.items():
                members[name]["properties"][inner]["default"] = one
        elif name in members:
            members[name]["default"] = value
    return {**schema, "properties": {name: _switches(member) for name, member in members.items()}}


def _switches(schema: dict[str, Any]) -> dict[str, Any]:
    """An object of many booleans (a projection) in a quarter of the tokens."""
    inside = schema.get("properties", {})
    if len(inside) < 5 or any(one.get("type") != "boolean" for one in inside.values()):
        return schema
    on = ", ".join(name for name, one in inside.items() if one["default"])
    off = ", ".join(name for name, one in inside.items() if not one["default"])
    return {
        "type": "object",
        "additionalProperties": {"type": "boolean"},
        "description": f"{schema.get('description', 'switches')}, as {{name: true or false}}. On: {on}. Off: {off}",
    }


def output_schema(method: Method) -> dict[str, Any]:
    """The result's schema, with its parts in $defs: a result may hold itself (a tree)."""
    (root,), parts = msgspec.json.schema_components([method.result], ref_template=_REF + "{name}")
    name = root["$ref"][len(_REF) :]
    schema = _untitled(parts.pop(name))
    schema["properties"] = {**schema.get("properties", {}), "note": NOTE}
    if f'"{_REF}{name}"' in msgspec.json.encode([schema, parts]).decode():  # it holds itself
        parts[name] = {key: value for key, value in schema.items() if key != "$defs"}
    if parts:
        schema["$defs"] = {key: _untitled(part) for key, part in parts.items()}
    return schema


def _inlined(schema: Any, parts: dict[str, Any], above: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, parts, above) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"][len(_REF) :]
        inner = {"type": "object"} if name in above else _inlined(parts[name], parts, (*above, name))
        rest = {key: value for key, value in schema.items() if key not in ("$ref", "default")}
        return {**inner, **rest}
    options = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(options) < len(schema.get("anyOf", ())):
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return _inlined({**(options[0] if len(options) == 1 else {"anyOf": options}), **rest}, parts, above)
    result = {key: _inlined(value, parts, above) for key, value in schema.items() if key not in ("title", "properties") and value != []}
    if isinstance(result.get("description"), str):
        result["description"] = " ".join(result["description"].split())
    if "properties" in schema:
        result["properties"] = {name: _said(name, _inlined(value, parts, above)) for name, value in schema["properties"].items()}
    return result


def _said(name: str, schema: Any) -> Any:
    return schema if "description" in schema or name not in GLOSSARY else {**schema, "description": GLOSSARY[name]}


def _untitled(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "title"}
