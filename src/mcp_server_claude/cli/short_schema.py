"""The schema of `--schema`: a short form, JSON Schema as text, or a file with either.

The short form lists fields, separated by commas or line ends: `name, age int, tags [str], born? : a year if known`.
Types are str (the default), int, float and bool, `[type]` for a list; `?` marks an optional field, and a colon begins
its description. With line ends between the fields, descriptions may have commas.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

from mcp_server_claude.errors import RequestError

TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
FIELD = re.compile(r"^(?P<name>\w+)(?P<optional>\?)?(?:\s+(?P<type>\[?\w+\]?))?\s*(?::\s*(?P<description>.+))?$")
EXAMPLE = "Write it as `name, age int`, as JSON Schema, or as the path of a file with either."


def parse_schema_option(text: str) -> dict[str, object]:
    """The JSON Schema that an option means.

    Raises:
        RequestError: It is none of the three forms, or the file cannot be read.
    """
    text = text.strip()
    if text.startswith("@") or (text.endswith((".json", ".txt")) and "\n" not in text):
        path = Path(text.removeprefix("@")).expanduser()
        try:
            text = path.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise RequestError(f"The schema file {path} cannot be read: {reason}.") from None
    if text.startswith("{"):
        return _parse_json(text)
    return _parse_fields(text)


def _parse_json(text: str) -> dict[str, object]:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise RequestError(f"The schema is not JSON: {error}.") from None
    return cast("dict[str, object]", value)


def _parse_fields(text: str) -> dict[str, object]:
    parts = [part.strip() for part in re.split(r"\n" if "\n" in text else ",", text)]
    properties: dict[str, object] = {}
    required: list[str] = []
    for part in filter(None, parts):
        found = FIELD.match(part)
        if found is None or found["name"] in properties:
            problem = "is named twice" if found else "is not a field"
            raise RequestError(f"In the schema, {part[:60]!r} {problem}. {EXAMPLE}")
        properties[found["name"]] = _field_schema(found["type"] or "str", found["description"] or "")
        if not found["optional"]:
            required.append(found["name"])
    if not properties:
        raise RequestError(f"The schema is empty. {EXAMPLE}")
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _field_schema(type_name: str, description: str) -> dict[str, object]:
    name = type_name.strip("[]")
    is_list = type_name != name
    if name not in TYPES or (is_list and type_name != f"[{name}]"):
        types = ", ".join(TYPES)
        raise RequestError(f"In the schema, {type_name[:40]!r} is not a type. Types are {types}, and [str] for a list.")
    schema: dict[str, object] = {"type": TYPES[name]}
    if is_list:
        schema = {"type": "array", "items": schema}
    return schema | ({"description": description} if description else {})
