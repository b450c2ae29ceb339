"""Plausible values for a JSON schema: what a tool is called with, what a structured answer says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.simulator.json_body import as_integer, as_list, as_object, as_text

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json, Object

MAX_DEPTH = 12
FORMAT_EXAMPLES = {
    "date": "2026-11-20",
    "date-time": "2026-11-20T09:30:00Z",
    "time": "09:30:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com/page",
    "uuid": "3f1c2b8e-6d52-4a5e-9f0b-7f6f0f6f2a11",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
    "duration": "PT5M",
}


def example_value(schema: Json, words: str) -> Json:
    """A value valid for `schema`, its strings taken from `words`. `pattern`, `not` and `if` are not obeyed."""
    return _example_for(schema, words, as_object(schema), MAX_DEPTH)


def _example_for(schema: Json, words: str, root: Object, depth: int) -> Json:
    rules = _resolve_schema(as_object(schema), root, depth)
    if "const" in rules:
        return rules["const"]
    if choices := as_list(rules.get("enum")):
        return choices[0]
    match _schema_type(rules):
        case "object":
            return _example_object(rules, words, root, depth)
        case "array":
            return _example_array(rules, words, root, depth)
        case "string":
            return _example_string(rules, words)
        case "integer":
            return int(_example_number(rules))
        case "number":
            return _example_number(rules)
        case "boolean":
            return True
        case _:
            return None


def _resolve_schema(rules: Object, root: Object, depth: int) -> Object:
    """The schema with its references, alternatives and conjunctions resolved."""
    for _ in range(depth):
        if reference := as_text(rules.get("$ref")):
            found: Json = root
            for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else []:
                found = as_object(found).get(step.replace("~1", "/").replace("~0", "~"))
            rules = {key: value for key, value in rules.items() if key != "$ref"} | as_object(found)
        elif choices := as_list(rules.get("anyOf")) or as_list(rules.get("oneOf")):
            rest = {key: value for key, value in rules.items() if key not in {"anyOf", "oneOf"}}
            rules = rest | as_object(next((c for c in choices if as_object(c).get("type") != "null"), None))
        elif parts := as_list(rules.get("allOf")):
            rules = {key: value for key, value in rules.items() if key != "allOf"}
            for part in parts:
                more = _resolve_schema(as_object(part), root, depth - 1)
                properties = as_object(rules.get("properties")) | as_object(more.get("properties"))
                required = as_list(rules.get("required")) + as_list(more.get("required"))
                rules = {**rules, **more}
                if properties:
                    rules = {**rules, "properties": properties, "required": required}
        else:
            return rules
    return rules


def _schema_type(rules: Object) -> str:
    kind = rules.get("type")
    if isinstance(kind, list):
        return next((as_text(k) for k in kind if k != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in rules:
        return "object"
    return "array" if "items" in rules else "string"


def _example_object(rules: Object, words: str, root: Object, depth: int) -> Object:
    required = {as_text(name) for name in as_list(rules.get("required"))}
    properties = as_object(rules.get("properties"))
    included = {name: schema for name, schema in properties.items() if name in required or depth > MAX_DEPTH // 2}
    included.update(dict.fromkeys(sorted(required - set(properties))))
    if depth <= 0:
        return {}
    return {
        name: _example_for(
            {"type": "string"} if schema is None else schema, _field_words(schema, words), root, depth - 1
        )
        for name, schema in included.items()
    }


def _example_array(rules: Object, words: str, root: Object, depth: int) -> list[Json]:
    heads = as_list(rules.get("prefixItems"))
    fewest, most = as_integer(rules.get("minItems"), 0), as_integer(rules.get("maxItems"), 2)
    count = 0 if depth <= 0 else max(fewest, len(heads), min(2, most))
    parts = words.split() or ["item"]
    tail = rules.get("items", {"type": "string"})
    return [
        _example_for(heads[n] if n < len(heads) else tail, " ".join(parts[n % len(parts) :]), root, depth - 1)
        for n in range(count)
    ]


def _example_string(rules: Object, words: str) -> str:
    if (kind := as_text(rules.get("format"))) in FORMAT_EXAMPLES:
        return FORMAT_EXAMPLES[kind]
    value = " ".join(words.split()[:8]) or "example"
    value = value[: as_integer(rules.get("maxLength"), 60)].rstrip() or "x"
    return value.ljust(as_integer(rules.get("minLength"), 0), ".")[: as_integer(rules.get("maxLength"), 1_000_000)]


def _example_number(rules: Object) -> float:
    low, high = _bound(rules, "minimum", "exclusiveMinimum", 1), _bound(rules, "maximum", "exclusiveMaximum", -1)
    step = rules.get("multipleOf")
    value = low if low is not None else min(7.0, high) if high is not None else 7.0
    if isinstance(step, int | float) and not isinstance(step, bool) and step > 0:
        value = -(-value // step) * step
    return int(value) if float(value).is_integer() else value


def _bound(rules: Object, closed: str, opened: str, inward: int) -> float | None:
    for key, shift in ((closed, 0), (opened, inward)):
        value = rules.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value + shift
    return None


def _field_words(schema: Json, words: str) -> str:
    """The words for one field: its description when it has one, so that a demo reads sensibly."""
    return as_text(as_object(schema).get("description")) or words
