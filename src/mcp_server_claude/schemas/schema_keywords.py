"""The keywords of JSON Schema (Draft 2020-12), by what they speak of."""

from __future__ import annotations

SCALARS = ("string", "integer", "number", "boolean", "null")
NUMBERS = ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf")
OBJECT = ("properties", "required", "additionalProperties", "patternProperties", "propertyNames", "maxProperties")
ARRAY = ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains")
OF_KIND: dict[str, tuple[str, ...]] = {
    "object": (*OBJECT, "minProperties", "dependentRequired", "dependentSchemas", "unevaluatedProperties"),
    "array": (*ARRAY, "unevaluatedItems"),
    "string": ("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType", "contentSchema"),
    "integer": NUMBERS,
    "number": NUMBERS,
    "boolean": (),
    "null": (),
}
"""The keywords that say something about values of one type; about others they say nothing."""
ANYWHERE = ("not", "if", "then", "else", "anyOf", "oneOf", "enum", "const")
HINTS = ("default", "examples")
TOLD = ("description", "title")
UNHEARD = frozenset({"$anchor", "$comment", "$defs", "$dynamicAnchor", "$vocabulary", "definitions", "deprecated"}) | {
    "readOnly",
    "writeOnly",
}
SHAPES = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "items", "oneOf", "prefixItems", "properties", "type"})
KNOWN = frozenset(key for keys in OF_KIND.values() for key in keys) | {*ANYWHERE, *HINTS, *TOLD, *UNHEARD, *SHAPES}
