"""The ways to ask for an answer of a schema: an output format, a tool that Claude must call, or words in the prompt."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.schemas.json_values import json_pointer

if TYPE_CHECKING:
    from mcp_server_claude.schemas.json_values import Schema
    from mcp_server_claude.schemas.normalize_for_api import NormalizedSchema

TOOL_PARAMETER_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""Names that the API takes for the parameters of a tool."""
ANSWER_TOOL_NAME = "answer"


def as_output_format(normalized: NormalizedSchema) -> Schema:
    """The request's `output_config.format`.

    Raises:
        RequestError: The schema passes one of the API's limits.
    """
    if normalized.too_complex:
        raise RequestError(normalized.too_complex)
    return {"type": "json_schema", "schema": normalized.schema}


def as_answer_tool(normalized: NormalizedSchema, *, strict: bool = False) -> Schema:
    """The request's `tools` and `tool_choice` that force an answer where there are no structured outputs.

    `strict` makes the tool strict, unless the schema is too complex for that.

    Raises:
        RequestError: A property of the root has a name that a tool's parameter cannot have.
    """
    properties = normalized.schema.get("properties")
    for name in properties if isinstance(properties, dict) else ():
        if not TOOL_PARAMETER_NAME.fullmatch(name):
            place = json_pointer(("properties", name))
            raise RequestError(
                f"The property at {place} may only have letters, digits and _.- in its name, 64 at most."
            )
    tool: Schema = {
        "name": ANSWER_TOOL_NAME,
        "description": "Gives the whole answer in the required form.",
        "input_schema": normalized.schema,
    }
    if strict and not normalized.too_complex:
        tool["strict"] = True
    return {
        "tools": [tool],
        "tool_choice": {"type": "tool", "name": ANSWER_TOOL_NAME, "disable_parallel_tool_use": True},
    }


def as_instruction(normalized: NormalizedSchema) -> str:
    """The end of a prompt that asks for the answer in words, for a schema that is too complex for the API's grammar."""
    schema = json.dumps(normalized.schema, ensure_ascii=False, separators=(",", ":"))
    return f"Answer with JSON alone, without any other text, valid against this JSON Schema:\n<schema>{schema}</schema>"
