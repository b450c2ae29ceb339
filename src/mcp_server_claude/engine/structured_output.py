"""Structured output: a JSON Schema sent in the form that the model supports, and enforced on the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mcp_server_claude import schemas
from mcp_server_claude.call_types import COMPLETE_STOP_REASONS, THINKING_BLOCK_TYPES
from mcp_server_claude.engine import stop_reasons
from mcp_server_claude.errors import CallError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.call_types import Block
    from mcp_server_claude.engine.loop_outcome import LoopOutcome


REFUSED_SCHEMA_REASONS = {
    "schema_too_complex": "The schema's compiled grammar is too large for the Messages API",
    "schema_with_citations": "The Messages API does not allow a schema together with the citations of web tools",
}
"""The reasons for which the API refuses a schema that can be asked for in words instead, by error kind."""


class OutputSchema:
    """A schema for one model: sent as structured output where the model has it, else as a forced tool.

    A schema that is too complex for structured output is asked for in the prompt: one beyond the documented limits from
    the start, one whose compiled grammar is too large once the API says so. The answer is validated in each case.

    Raises:
        RequestError: The API cannot express the schema, or the model supports neither form.
    """

    def __init__(
        self, schema: Mapping[str, object], model: ClaudeModel, normalized: schemas.NormalizedSchema | None = None
    ) -> None:
        self._schema = schema
        self._model = model
        self._normalized = normalized or schemas.normalize_schema(schema)
        self.uses_answer_tool = not model.structured_outputs
        if self.uses_answer_tool and not model.accepts_forced_tool:
            raise RequestError(
                f"{model.id} does not support a schema: it has no structured outputs here, and a model that thinks "
                "accepts no forced tool. Ask another model, or without a schema.",
                kind="unsupported",
            )
        self._is_in_prompt = bool(self._normalized.too_complex) and not self.uses_answer_tool
        self.apply_to({})  # raises for a schema beyond the API's limits

    def for_model(self, model: ClaudeModel) -> OutputSchema:
        """The same schema for another model, without normalizing it again.

        Raises:
            RequestError: That model takes no schema.
        """
        return OutputSchema(self._schema, model, self._normalized)

    def in_prompt(self, refusal: CallError) -> OutputSchema | None:
        """The same schema asked for in the prompt, after the API refused it; None where it is not sent as a format."""
        if self._is_in_prompt or self.uses_answer_tool:
            return None
        refused = replace(self._normalized, too_complex=REFUSED_SCHEMA_REASONS[refusal.kind])
        return OutputSchema(self._schema, self._model, refused)

    def add_instruction(self, prompt: str) -> str:
        """The prompt, with the schema at its end where it is too complex for structured output."""
        return f"{prompt}\n\n{schemas.as_instruction(self._normalized)}" if self._is_in_prompt else prompt

    @property
    def notes(self) -> tuple[str, ...]:
        """A note for the answer's footer where the API does not enforce the schema."""
        if not self._is_in_prompt:
            return ()
        reason = self._normalized.too_complex.rstrip(".")
        return (f"{reason}, so Claude was asked for it in words and its answer was checked here.",)

    def apply_to(self, request: RequestBody) -> RequestBody:
        """The request with the schema."""
        if self._is_in_prompt:
            return request
        if self.uses_answer_tool:
            return request | schemas.as_answer_tool(self._normalized)
        known = cast("dict[str, object]", request.get("output_config") or {})
        return request | {"output_config": known | {"format": schemas.as_output_format(self._normalized)}}

    def json_text(self, outcome: LoopOutcome, text: str) -> str:
        """The JSON text of a complete answer.

        Raises:
            CallError: The answer is incomplete: JSON that was cut is no answer.
        """
        if outcome.error is not None:
            raise outcome.error
        reason = outcome.stream.stop_reason
        if reason == "max_tokens":
            raise RequestError(stop_reasons.cut_json_message(outcome.answer_end(self._model)), kind="max_tokens")
        if self.uses_answer_tool and reason == "tool_use":
            inputs = [block.get("input") for block in outcome.blocks if block.get("type") == "tool_use"]
            return json.dumps(inputs[-1]) if inputs else ""
        if reason not in COMPLETE_STOP_REASONS:
            message = stop_reasons.no_text_message(outcome.answer_end(self._model))
            raise RequestError(message, kind=reason or "truncated", request_id=outcome.stream.request_id)
        return _text_after_tools(outcome.blocks) or text

    def validated_value(self, text: str) -> object:
        """The value of a JSON text that is valid against the schema as it was given. Run it on a thread.

        Raises:
            schemas.SchemaMismatchError: The text is not JSON, or not valid.
        """
        return schemas.validate_output(text, self._schema, self._normalized)


def _text_after_tools(blocks: Sequence[Block]) -> str:
    """The text after the last use of a tool, which is the JSON: before it Claude may announce a search. Empty if
    no tool was used.
    """
    texts: list[str] = []
    for block in reversed(blocks):
        kind = block.get("type")
        if kind == "text":
            texts.append(str(block.get("text") or ""))
        elif kind not in THINKING_BLOCK_TYPES:
            return "".join(reversed(texts))
    return ""


def mismatch_error(problems: tuple[str, ...], *, corrected: bool = True) -> CallError:
    """The error for an answer that does not match the schema: at the second attempt either, if it was `corrected`."""
    attempt = ", even after it was asked to correct it" if corrected else ""
    return RequestError(
        f"Claude's answer does not match the schema{attempt}: {'; '.join(problems)}. "
        "Simplify the schema, or ask a stronger model.",
        kind="schema_mismatch",
    )
