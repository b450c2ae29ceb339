"""The keywords of JSON Schema (Draft 2020-12), grouped by the values that they constrain."""

from __future__ import annotations

SCALAR_TYPES = ("string", "integer", "number", "boolean", "null")
NUMBER_KEYWORDS = ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf")
OBJECT_KEYWORDS = (
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "maxProperties",
)
ARRAY_KEYWORDS = (
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
)
KEYWORDS_BY_TYPE: dict[str, tuple[str, ...]] = {
    "object": (*OBJECT_KEYWORDS, "minProperties", "dependentRequired", "dependentSchemas", "unevaluatedProperties"),
    "array": (*ARRAY_KEYWORDS, "unevaluatedItems"),
    "string": ("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType", "contentSchema"),
    "integer": NUMBER_KEYWORDS,
    "number": NUMBER_KEYWORDS,
    "boolean": (),
    "null": (),
}
"""Keywords that constrain values of one type and allow all others."""
GENERAL_KEYWORDS = ("not", "if", "then", "else", "anyOf", "oneOf", "enum", "const")
NON_CONSTRAINTS = ("default", "examples")
ANNOTATIONS = ("description", "title")
IGNORED_KEYWORDS = frozenset(
    {"$anchor", "$comment", "$defs", "$dynamicAnchor", "$vocabulary", "definitions", "deprecated", "readOnly"}
) | {"writeOnly"}
STRUCTURAL_KEYWORDS = frozenset(
    {"$ref", "allOf", "anyOf", "const", "enum", "items", "oneOf", "prefixItems", "properties", "type"}
)
KNOWN_KEYWORDS = frozenset(key for keys in KEYWORDS_BY_TYPE.values() for key in keys) | {
    *GENERAL_KEYWORDS,
    *NON_CONSTRAINTS,
    *ANNOTATIONS,
    *IGNORED_KEYWORDS,
    *STRUCTURAL_KEYWORDS,
}
WRAPPER_KEY = "value"
"""The property that holds an answer whose schema is not an object."""
