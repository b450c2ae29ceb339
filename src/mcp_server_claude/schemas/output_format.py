"""How a normalised schema is asked for: as the format of the output, or as a tool that must be called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.schemas.json_values import as_dict, as_list
from mcp_server_claude.schemas.parse_schema import json_pointer

if TYPE_CHECKING:
    from mcp_server_claude.schemas.normalize_for_api import NormalizedSchema
    from mcp_server_claude.schemas.parse_schema import Json, Schema

MAX_OPTIONAL_PROPERTIES = 24
MAX_UNION_TYPES = 16
TOOL_PARAMETER_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""The names that the API takes for a tool's parameters."""
ANSWER_TOOL_NAME = "answer"


def as_output_format(normalized: NormalizedSchema) -> Schema:
    """The request's `output_config.format`.

    Raises:
        RequestError: the schema passes one of the API's limits.
    """
    if normalized.too_complex:
        raise RequestError(normalized.too_complex)
    return {"type": "json_schema", "schema": normalized.schema}


def as_answer_tool(normalized: NormalizedSchema, *, strict: bool = False) -> Schema:
    """The request's `tools` and `tool_choice` that force an answer where there is no structured output.

    `strict` says that the model takes strict tools; a schema that is too complex for one is sent without.

    Raises:
        RequestError: a property of the root has a name that a tool's parameter cannot have.
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
        "description": "Gives the whole answer, in the form that was asked for.",
        "input_schema": normalized.schema,
    }
    if strict and not normalized.too_complex:
        tool["strict"] = True
    return {
        "tools": [tool],
        "tool_choice": {"type": "tool", "name": ANSWER_TOOL_NAME, "disable_parallel_tool_use": True},
    }


def complexity_problem(schema: Schema) -> str:
    """A sentence on which of the API's limits on compiled schemas is passed; empty where none is. They hold for
    `output_config.format` and strict tools.
    """
    optional = unions = 0
    left: list[Json] = [schema]
    while left:
        match left.pop():
            case dict() as node:
                optional += len(as_dict(node.get("properties"))) - len(as_list(node.get("required")))
                unions += "anyOf" in node or isinstance(node.get("type"), list)
                left += [*as_dict(node.get("properties")).values(), *as_dict(node.get("$defs")).values()]
                left += [*as_list(node.get("anyOf")), node.get("items")]
            case _:
                continue
    if optional > MAX_OPTIONAL_PROPERTIES:
        return (
            f"The schema has {optional} optional properties, Claude takes {MAX_OPTIONAL_PROPERTIES}; require "
            "some of them."
        )
    if unions > MAX_UNION_TYPES:
        return f"The schema has {unions} places with alternative types, Claude takes {MAX_UNION_TYPES}; use fewer."
    return ""
