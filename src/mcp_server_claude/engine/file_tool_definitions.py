"""The definitions of the tools with which Claude explores the project, as requests send them; see `file_tools`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.request_body import RequestBody

TEXT_SCHEMA = {"type": "string"}
INTEGER_SCHEMA = {"type": "integer"}


def _tool_definition(name: str, description: str, required: Sequence[str], **properties: object) -> RequestBody:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"name": name, "description": description, "input_schema": schema}


TOOL_DEFINITIONS: tuple[RequestBody, ...] = (
    _tool_definition(
        "list", "Names in a directory of the project; directories end with a slash.", (), path=TEXT_SCHEMA
    ),
    _tool_definition(
        "glob",
        "Files of the project that a glob matches (`**/*.py`), below the directory `path` where it is given.",
        ("pattern",),
        pattern=TEXT_SCHEMA,
        path=TEXT_SCHEMA,
    ),
    _tool_definition(
        "grep",
        "Lines that a Python regular expression finds, in all files or in `path`: a file, a directory or a glob.",
        ("pattern",),
        pattern=TEXT_SCHEMA,
        path=TEXT_SCHEMA,
    ),
    _tool_definition(
        "read",
        "A text file with its lines numbered, at most 2,000 at once, from and to those of `view_range` ([first, last]; "
        "last 0: the end). Or a PDF or an image.",
        ("file_path",),
        file_path=TEXT_SCHEMA,
        view_range={"type": "array", "items": INTEGER_SCHEMA},
    ),
)

FILE_TOOL_NAMES = frozenset(str(definition["name"]) for definition in TOOL_DEFINITIONS)
