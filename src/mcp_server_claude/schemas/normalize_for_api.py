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

from mcp_server_claude.errors import Refused
from mcp_server_claude.schemas.json_values import as_dict, as_int, as_list, as_strings, is_kind, is_one_of
from mcp_server_claude.schemas.merge_all_of import Merging
from mcp_server_claude.schemas.output_format import complexity
from mcp_server_claude.schemas.parse_schema import MOST_NODES, Json, Path, Schema, follow, parse, pointer
from mcp_server_claude.schemas.schema_keywords import ANYWHERE, HINTS, KNOWN, OF_KIND, SCALARS, SHAPES, TOLD, UNHEARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)
"""The string formats that the API takes."""
VALUE = "value"

LONGEST_HINT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
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


def normalise(schema: Mapping[str, object]) -> Normalised:
    """The schema as the API takes it: whatever is valid against `schema` stays valid, but for properties not listed.

    Raises:
        Refused: it is not a schema, or has something that cannot be said to the API, named with its place.
    """
    root = parse(schema)
    work = _Work(root)
    top = work.merging.inlined(root, ())
    found = None if top is None else work.node(top, ())
    if found is None:
        raise Refused("No answer can be valid against the schema.")
    wrapped = found.get("type") != "object"
    sent: Schema = {"type": "object", "properties": {VALUE: found}, "required": [VALUE], "additionalProperties": False}
    if not wrapped:
        sent = found
    if work.defs:
        sent["$defs"] = work.defs
    return Normalised(schema=sent, dropped=tuple(work.dropped), wrapped=wrapped, too_complex=complexity(sent))


class _Work:
    """One schema being rewritten. Its methods return None for a schema that no value fits."""

    def __init__(self, root: Schema) -> None:
        self.defs: Schema = {}
        self.dropped: dict[str, None] = {}
        self.merging = Merging(root, self._drop)
        self._root = root
        self._names: dict[str, str | None] = {}
        self._nodes = 0

    def node(self, schema: Json, at: Path) -> Schema | None:
        if schema is False:
            return None
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise Refused("The schema is too complex: its alternatives multiply.")
        given: Schema = schema if isinstance(schema, dict) else {}
        if set(given) - UNHEARD == {"$ref"}:
            name = self._defined(str(given["$ref"]), at)
            return None if name is None else {"$ref": f"#/$defs/{name}"}
        rules = self.merging.inlined(given, at)
        if rules is None:
            return None
        for key in rules.keys() - KNOWN:
            self._drop(at, key)
        if "enum" in rules or "const" in rules:
            return self._literals(rules, at)
        if "anyOf" in rules or "oneOf" in rules:
            return self._alternatives(rules, at)
        return self._typed(rules, at)

    def _defined(self, reference: str, at: Path) -> str | None:
        """The name under which the target of a reference is sent; every target is sent once."""
        if reference not in self._names:
            last = re.sub(r"[^A-Za-z0-9_.-]", "_", reference.rsplit("/", 1)[-1])[:48] or "def"
            name = next(n for n in (last, *(f"{last}_{k}" for k in range(2, MOST_NODES))) if n not in self.defs)
            self.defs[name] = None  # the name is taken, also for what the target refers to
            found = self.node(follow(self._root, reference), (*at, "$ref"))
            if found is None:
                del self.defs[name]
            else:
                self.defs[name] = found
            self._names[reference] = None if found is None else name
        return self._names[reference]

    def _literals(self, rules: Schema, at: Path) -> Schema | None:
        choices = [rules["const"]] if "const" in rules else as_list(rules.get("enum"))
        if "const" in rules and "enum" in rules:
            choices = [choice for choice in choices if is_one_of(choice, as_list(rules["enum"]))]
        if "type" in rules:
            choices = [choice for choice in choices if any(is_kind(choice, kind) for kind in as_strings(rules["type"]))]
        if any(isinstance(choice, dict | list) for choice in choices):
            key = "const" if "const" in rules else "enum"
            where = pointer((*at, key))
            raise Refused(f"The schema may list only strings, numbers, booleans and null at {where}.")
        if not choices:
            return None
        # Without a type: the API refuses an enum beside a list of types, and it says nothing more.
        sent: Schema = {"const": choices[0]} if "const" in rules else {"enum": choices}
        return self._described(sent, rules, at, said={"enum", "const", "type"}, kinds=("object", "array", *SCALARS))

    def _alternatives(self, rules: Schema, at: Path) -> Schema | None:
        key = "anyOf" if "anyOf" in rules else "oneOf"
        branches = as_list(rules[key])
        rest = {name: value for name, value in rules.items() if name not in {key, *TOLD, *HINTS}}
        shaped = rest.keys() & (SHAPES | {"required"})
        if shaped and not any(SHAPES & branch.keys() for branch in branches if isinstance(branch, dict)):
            return self._typed(rules, at)  # the alternatives only add conditions to what is already said
        if key == "oneOf":
            self._drop(at, key)
        sent: list[Json] = []
        for n, branch in enumerate(branches):
            if branch is False:
                continue
            merged: Json = {"allOf": [branch, rest]} if rest.keys() - UNHEARD else branch
            found = self.node(merged, (*at, key, n))
            if found is not None and found not in sent:
                sent.append(found)
        if not sent:
            return None
        if len(sent) == 1 and isinstance(sent[0], dict) and not rules.keys() & {*TOLD, *HINTS}:
            return sent[0]
        return self._described({"anyOf": sent}, rules, at, said=set(rules) - {*TOLD, *HINTS}, kinds=())

    def _typed(self, rules: Schema, at: Path) -> Schema | None:
        kinds = as_strings(rules["type"]) if "type" in rules else _implied(rules)
        if "type" not in rules and not kinds:
            raise Refused(f"The schema has no type at {pointer(at)}; say which one it is.")
        if "number" in kinds:
            kinds = [kind for kind in kinds if kind != "integer"]
        if not kinds:
            return None
        if len(kinds) == 1:
            return self._kind(kinds[0], rules, at)
        if set(kinds) <= set(SCALARS) and not ("string" in kinds and "format" in rules):
            return self._described({"type": [*kinds]}, rules, at, said={"type"}, kinds=kinds)
        bare = {key: value for key, value in rules.items() if key not in {*TOLD, *HINTS}}
        found = [self._kind(kind, bare, at) for kind in kinds]
        sent: list[Json] = [each for each in found if each is not None]
        if not sent:
            return None
        return self._described({"anyOf": sent}, rules, at, said=set(rules) - {*TOLD, *HINTS}, kinds=())

    def _kind(self, kind: str, rules: Schema, at: Path) -> Schema | None:
        match kind:
            case "object":
                return self._object(rules, at)
            case "array":
                return self._array(rules, at)
            case "string" if rules.get("format") in FORMATS:
                sent: Schema = {"type": kind, "format": rules["format"]}
                return self._described(sent, rules, at, said={"type", "format"}, kinds=(kind,))
            case _:
                return self._described({"type": kind}, rules, at, said={"type"}, kinds=(kind,))

    def _object(self, rules: Schema, at: Path) -> Schema | None:
        extra, listed = rules.get("additionalProperties", True), as_dict(rules.get("properties"))
        closed = extra is False or rules.get("unevaluatedProperties") is False
        if extra not in (True, False, {}) or rules.get("patternProperties"):
            raise Refused(
                f"The schema takes properties by any name at {pointer(at)}, which Claude cannot be held to; "
                "list the properties, or take an array of objects with a name and a value."
            )
        if not listed and not closed:
            raise Refused(f"The schema lists no properties of the object at {pointer(at)}; list them.")
        required = [name for name in as_list(rules.get("required")) if isinstance(name, str)]
        for name in required:
            if name not in listed and not closed:
                raise Refused(f"The schema requires a property that it does not list at {pointer(at)}.")
        found = {name: self.node(part, (*at, "properties", name)) for name, part in listed.items()}
        properties: Schema = {name: part for name, part in found.items() if part is not None}
        if not properties.keys() >= set(required):
            return None
        sent: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            sent["required"] = [*dict.fromkeys(required)]
        if "additionalProperties" in rules and extra is not False:
            self._drop(at, "additionalProperties")
        said = {"type", "properties", "required", "additionalProperties", "patternProperties"}
        if closed:
            said.add("unevaluatedProperties")
        return self._described(sent, rules, at, said=said, kinds=("object",))

    def _array(self, rules: Schema, at: Path) -> Schema | None:
        sent: Schema = {"type": "array"}
        said, fewest = {"type", "items"}, as_int(rules.get("minItems", 0))
        parts: list[tuple[Path, Json]] = [
            ((*at, "prefixItems", n), part) for n, part in enumerate(as_list(rules.get("prefixItems")))
        ]
        if "items" in rules:
            parts.append(((*at, "items"), rules["items"]))
        if parts and not any(part is True or (isinstance(part, dict) and not part) for _, part in parts):
            found = [self.node(part, place) for place, part in parts]
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
        return self._described(sent, rules, at, said=said, kinds=("array",))

    def _described(self, sent: Schema, rules: Schema, at: Path, *, said: Iterable[str], kinds: Iterable[str]) -> Schema:
        """What is sent with its title and description, and in the description what else the schema says of it."""
        about = {key for kind in kinds for key in OF_KIND[kind]} | {*ANYWHERE}
        unsaid = [key for key in rules if key in about and key not in said]
        hints = [_hint(key, rules[key]) for key in rules if key in unsaid or key in HINTS]
        for key in unsaid:
            self._drop(at, key)
        for key in TOLD:
            if isinstance(rules.get(key), str):
                sent[key] = rules[key]
        if hints:
            told = sent.get("description")
            sent["description"] = (f"{told}\n\n" if told else "") + "{" + ", ".join(hints) + "}"
        return sent

    def _drop(self, at: Path, key: str) -> None:
        self.dropped[pointer((*at, key))] = None


def _implied(rules: Schema) -> list[str]:
    """The type that the keywords speak of, where none is given."""
    found = [kind for kind in ("object", "array", "string", "number") if any(key in rules for key in OF_KIND[kind])]
    return found if len(found) == 1 else []


def _hint(key: str, value: Json) -> str:
    told = json.dumps(value, ensure_ascii=False)
    return f"{key}: {told if len(told) <= LONGEST_HINT else told[: LONGEST_HINT - 1] + '…'}"
