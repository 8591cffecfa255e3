"""A slow check of a value against a JSON schema: the keywords that ours use, and no other."""

_TYPES = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
}  # fmt: skip
_KNOWN = {
    "type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$ref", "$defs", "minimum", "maximum",
    "minLength", "maxLength", "minItems", "maxItems", "prefixItems", "default", "description", "title",
}  # fmt: skip


def faults(value, schema, root=None, place="$"):
    """What is wrong with a value, as strings; none: it fits."""
    root = schema if root is None else root
    if not isinstance(schema, dict):
        return [] if schema is not False else [f"{place}: nothing is allowed"]
    found = [f"{place}: keyword {name} is not known here" for name in schema if name not in _KNOWN]
    if "$ref" in schema:
        found += faults(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, place)
    if "anyOf" in schema and all(faults(value, one, root, place) for one in schema["anyOf"]):
        found.append(f"{place}: fits no option of anyOf")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{place}: {value!r} is not in {schema['enum']}")
    if "const" in schema and value != schema["const"]:
        found.append(f"{place}: {value!r} is not {schema['const']!r}")
    kinds = schema.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds):
            return [*found, f"{place}: {value!r:.50} is no {kinds}"]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{place}: {value} is out of range")
    if isinstance(value, (str, list)):
        low, high = (schema.get(name + ("Length" if isinstance(value, str) else "Items"), len(value)) for name in ("min", "max"))
        if not low <= len(value) <= high:
            found.append(f"{place}: its length is {len(value)}")
    if isinstance(value, dict):
        members = schema.get("properties", {})
        found += [f"{place}: lacks {name}" for name in schema.get("required", ()) if name not in value]
        for name, one in value.items():
            rule = members[name] if name in members else schema.get("additionalProperties", True)
            found += faults(one, rule, root, f"{place}.{name}")
    if isinstance(value, list) and "items" in schema:
        for at, one in enumerate(value):
            found += faults(one, schema["items"], root, f"{place}[{at}]")
    return found
