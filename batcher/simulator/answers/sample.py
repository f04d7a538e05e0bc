"""Values that fit a JSON Schema: tool inputs and structured answers."""

from typing import Any


def value_for(schema: object, depth: int = 0) -> object:
    """A plain value that `schema` accepts; only the usual keywords are understood.

    Without a usable type it is a string; nesting ends at a depth of 8.
    """
    if not isinstance(schema, dict) or depth > 8:
        return "example"
    if "const" in schema:
        return schema["const"]
    for keyword in ("enum", "anyOf", "oneOf", "allOf"):
        choices = schema.get(keyword)
        if isinstance(choices, list) and choices:
            return choices[0] if keyword == "enum" else value_for(choices[0], depth + 1)
    return _typed(schema, depth)


def _typed(schema: dict[str, Any], depth: int) -> object:
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties")
        named = properties.items() if isinstance(properties, dict) else ()
        return {name: value_for(inner, depth + 1) for name, inner in named}
    if kind == "array":
        return [value_for(schema.get("items"), depth + 1)]
    plain = {"integer": 7, "number": 7.5, "boolean": True, "null": None}
    return plain.get(str(kind), "example")
