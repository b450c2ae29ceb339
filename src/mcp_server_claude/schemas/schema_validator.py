"""Validators compiled by jsonschema-rs: no network access, linear-time patterns, a bound on the work of a validation.

Only this module imports jsonschema-rs, which takes about 20 ms to load: callers import it with the first schema.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, cast

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError, ValidationErrorKind

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.schemas.json_values import as_dict, json_type_name, shorten
from mcp_server_claude.schemas.resolve_references import all_subschemas, resolve_reference, subschemas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema_rs import Validator

    from mcp_server_claude.schemas.json_values import Json, Schema, SchemaPath

MAX_PATTERN_BYTES = 1_000_000
"""Size of a compiled pattern. Patterns with look-around or back-references, which need backtracking, do not compile."""
MAX_PATTERNS = 200
PATTERN_COSTS = ((10_000, 1.2), (30_000, 3.0), (100_000, 11.0), (MAX_PATTERN_BYTES, 25.0))
"""Sizes of compiled patterns in bytes, and the microseconds that searching one character takes at most (measured on
jsonschema-rs 0.60.3 with patterns made to be slow, on texts in which every character begins a match)."""
MAX_PATTERN_SEARCH_S = 3.0
"""Patterns are searched while the interpreter's lock is held, so the worst case is bounded before it begins."""
MAX_DIAGNOSED_CHARS = 250_000
"""jsonschema-rs lists all errors or none, and an answer may have one every two characters."""


class InvalidSchemaError(ValueError):
    """The schema cannot be compiled: `path` is the place in it, `reason` what is wrong there."""

    def __init__(self, reason: Literal["schema", "pattern", "patterns", "reference"], path: SchemaPath) -> None:
        super().__init__(reason)
        self.reason: Literal["schema", "pattern", "patterns", "reference"] = reason
        self.path = path


@frozen_dataclass()
class CompiledSchema:
    """A schema ready to validate values; `cost_us` is the time that one character of a value takes at most, in µs."""

    validator: Validator
    cost_us: float

    def list_problems(self, value: Json, chars: int) -> Iterator[str]:
        """Yield a line `path: what is wrong` for each error; none for a valid value. Its JSON has `chars` characters.

        Raises:
            ValueError: The value is nested deeper than 255 levels.
        """
        if chars * self.cost_us > MAX_PATTERN_SEARCH_S * 1e6:
            yield "the answer: is too long to be checked against the patterns of the schema"
        elif not self.validator.is_valid(value):
            if chars > MAX_DIAGNOSED_CHARS:
                yield "the answer: does not fit the schema"
            else:
                yield from map(_problem_line, self.validator.iter_errors(value))


@lru_cache(maxsize=32)
def compile_schema(text: str) -> CompiledSchema:
    """The validator of a schema given as JSON text. It must not be recursive.

    Raises:
        InvalidSchemaError: It is not a schema of Draft 2020-12, refers to another document, or has a pattern that
            cannot be searched in linear time.
    """
    schema = cast("Schema", json.loads(text))
    return CompiledSchema(_build(schema), _cost_per_character(schema, schema, {}))


def check_metaschema(schema: Schema) -> None:
    """Check that a schema is one of Draft 2020-12; it may be recursive.

    Raises:
        InvalidSchemaError: It is not, has a pattern that cannot be searched in linear time, or too many patterns.
    """
    nodes = [node for _, node in all_subschemas(schema, ())]
    if sum(("pattern" in node) + len(as_dict(node.get("patternProperties"))) for node in nodes) > MAX_PATTERNS:
        raise InvalidSchemaError("patterns", ())
    try:
        _build(schema)
    except InvalidSchemaError as error:
        if error.reason != "reference":
            raise


def _build(schema: Schema, max_pattern_bytes: int = MAX_PATTERN_BYTES) -> Validator:
    try:
        # Without `offline` a reference to a URL would be fetched.
        return Draft202012Validator(
            schema, validate_formats=True, offline=True, pattern_options=RegexOptions(size_limit=max_pattern_bytes)
        )
    except ValidationError as error:
        path = tuple(error.instance_path)
        match error.kind:
            case ValidationErrorKind.Referencing():
                raise InvalidSchemaError("reference", path) from None
            case ValidationErrorKind.Format(format="regex"):
                raise InvalidSchemaError("pattern", path) from None
            case _:
                raise InvalidSchemaError("schema", path) from None


def _cost_per_character(schema: Json, root: Schema, known: dict[int, float]) -> float:
    """The time in µs that searching the patterns takes at most for each character of a value.

    Parts that apply to the same value add up; of the properties and the items of a value each has characters of its
    own, so the most expensive counts.
    """
    if not isinstance(schema, dict):
        return 0.0
    key = id(schema)
    if key not in known:
        pattern = schema.get("pattern")
        names = as_dict(schema.get("patternProperties"))
        total = _pattern_cost(pattern) if isinstance(pattern, str) else 0.0
        total += sum(map(_pattern_cost, names))
        listed, positional = 0.0, 0.0
        for (keyword, *_), part in subschemas(schema):
            cost = _cost_per_character(part, root, known)
            match keyword:
                case "properties":
                    listed = max(listed, cost)
                case "prefixItems" | "items":
                    positional = max(positional, cost)
                case _:
                    total += cost
        if "$ref" in schema:
            total += _cost_per_character(resolve_reference(root, str(schema["$ref"])), root, known)
        known[key] = total + max(listed, positional)
    return known[key]


@lru_cache(maxsize=256)
def _pattern_cost(source: str) -> float:
    for size, cost in PATTERN_COSTS:
        try:
            _build({"pattern": source}, size)
        except InvalidSchemaError:
            continue
        return cost
    return PATTERN_COSTS[-1][1]  # compiled within the whole schema, so no dearer than that


def _problem_line(error: ValidationError) -> str:
    closest = _closest(error)
    path = ""
    for step in closest.instance_path:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return f"{shorten(path) or 'the answer'}: {_problem_text(closest)}"


def _closest(error: ValidationError) -> ValidationError:
    """The error of the alternative that went furthest into the value, else the error itself."""
    match error.kind:
        case ValidationErrorKind.AnyOf(context=branches) | ValidationErrorKind.OneOfNotValid(context=branches):
            inner = [_closest(each) for branch in branches for each in branch]
            return max([error, *inner], key=lambda each: len(each.instance_path))
        case _:
            return error


def _problem_text(error: ValidationError) -> str:
    kind = error.kind
    match kind:
        case ValidationErrorKind.Type(types=types):
            return f"should be {' or '.join(types)}, is {json_type_name(error.instance)}"
        case ValidationErrorKind.Required(property=name):
            return f"lacks {shorten(name)}"
        case ValidationErrorKind.AdditionalProperties() | ValidationErrorKind.UnevaluatedProperties():
            return "has properties that the schema does not list"
        case ValidationErrorKind.Enum(options=options):
            return f"should be one of {shorten(json.dumps(options, ensure_ascii=False))}"
        case ValidationErrorKind.Constant(expected_value=value):
            return f"should be {shorten(json.dumps(value, ensure_ascii=False))}"
        case ValidationErrorKind.AnyOf() | ValidationErrorKind.OneOfNotValid():
            return "fits none of the alternatives"
        case ValidationErrorKind.OneOfMultipleValid():
            return "fits more than one of the alternatives"
        case ValidationErrorKind.Format(format=name):
            return f"is not a valid {name}"
        case ValidationErrorKind.Pattern(pattern=source):
            return f"does not match its pattern, {shorten(source)}"
        case ValidationErrorKind.FalseSchema():
            return "is not allowed by the schema"
        case _:
            return f"breaks {kind.name}{_limit(kind.value)}"


def _limit(value: object) -> str:
    return f": {value}" if isinstance(value, int | float) else " of the schema"
