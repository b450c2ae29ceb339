"""Merges schemas that must all hold into one: `allOf`, and `$ref` with keywords beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.schemas.json_values import as_dict, as_int, as_list, as_strings, is_one_of, json_equal
from mcp_server_claude.schemas.resolve_references import resolve_reference
from mcp_server_claude.schemas.schema_keywords import ANNOTATIONS, IGNORED_KEYWORDS, NON_CONSTRAINTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.schemas.json_values import Json, Schema, SchemaPath


class AllOfMerger:
    """Merges the parts of one schema. `record_dropped` receives place and keyword of what one schema cannot express."""

    def __init__(self, root: Schema, record_dropped: Callable[[SchemaPath, str], None]) -> None:
        self._root = root
        self._record_dropped = record_dropped

    def inline_references(self, schema: Schema, at: SchemaPath) -> Schema | None:
        """An equivalent schema without `$ref` and `allOf` at its top, a weaker one where keywords cannot be merged."""
        if "$ref" not in schema and "allOf" not in schema:
            return schema
        rules: Schema | None = {key: value for key, value in schema.items() if key not in {"$ref", "allOf"}}
        parts: list[Json] = [resolve_reference(self._root, str(schema["$ref"]))] if "$ref" in schema else []
        for part in parts + as_list(schema.get("allOf")):
            if part is False or rules is None:
                return None
            more = self.inline_references(part, at) if isinstance(part, dict) else {}
            rules = None if more is None else self._intersect(rules, more, at)
        return rules

    def _intersect(self, one: Schema, other: Schema, at: SchemaPath) -> Schema | None:
        """One schema that holds where both do; of keywords that cannot be merged, those of `one` count."""
        rules = one | {key: value for key, value in other.items() if key not in one}
        for key in one.keys() & other.keys():
            mine, others = one[key], other[key]
            if key in {*ANNOTATIONS, *NON_CONSTRAINTS, *IGNORED_KEYWORDS} or json_equal(mine, others):
                continue
            match key:
                case "const":
                    return None
                case "prefixItems":
                    self._record_dropped(at, key)
                    del rules[key]
                    rules.pop("items", None)
                case "properties":
                    rules[key] = _merge_properties(as_dict(mine), as_dict(others))
                case "required":
                    rules[key] = [*as_list(mine), *as_list(others)]
                case "items":
                    rules[key] = {"allOf": [mine, others]}
                case "additionalProperties":
                    rules[key] = False if False in (mine, others) else mine if isinstance(mine, dict) else others
                case "minItems":
                    rules[key] = max(as_int(mine), as_int(others))
                case "type":
                    rules[key] = [*_common_types(as_strings(mine), as_strings(others))]
                case "enum":
                    rules[key] = [choice for choice in as_list(mine) if is_one_of(choice, as_list(others))]
                case _:
                    self._record_dropped(at, key)
        return rules


def _merge_properties(mine: Schema, others: Schema) -> Schema:
    merged = mine | others
    for name in mine.keys() & others.keys():
        merged[name] = {"allOf": [mine[name], others[name]]}
    return merged


def _common_types(mine: list[str], others: list[str]) -> list[str]:
    both = [name for name in mine if name in others]
    if "integer" not in both and {"integer", "number"} <= {*mine, *others}:
        both.append("integer")
    return both
