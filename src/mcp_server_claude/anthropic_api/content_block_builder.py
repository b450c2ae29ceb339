"""One content block of a streamed message, built from its deltas; nothing is joined or parsed before it is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from mcp_server_claude.lone_surrogates import replace_lone_surrogates, without_lone_surrogates
from mcp_server_claude.text_log import TextPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.text_log import TextLog


TEXT_FIELDS = ("text", "thinking", "signature", "data")
"""The fields of a block that are texts, of whatever type the block is."""


def is_text_in_fields(fields: Mapping[str, object]) -> bool:
    """True if the fields of a new block that must be texts are texts, null or absent."""
    return all(isinstance(fields.get(name), str | None) for name in TEXT_FIELDS)


class ContentBlockBuilder:
    """A content block under construction: its fields, and the deltas that came so far."""

    __slots__ = ("citations", "fields", "parts")

    def __init__(self, fields: dict[str, object]) -> None:
        """`fields` are those of the block's start. Citations that are no objects are left out."""
        if fields.get("citations") is not None:
            cited = fields["citations"]
            entries = cast("list[object]", cited) if isinstance(cited, list) else []
            fields = {**fields, "citations": [each for each in entries if isinstance(each, dict)]}
        # A block with lone surrogates could not be sent back with its thread. Texts are joined with their deltas first.
        self.fields = {
            name: value if name in TEXT_FIELDS else without_lone_surrogates(value) for name, value in fields.items()
        }
        self.parts: dict[str, TextPart] = {}
        self.citations: list[object] = []

    def append(self, name: str, piece: str) -> None:
        """Append the text of a delta to a field."""
        self._part(name).append(piece)

    def append_logged_text(self, piece: str, log: TextLog, start: int) -> None:
        """Append the text of a delta to the field `text`. If it was appended to `log` at `start`, no copy is held."""
        self._part("text").append_logged(piece, log, start)

    def _part(self, name: str) -> TextPart:
        part = self.parts.get(name)
        if part is None:
            part = self.parts[name] = TextPart()
        return part

    def append_unknown_delta(self, delta: Mapping[str, object]) -> None:
        """Append every string field of an unknown delta, as newer APIs may add, to the field of that name."""
        for name, value in delta.items():
            if name != "type" and isinstance(value, str):
                self.append(name, value)

    def build_block(self) -> dict[str, object]:
        """The block as the API would have sent it in one piece."""
        fields = dict(self.fields)
        for name, part in self.parts.items():
            if name == "partial_json":
                fields["input"] = _parse_tool_input(part.whole())
            else:
                # Deltas may split surrogate pairs; a block that holds the halves could not be sent back.
                fields[name] = replace_lone_surrogates(str(fields.get(name) or "") + part.whole())
        if self.citations:
            fields["citations"] = [*cast("list[object]", fields.get("citations") or []), *self.citations]
        for name in TEXT_FIELDS:
            if name in fields and name not in self.parts:
                fields[name] = without_lone_surrogates(fields[name])
        return fields

    def append_citation(self, citation: dict[str, object]) -> None:
        """Append a citation to those of the block."""
        self.citations.append(without_lone_surrogates(citation))


def _parse_tool_input(text: str) -> object:
    """A tool's input. If `max_tokens` cut it, the part that can be parsed, as the SDK's own helper returns it."""
    try:
        return without_lone_surrogates(json.loads(text)) if text else {}
    except (ValueError, RecursionError):
        import jiter  # comes with anthropic

        try:
            return cast("object", jiter.from_json(replace_lone_surrogates(text).encode(), partial_mode=True))
        except ValueError:
            return {}
