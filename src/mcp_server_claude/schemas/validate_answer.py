"""Whether an answer is what was asked for, and what to say when it is not."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, time
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, cast

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.schemas.normalize_for_api import WRAPPER_KEY
from mcp_server_claude.schemas.safe_regex import TooHardError, UnsafeError, compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from jsonschema import FormatChecker
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

    from mcp_server_claude.schemas.normalize_for_api import NormalizedSchema
    from mcp_server_claude.schemas.parse_schema import Json

MAX_PROBLEMS = 5
MAX_VALIDATION_ERRORS = 200
MAX_ANSWER_CHARS = 4_000_000
"""Characters; the longest answer of today's models is about half a million."""
MAX_QUOTED_ANSWER_CHARS = 4_000

_FENCE = re.compile(r"\A\s*```[A-Za-z0-9]*[ \t]*\r?\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ](.+)", re.ASCII)
_TIME = re.compile(r"(\d\d:\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(
    r"P(?:\d+W|(?=.)(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?)?)", re.ASCII
)
_HOST = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]*", re.ASCII)


class SchemaMismatchError(Exception):
    """The answer is not what the schema asks for; `problems` are at most five lines, `path: what is wrong`."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def validate_output(text: str, schema: Mapping[str, object], normalized: NormalizedSchema) -> object:
    """The answer as JSON, valid against the schema as it was given.

    Takes text that is one fenced code block and nothing else for what is in it. Formats of `asserted_formats()` are
    asserted.

    Raises:
        Mismatch: the text is not JSON, or not valid.
    """
    answer = _load_answer(text)
    if normalized.wrapped and isinstance(answer, dict) and answer.keys() == {WRAPPER_KEY}:
        answer = answer[WRAPPER_KEY]
    problems: dict[str, None] = {}
    try:
        for error in islice(_validator(schema).iter_errors(answer), MAX_VALIDATION_ERRORS):
            problems[_problem_line(error)] = None
            if len(problems) == MAX_PROBLEMS:
                break
    except RecursionError:
        raise SchemaMismatchError(("the answer: is nested too deeply",)) from None
    except OverflowError:
        raise SchemaMismatchError(("the answer: has a number out of range",)) from None
    if problems:
        raise SchemaMismatchError(tuple(problems))
    return answer


def repair_prompt(problems: tuple[str, ...], answer: str) -> str:
    """The user turn, after the answer's own, that asks for it once more; a short answer is quoted."""
    lines = "\n".join(f"- {problem}" for problem in problems)
    quoted = f"\n<answer>\n{answer.strip()}\n</answer>" if 0 < len(answer.strip()) <= MAX_QUOTED_ANSWER_CHARS else ""
    return (
        f"Your answer does not fit the schema:\n{lines}{quoted}\n"
        "Give the whole answer again with this corrected and everything else as it was: "
        "only the JSON, without any other text."
    )


def asserted_formats() -> FormatChecker:
    """The formats that are asserted, which are those that the API takes: RFC 3339, 1123, 3986, 4122."""
    from jsonschema import FormatChecker

    checker = FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))
    checker.checks("date-time", raises=ValueError)(_is_date_time)
    checker.checks("time", raises=ValueError)(_is_time)
    for name, rule in (("duration", _DURATION), ("hostname", _HOST), ("uri", _URI)):
        checker.checks(name)(partial(_matches_format, rule))
    return checker


def _load_answer(text: str) -> Json:
    if len(text) > MAX_ANSWER_CHARS:
        raise SchemaMismatchError((f"the answer: has more than {MAX_ANSWER_CHARS:,} characters",))
    fenced = _FENCE.match(text)
    try:
        answer = cast(
            "Json",
            json.loads(
                replace_lone_surrogates(fenced[1] if fenced else text),
                parse_constant=_finite_number,
                parse_float=_finite_number,
            ),
        )
        if "\\ud" in text.lower():  # surrogates may also come as escapes
            answer = cast("Json", json.loads(replace_lone_surrogates(json.dumps(answer, ensure_ascii=False))))
    except json.JSONDecodeError as error:
        told = f"is not JSON ({error.msg}, line {error.lineno}, column {error.colno})" if text.strip() else "is empty"
        raise SchemaMismatchError((f"the answer: {told}",)) from None
    except ValueError:
        raise SchemaMismatchError(("the answer: has a number that JSON does not have",)) from None
    except RecursionError:
        raise SchemaMismatchError(("the answer: is nested too deeply",)) from None
    return answer


def _finite_number(number: str) -> float:
    if not math.isfinite(found := float(number)):
        raise ValueError("JSON has no such number")
    return found


def _validator(schema: Mapping[str, object]) -> Validator:
    from referencing.jsonschema import EMPTY_REGISTRY  # without one, a reference to a URL would be fetched

    alone = {key: value for key, value in schema.items() if key not in {"$schema", "$id"}}
    return _validator_class()(alone, registry=EMPTY_REGISTRY, format_checker=asserted_formats())


@lru_cache(maxsize=1)
def _validator_class() -> type[Validator]:
    from jsonschema import Draft202012Validator, validators

    # It has no types of its own.
    found: object = validators.extend  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    extend = cast("Callable[[object, Mapping[str, object]], type[Validator]]", found)
    return extend(Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique_items})


def _pattern(_: object, source: str, value: object, __: object) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(value, str):
        return
    try:
        if not compile_pattern(source).search(value):
            yield ValidationError("does not match its pattern")
    except (TooHardError, UnsafeError):
        yield ValidationError("cannot be checked against its pattern")


def _unique_items(_: object, wanted: object, value: object, __: object) -> Iterator[ValidationError]:
    """By a hash of each item; jsonschema compares every object with every other."""
    from jsonschema.exceptions import ValidationError

    if wanted is True and isinstance(value, list):
        items = cast("list[Json]", value)
        if len({_hashable_key(item) for item in items}) < len(items):
            yield ValidationError("has equal items")


def _hashable_key(value: Json) -> Hashable:
    match value:
        case dict():
            return "object", frozenset((name, _hashable_key(part)) for name, part in value.items())
        case list():
            return "array", tuple(_hashable_key(part) for part in value)
        case bool():
            return "boolean", value
        case _:
            return value


def _problem_line(error: ValidationError) -> str:
    closest = error
    for inner in error.context or ():  # of alternatives, the one that went furthest
        if len(_error_path(inner)) > len(_error_path(closest)):
            closest = inner
    path = ""
    for step in _error_path(closest):
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return f"{_shorten(path) or 'the answer'}: {_problem_text(closest)}"


def _error_path(error: ValidationError) -> list[str | int]:
    return list(cast("Iterable[str | int]", error.absolute_path))  # pyright: ignore[reportUnknownMemberType] - half typed


def _problem_text(error: ValidationError) -> str:
    rule, wanted, found = str(error.validator), cast("Json", error.validator_value), cast("Json", error.instance)
    match rule:
        case "type":
            return f"should be {_alternative_names(wanted)}, is {_json_type_name(found)}"
        case "required":
            missing = [name for name in _as_names(wanted) if name not in _as_names(found)]
            return f"lacks {_shorten(', '.join(missing))}"
        case "additionalProperties" | "unevaluatedProperties":
            return "has properties that the schema does not list"
        case "enum":
            return f"should be one of {_shorten(json.dumps(wanted, ensure_ascii=False))}"
        case "const":
            return f"should be {_shorten(json.dumps(wanted, ensure_ascii=False))}"
        case "anyOf" | "oneOf":
            return "fits none of the alternatives" if error.context else "fits more than one of the alternatives"
        case "format":
            return f"is not a valid {wanted}"
        case "pattern":
            return f"{error.message}, {_shorten(str(wanted))}"
        case "not" | "if" | "then" | "else" | "contains" | "items" | "prefixItems" | "uniqueItems":
            return f"breaks the schema's {rule}"
        case _:
            return f"breaks {rule}: {_shorten(json.dumps(wanted, ensure_ascii=False))}"


def _alternative_names(wanted: Json) -> str:
    return " or ".join(_as_names(wanted)) if isinstance(wanted, list) else str(wanted)


def _as_names(value: Json) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list | dict) else []


def _json_type_name(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _shorten(text: str) -> str:
    told = "".join(char if char.isprintable() else " " for char in text)
    return told if len(told) <= 120 else f"{told[:119]}…"


def _matches_format(rule: re.Pattern[str], value: object) -> bool:
    return not isinstance(value, str) or rule.fullmatch(value) is not None


def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    found = _DATE_TIME.fullmatch(value)
    return found is not None and _is_time(found[1]) and bool(datetime.fromisoformat(value[:10]))


def _is_time(value: object) -> bool:
    """RFC 3339 `full-time`; a leap second is a second."""
    if not isinstance(value, str):
        return True
    found = _TIME.fullmatch(value)
    if found is None or int(found[2]) > 60:
        return False
    zone = "+00:00" if found[4] in "Zz" else found[4]
    return bool(time.fromisoformat(f"{found[1]}:{min(int(found[2]), 59):02}{zone}"))
