"""The check of an answer against its schema, and the message that asks for a corrected answer."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from typing import TYPE_CHECKING, cast

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.schemas.enum_capitals import with_enum_capitals
from mcp_server_claude.schemas.schema_keywords import WRAPPER_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.schemas.json_values import Json, Schema
    from mcp_server_claude.schemas.normalize_for_api import NormalizedSchema

MAX_PROBLEMS = 5
MAX_VALIDATION_ERRORS = 200
MAX_ANSWER_CHARS = 4_000_000
"""The longest answer of today's models has about half a million characters."""
MAX_QUOTED_ANSWER_CHARS = 4_000

_FENCE = re.compile(r"\A\s*```[A-Za-z0-9]*[ \t]*\r?\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)


class SchemaMismatchError(Exception):
    """The answer does not fit the schema; `problems` are at most five lines, `path: what is wrong`."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def validate_output(text: str, schema: Mapping[str, object], normalized: NormalizedSchema) -> object:
    """The answer as JSON, valid against the schema as the caller gave it, formats included.

    Enum values with other capitals are corrected: the API does not guarantee them. A text that is one fenced code block
    and nothing else counts as what the block holds. Takes up to a few seconds for a long answer: run it on a thread.

    Raises:
        SchemaMismatchError: The text is not JSON, or not valid.
    """
    from mcp_server_claude.schemas import schema_validator  # loads jsonschema-rs

    answer = _load_answer(text)
    if normalized.wrapped and isinstance(answer, dict) and answer.keys() == {WRAPPER_KEY}:
        answer = answer[WRAPPER_KEY]
    own = cast("Schema", {key: value for key, value in schema.items() if key not in {"$schema", "$id"}})
    answer = with_enum_capitals(answer, own)
    compiled = schema_validator.compile_schema(json.dumps(own))
    problems: dict[str, None] = {}
    try:
        for problem in islice(compiled.list_problems(answer, len(text)), MAX_VALIDATION_ERRORS):
            problems[problem] = None
            if len(problems) == MAX_PROBLEMS:
                break
    except ValueError:
        raise SchemaMismatchError(("the answer: is nested too deeply",)) from None
    if problems:
        raise SchemaMismatchError(tuple(problems))
    return answer


def repair_prompt(problems: tuple[str, ...], answer: str) -> str:
    """The user turn that requests a corrected answer; a short answer is quoted."""
    lines = "\n".join(f"- {problem}" for problem in problems)
    quoted = f"\n<answer>\n{answer.strip()}\n</answer>" if 0 < len(answer.strip()) <= MAX_QUOTED_ANSWER_CHARS else ""
    return (
        f"Your answer does not fit the schema:\n{lines}{quoted}\n"
        "Give the whole answer again with this corrected and everything else as it was: "
        "only the JSON, without any other text."
    )


def _load_answer(text: str) -> Json:
    if len(text) > MAX_ANSWER_CHARS:
        raise SchemaMismatchError((f"the answer: has more than {MAX_ANSWER_CHARS:,} characters",))
    fenced = _FENCE.match(text)
    try:
        answer = _loads(replace_lone_surrogates(fenced[1] if fenced else text))
        if "\\ud" in text.lower():  # surrogates may also come as escapes
            answer = _loads(replace_lone_surrogates(json.dumps(answer, ensure_ascii=False)))
    except json.JSONDecodeError as error:
        wrong = f"is not JSON ({error.msg}, line {error.lineno}, column {error.colno})" if text.strip() else "is empty"
        raise SchemaMismatchError((f"the answer: {wrong}",)) from None
    except ValueError:
        raise SchemaMismatchError(("the answer: has a number that JSON does not have",)) from None
    except RecursionError:
        raise SchemaMismatchError(("the answer: is nested too deeply",)) from None
    return answer


def _loads(text: str) -> Json:
    return cast("Json", json.loads(text, parse_constant=_finite_number, parse_float=_finite_number))


def _finite_number(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError("JSON has no such number")
    return value
