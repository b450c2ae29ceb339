"""A schema as Claude's structured output takes it.

The source of the rules is platform.claude.com/docs, "Structured outputs": "JSON Schema limitations" and "Schema
complexity limits" (as of November 2026), with what the SDK's `transform_schema` does and with the API's own messages
where the page is silent: "Schema type 'oneOf' is not supported", "Schema type is missing", "Enum value … does not match
declared type", "For 'array' type, property 'maxItems' is not supported", "For 'object' type, property 'strict' …".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.schemas.json_values import as_dict, as_int, as_list, as_strings, is_json_type, is_one_of
from mcp_server_claude.schemas.merge_all_of import AllOfMerger
from mcp_server_claude.schemas.output_format import complexity_problem
from mcp_server_claude.schemas.parse_schema import (
    MAX_SCHEMA_NODES,
    Json,
    Schema,
    SchemaPath,
    json_pointer,
    parse_json_schema,
    resolve_reference,
)
from mcp_server_claude.schemas.schema_keywords import (
    ANNOTATIONS,
    GENERAL_KEYWORDS,
    IGNORED_KEYWORDS,
    KEYWORDS_BY_TYPE,
    KNOWN_KEYWORDS,
    NON_CONSTRAINTS,
    SCALAR_TYPES,
    STRUCTURAL_KEYWORDS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

API_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)
"""The string formats that the API takes."""
WRAPPER_KEY = "value"

MAX_HINT_CHARS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedSchema:
    """What is sent: `schema`, always an object at its root.

    `dropped` names, as JSON pointers, the keywords that are not sent: they stand in descriptions as far as they are
    constraints, and `check` enforces them. `wrapped` says that the answer proper is the property `value`.
    `too_complex` is empty, or a sentence on which of the API's limits on compiled schemas is passed; they hold for
    `output_config.format` and strict tools.
    """

    schema: Schema
    dropped: tuple[str, ...] = ()
    wrapped: bool = False
    too_complex: str = ""


def normalize_schema(schema: Mapping[str, object]) -> NormalizedSchema:
    """The schema as the API takes it: whatever is valid against `schema` stays valid, but for properties not listed.

    Raises:
        RequestError: it is not a schema, or has something that cannot be said to the API, named with its place.
    """
    root = parse_json_schema(schema)
    work = _Normalizer(root)
    top = work.merger.inline_references(root, ())
    found = None if top is None else work.normalize_node(top, ())
    if found is None:
        raise RequestError("No answer can be valid against the schema.")
    wrapped = found.get("type") != "object"
    sent: Schema = {
        "type": "object",
        "properties": {WRAPPER_KEY: found},
        "required": [WRAPPER_KEY],
        "additionalProperties": False,
    }
    if not wrapped:
        sent = found
    if work.defs:
        sent["$defs"] = work.defs
    return NormalizedSchema(
        schema=sent, dropped=tuple(work.dropped), wrapped=wrapped, too_complex=complexity_problem(sent)
    )


class _Normalizer:
    """One schema being rewritten. Its methods return None for a schema that no value fits."""

    def __init__(self, root: Schema) -> None:
        self.defs: Schema = {}
        self.dropped: dict[str, None] = {}
        self.merger = AllOfMerger(root, self._record_dropped)
        self._root = root
        self._names: dict[str, str | None] = {}
        self._nodes = 0

    def normalize_node(self, schema: Json, at: SchemaPath) -> Schema | None:
        if schema is False:
            return None
        self._nodes += 1
        if self._nodes > MAX_SCHEMA_NODES:
            raise RequestError("The schema is too complex: its alternatives multiply.")
        given: Schema = schema if isinstance(schema, dict) else {}
        if set(given) - IGNORED_KEYWORDS == {"$ref"}:
            name = self._definition_name(str(given["$ref"]), at)
            return None if name is None else {"$ref": f"#/$defs/{name}"}
        rules = self.merger.inline_references(given, at)
        if rules is None:
            return None
        for key in rules.keys() - KNOWN_KEYWORDS:
            self._record_dropped(at, key)
        if "enum" in rules or "const" in rules:
            return self._normalize_literals(rules, at)
        if "anyOf" in rules or "oneOf" in rules:
            return self._normalize_alternatives(rules, at)
        return self._normalize_typed(rules, at)

    def _definition_name(self, reference: str, at: SchemaPath) -> str | None:
        """The name under which the target of a reference is sent; every target is sent once."""
        if reference not in self._names:
            last = re.sub(r"[^A-Za-z0-9_.-]", "_", reference.rsplit("/", 1)[-1])[:48] or "def"
            name = next(n for n in (last, *(f"{last}_{k}" for k in range(2, MAX_SCHEMA_NODES))) if n not in self.defs)
            self.defs[name] = None  # the name is taken, also for what the target refers to
            found = self.normalize_node(resolve_reference(self._root, reference), (*at, "$ref"))
            if found is None:
                del self.defs[name]
            else:
                self.defs[name] = found
            self._names[reference] = None if found is None else name
        return self._names[reference]

    def _normalize_literals(self, rules: Schema, at: SchemaPath) -> Schema | None:
        choices = [rules["const"]] if "const" in rules else as_list(rules.get("enum"))
        if "const" in rules and "enum" in rules:
            choices = [choice for choice in choices if is_one_of(choice, as_list(rules["enum"]))]
        if "type" in rules:
            choices = [
                choice for choice in choices if any(is_json_type(choice, kind) for kind in as_strings(rules["type"]))
            ]
        if any(isinstance(choice, dict | list) for choice in choices):
            key = "const" if "const" in rules else "enum"
            where = json_pointer((*at, key))
            raise RequestError(f"The schema may list only strings, numbers, booleans and null at {where}.")
        if not choices:
            return None
        # Without a type: the API refuses an enum beside a list of types, and it says nothing more.
        sent: Schema = {"const": choices[0]} if "const" in rules else {"enum": choices}
        return self._add_annotations(
            sent, rules, at, expressed={"enum", "const", "type"}, type_names=("object", "array", *SCALAR_TYPES)
        )

    def _normalize_alternatives(self, rules: Schema, at: SchemaPath) -> Schema | None:
        key = "anyOf" if "anyOf" in rules else "oneOf"
        branches = as_list(rules[key])
        rest = {name: value for name, value in rules.items() if name not in {key, *ANNOTATIONS, *NON_CONSTRAINTS}}
        shaped = rest.keys() & (STRUCTURAL_KEYWORDS | {"required"})
        if shaped and not any(STRUCTURAL_KEYWORDS & branch.keys() for branch in branches if isinstance(branch, dict)):
            return self._normalize_typed(rules, at)  # the alternatives only add conditions to what is already said
        if key == "oneOf":
            self._record_dropped(at, key)
        sent: list[Json] = []
        for n, branch in enumerate(branches):
            if branch is False:
                continue
            merged: Json = {"allOf": [branch, rest]} if rest.keys() - IGNORED_KEYWORDS else branch
            found = self.normalize_node(merged, (*at, key, n))
            if found is not None and found not in sent:
                sent.append(found)
        if not sent:
            return None
        if len(sent) == 1 and isinstance(sent[0], dict) and not rules.keys() & {*ANNOTATIONS, *NON_CONSTRAINTS}:
            return sent[0]
        return self._add_annotations(
            {"anyOf": sent}, rules, at, expressed=set(rules) - {*ANNOTATIONS, *NON_CONSTRAINTS}, type_names=()
        )

    def _normalize_typed(self, rules: Schema, at: SchemaPath) -> Schema | None:
        kinds = as_strings(rules["type"]) if "type" in rules else _implied_types(rules)
        if "type" not in rules and not kinds:
            raise RequestError(f"The schema has no type at {json_pointer(at)}; say which one it is.")
        if "number" in kinds:
            kinds = [kind for kind in kinds if kind != "integer"]
        if not kinds:
            return None
        if len(kinds) == 1:
            return self._normalize_type(kinds[0], rules, at)
        if set(kinds) <= set(SCALAR_TYPES) and not ("string" in kinds and "format" in rules):
            return self._add_annotations({"type": [*kinds]}, rules, at, expressed={"type"}, type_names=kinds)
        bare = {key: value for key, value in rules.items() if key not in {*ANNOTATIONS, *NON_CONSTRAINTS}}
        found = [self._normalize_type(kind, bare, at) for kind in kinds]
        sent: list[Json] = [each for each in found if each is not None]
        if not sent:
            return None
        return self._add_annotations(
            {"anyOf": sent}, rules, at, expressed=set(rules) - {*ANNOTATIONS, *NON_CONSTRAINTS}, type_names=()
        )

    def _normalize_type(self, type_name: str, rules: Schema, at: SchemaPath) -> Schema | None:
        match type_name:
            case "object":
                return self._normalize_object(rules, at)
            case "array":
                return self._normalize_array(rules, at)
            case "string" if rules.get("format") in API_FORMATS:
                sent: Schema = {"type": type_name, "format": rules["format"]}
                return self._add_annotations(sent, rules, at, expressed={"type", "format"}, type_names=(type_name,))
            case _:
                return self._add_annotations(
                    {"type": type_name}, rules, at, expressed={"type"}, type_names=(type_name,)
                )

    def _normalize_object(self, rules: Schema, at: SchemaPath) -> Schema | None:
        extra, listed = rules.get("additionalProperties", True), as_dict(rules.get("properties"))
        closed = extra is False or rules.get("unevaluatedProperties") is False
        if extra not in (True, False, {}) or rules.get("patternProperties"):
            raise RequestError(
                f"The schema takes properties by any name at {json_pointer(at)}, which Claude cannot be held to; "
                "list the properties, or take an array of objects with a name and a value."
            )
        if not listed and not closed:
            raise RequestError(f"The schema lists no properties of the object at {json_pointer(at)}; list them.")
        required = [name for name in as_list(rules.get("required")) if isinstance(name, str)]
        for name in required:
            if name not in listed and not closed:
                raise RequestError(f"The schema requires a property that it does not list at {json_pointer(at)}.")
        found = {name: self.normalize_node(part, (*at, "properties", name)) for name, part in listed.items()}
        properties: Schema = {name: part for name, part in found.items() if part is not None}
        if not properties.keys() >= set(required):
            return None
        sent: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            sent["required"] = [*dict.fromkeys(required)]
        if "additionalProperties" in rules and extra is not False:
            self._record_dropped(at, "additionalProperties")
        said = {"type", "properties", "required", "additionalProperties", "patternProperties"}
        if closed:
            said.add("unevaluatedProperties")
        return self._add_annotations(sent, rules, at, expressed=said, type_names=("object",))

    def _normalize_array(self, rules: Schema, at: SchemaPath) -> Schema | None:
        sent: Schema = {"type": "array"}
        said, fewest = {"type", "items"}, as_int(rules.get("minItems", 0))
        parts: list[tuple[SchemaPath, Json]] = [
            ((*at, "prefixItems", n), part) for n, part in enumerate(as_list(rules.get("prefixItems")))
        ]
        if "items" in rules:
            parts.append(((*at, "items"), rules["items"]))
        if parts and not any(part is True or (isinstance(part, dict) and not part) for _, part in parts):
            found = [self.normalize_node(part, place) for place, part in parts]
            kinds: list[Json] = []
            for each in found:
                if each is not None and each not in kinds:
                    kinds.append(each)
            if len(kinds) == 1:
                sent["items"] = kinds[0]
            elif kinds:
                sent["items"] = {"anyOf": kinds}
            elif fewest > 0:
                return None
        if fewest > 0:
            sent["minItems"] = 1
        if fewest <= 1:
            said.add("minItems")
        return self._add_annotations(sent, rules, at, expressed=said, type_names=("array",))

    def _add_annotations(
        self, sent: Schema, rules: Schema, at: SchemaPath, *, expressed: Iterable[str], type_names: Iterable[str]
    ) -> Schema:
        """What is sent with its title and description, and in the description what else the schema says of it."""
        about = {key for kind in type_names for key in KEYWORDS_BY_TYPE[kind]} | {*GENERAL_KEYWORDS}
        unsaid = [key for key in rules if key in about and key not in expressed]
        hints = [_constraint_hint(key, rules[key]) for key in rules if key in unsaid or key in NON_CONSTRAINTS]
        for key in unsaid:
            self._record_dropped(at, key)
        for key in ANNOTATIONS:
            if isinstance(rules.get(key), str):
                sent[key] = rules[key]
        if hints:
            told = sent.get("description")
            sent["description"] = (f"{told}\n\n" if told else "") + "{" + ", ".join(hints) + "}"
        return sent

    def _record_dropped(self, at: SchemaPath, key: str) -> None:
        self.dropped[json_pointer((*at, key))] = None


def _implied_types(rules: Schema) -> list[str]:
    """The type that the keywords speak of, where none is given."""
    found = [
        kind for kind in ("object", "array", "string", "number") if any(key in rules for key in KEYWORDS_BY_TYPE[kind])
    ]
    return found if len(found) == 1 else []


def _constraint_hint(key: str, value: Json) -> str:
    told = json.dumps(value, ensure_ascii=False)
    return f"{key}: {told if len(told) <= MAX_HINT_CHARS else told[: MAX_HINT_CHARS - 1] + '…'}"
