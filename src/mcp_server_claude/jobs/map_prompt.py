"""The prompt of `claude_map`: `{item}`, or `{field}` for rows, and what all items share, for the prompt cache."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, cast

from mcp_server_claude.anthropic_api.request_body import MIN_CACHED_SYSTEM_CHARS
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files.item_sources import item_text

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACEHOLDER = re.compile(r"\{([^{}\"\n]{1,80})\}")
ITEM = "item"
MAX_PROMPT_CHARS = 32_000_000
"""Characters of the prompt of one item, more than any request to the API takes: a template can repeat `{item}`."""


def placeholders(template: str, names: Mapping[str, object]) -> set[str]:
    """The placeholders of a template that an item with these values fills."""
    return {name for name in PLACEHOLDER.findall(template) if name == ITEM or name in names}


def item_values(item: Mapping[str, object]) -> dict[str, object]:
    """The values of an item by their placeholder."""
    row = item.get("row")
    if isinstance(row, dict):
        fields = cast("dict[str, object]", row)
        return {ITEM: json.dumps(fields, ensure_ascii=False), **fields}
    return {ITEM: item.get("file") or item.get(ITEM) or ""}


def check_template(template: str, first: Mapping[str, object]) -> None:
    """Refuse a template that names a field which rows do not have.

    Raises:
        RequestError: It does.
    """
    if "row" not in first:
        return
    values = item_values(first)
    for name in PLACEHOLDER.findall(template):
        if name.isidentifier() and name not in values:
            known = ", ".join(sorted(values.keys() - {ITEM}))
            raise RequestError(f"The prompt names {{{name}}}, which the rows do not have. They have: {known}.")


def shared_prefix(template: str) -> str:
    """The part of the prompts that all items share, if it is long enough for the prompt cache; else empty."""
    match = PLACEHOLDER.search(template)
    prefix = template[: match.start()] if match else f"{template}\n\n"
    return prefix if len(prefix) >= MIN_CACHED_SYSTEM_CHARS and prefix.strip() else ""


def cached_chars(template: str, system: str) -> int:
    """The characters at the beginning of every request that are written to the prompt cache."""
    prefix = shared_prefix(template)
    return len(system) + len(prefix) if prefix or len(system) >= MIN_CACHED_SYSTEM_CHARS else 0


def render_prompt(template: str, item: Mapping[str, object]) -> str:
    """The prompt of one item. Without a placeholder the item follows the template; a file is attached instead.

    Raises:
        RequestError: A row lacks a field that the prompt names, or the prompt is too long.
    """
    values = item_values(item)
    if not PLACEHOLDER.search(template) or not placeholders(template, values):
        return template if "file" in item else f"{template}\n\n{values[ITEM]}"
    _check_length(template, values)

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return item_text(values[name])
        if "row" in item and name.isidentifier():
            raise RequestError(f"The row has no field {name!r}.")
        return match[0]

    return PLACEHOLDER.sub(fill, template)


def shortest_template(template: str) -> str:
    """The placeholders of a template alone. Its prompts are shorter by the same number of characters for all items."""
    return "".join(match[0] for match in PLACEHOLDER.finditer(template))


def _check_length(template: str, values: Mapping[str, object]) -> None:
    names = Counter(PLACEHOLDER.findall(template))
    chars = sum(len(item_text(values[name])) * count for name, count in names.items() if name in values)
    if chars > MAX_PROMPT_CHARS:
        raise RequestError(
            f"The prompt of an item would have {chars:,} characters, more than {MAX_PROMPT_CHARS:,}.", kind="too_large"
        )
