"""The form that an answer is to have: a JSON Schema, sent as the model takes it and enforced on what comes back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from mcp_server_claude import schemas
from mcp_server_claude.call_types import COMPLETE
from mcp_server_claude.engine import stop_reasons
from mcp_server_claude.errors import Failure, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.anthropic_api import RequestBody
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.engine.request_loop import Ended


class Form:
    """A schema, and the way in which this model is held to it: structured output where it has that, else a forced tool.

    Raises:
        Refused: The schema has something that cannot be said to the API, or the model can be held to none.
    """

    def __init__(self, schema: Mapping[str, object], model: ClaudeModel) -> None:
        self._schema = schema
        self._normal = schemas.normalize_schema(schema)
        self.by_tool = not model.structured_outputs
        if self.by_tool and not model.accepts_forced_tool:
            raise Refused(
                f"{model.id} cannot be held to a schema: it has no structured outputs here, and a model that thinks "
                "takes no forced tool. Ask another model, or without schema.",
                kind="unsupported",
            )
        self.fill({})  # a limit that the schema passes is told now

    def fill(self, request: RequestBody) -> RequestBody:
        """The request, asking for this form."""
        if self.by_tool:
            return request | schemas.as_answer_tool(self._normal)
        known = cast("dict[str, object]", request.get("output_config") or {})
        return request | {"output_config": known | {"format": schemas.as_output_format(self._normal)}}

    def text_of(self, ended: Ended, text: str) -> str:
        """The JSON of an answer that came to its end.

        Raises:
            Failure: It did not: JSON that was cut is no answer.
        """
        if ended.failure is not None:
            raise ended.failure
        reason = ended.answer.stop_reason
        if reason == "max_tokens":
            raise Refused("max_tokens cut the JSON off. Ask with a larger max_tokens.", kind="max_tokens")
        if self.by_tool and reason == "tool_use":
            given = [block.get("input") for block in ended.blocks if block.get("type") == "tool_use"]
            return json.dumps(given[-1]) if given else ""
        if reason not in COMPLETE:
            why = stop_reasons.without_text(reason, ended.answer.stop_details, max_tokens=ended.max_tokens)
            raise Refused(why, kind=reason or "truncated", request_id=ended.answer.request_id)
        return text

    def check(self, text: str) -> object:
        """The value, valid against the schema as it was given.

        Raises:
            schemas.Mismatch: The text is not JSON, or not valid.
        """
        return schemas.validate_output(text, self._schema, self._normal)


def mismatch(problems: tuple[str, ...]) -> Failure:
    """The failure when also the second answer does not fit."""
    return Refused(
        f"Claude's answer does not fit the schema, also after it was told so: {'; '.join(problems)}. Simplify the "
        "schema, or ask a stronger model.",
        kind="schema_mismatch",
    )
