"""The requests that the API refuses, and how it says so.

Wordings follow recorded error bodies where there is one, else the documentation (platform.claude.com: "Errors",
"Migration to 2026-10-21", "Extended thinking", "Effort").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.simulator import model_catalog
from mcp_server_claude.simulator.api_errors import refuse
from mcp_server_claude.simulator.json_body import blocks, items, kinds, obj, text, turns
from mcp_server_claude.simulator.server_tool_state import left_open
from mcp_server_claude.simulator.token_counting import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.model_catalog import Model, Models

OLD_VERSION = "2023-06-01"
VERSIONS = (OLD_VERSION, "2026-10-21")
LEAST_BUDGET = 1024
FORCED = ("any", "tool")


def model(body: Object, models: Models) -> Model:
    """The model that a body names.

    Raises:
        RefusedError: there is none, or it has been retired.
    """
    if "model" not in body:
        raise refuse("model: Field required")
    name = body["model"]
    if not isinstance(name, str):
        raise refuse("model: Input should be a valid string")
    if not name:
        raise refuse("model: String should have at least 1 character")
    found = model_catalog.find(name, models)
    if found is None or found.lifecycle == "retired":
        raise refuse(f"model: {name}", status=404)
    return found


def check(body: Object, chosen: Model, version: str, *, counting: bool = False) -> None:
    """Pass a request that the API takes; `counting` for `count_tokens`, which needs no `max_tokens`.

    Raises:
        RefusedError: it does not.
    """
    if not counting:
        _max_tokens(body, chosen)
    _messages(body, chosen, version)
    _sampling(body, version)
    _effort(body, chosen)
    _thinking(body, chosen)
    _capabilities(body, chosen)
    _stop_sequences(body)
    length = count(body)
    if length > chosen.max_input_tokens and not counting:
        raise refuse(f"prompt is too long: {length} tokens > {chosen.max_input_tokens} maximum")


def _max_tokens(body: Object, chosen: Model) -> None:
    if "max_tokens" not in body:
        raise refuse("max_tokens: Field required")
    limit = body["max_tokens"]
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise refuse("max_tokens: Input should be a valid integer")
    if limit < 0:
        raise refuse("max_tokens: Input should be greater than or equal to 0")
    if limit > chosen.max_tokens:
        raise refuse(
            f"max_tokens: {limit} > {chosen.max_tokens}, which is the maximum allowed number of output tokens "
            f"for {chosen.id}"
        )


def _messages(body: Object, chosen: Model, version: str) -> None:
    if "messages" not in body:
        raise refuse("messages: Field required")
    messages = body["messages"]
    if not isinstance(messages, list):
        raise refuse("messages: Input should be a valid list")
    for n, message in enumerate(messages):
        _message(n, message, version)
    said = turns(body)
    if not said:
        raise refuse("messages: at least one message is required")
    if said[0].get("role") != "user":
        raise refuse('messages: first message must use the "user" role')
    for n, block in enumerate(blocks(body.get("system"))):
        if block.get("type") == "text" and not text(block.get("text")) and not isinstance(body.get("system"), str):
            raise refuse(f"system.{n}: system: text content blocks must be non-empty")
    _tool_results(said)
    if found := left_open(said):
        place, use = found
        name = text(use.get("name"))
        raise refuse(
            f"messages.{place}: `{name}` tool use with id `{text(use.get('id'))}` was found without a corresponding "
            f"`{name}_tool_result` block"
        )
    if said[-1].get("role") == "assistant":
        _prefill(said[-1], chosen)


def _message(n: int, message: Json, version: str) -> None:
    if not isinstance(message, dict):
        raise refuse(f"messages.{n}: Input should be a valid dictionary")
    role = message.get("role")
    if role not in {"user", "assistant", "system"}:
        raise refuse(f"messages.{n}.role: Input should be 'user', 'assistant' or 'system'")
    if "content" not in message:
        raise refuse(f"messages.{n}.content: Field required")
    content = message["content"]
    if not isinstance(content, str | list):
        raise refuse(f"messages.{n}.content: Input should be a valid list")
    if not content:
        raise refuse(f"messages.{n}: {role} messages must have non-empty content")
    for place, block in enumerate(items(content)):
        _block(f"messages.{n}.content.{place}", role, block, version)


def _block(where: str, role: Json, block: Json, version: str) -> None:
    kind = obj(block).get("type")
    if not isinstance(kind, str):
        raise refuse(f"{where}.type: Field required")
    if kind == "text" and not text(obj(block).get("text")):
        raise refuse("messages: text content blocks must be non-empty")
    if version == OLD_VERSION:
        return
    if kind == "document" and role == "assistant":
        raise refuse(f"{where}: document blocks are not allowed in assistant messages")
    if kind == "text" and role == "user" and items(obj(block).get("citations")):
        raise refuse(f"{where}.citations: citations are not allowed on text blocks in user messages")


def _tool_results(said: list[Object]) -> None:
    for n, message in enumerate(said[:-1]):
        calls = [text(b.get("id")) for b in blocks(message.get("content")) if b.get("type") == "tool_use"]
        after = blocks(said[n + 1].get("content"))
        results = {text(b.get("tool_use_id")) for b in after if b.get("type") == "tool_result"}
        if missing := [call for call in calls if call not in results]:
            raise refuse(
                f"messages.{n}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )


def _prefill(final: Object, chosen: Model) -> None:
    if "server_tool_use" in kinds(final):
        return  # a paused turn, sent back unchanged
    if not chosen.prefill:
        raise refuse(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    end = blocks(final.get("content"))[-1]
    said = text(end.get("text"))
    if said != said.rstrip():
        raise refuse("messages: final assistant content cannot end with trailing whitespace")


def _sampling(body: Object, version: str) -> None:
    if version == OLD_VERSION:
        return
    for name in ("temperature", "top_p", "top_k"):
        if name in body:
            raise refuse(f"{name}: Extra inputs are not permitted")


def _effort(body: Object, chosen: Model) -> None:
    level = obj(body.get("output_config")).get("effort")
    if level is None:
        return
    if not chosen.efforts:
        raise refuse("This model does not support the effort parameter.")
    if level not in chosen.efforts:
        known = ", ".join(sorted(chosen.efforts))
        raise refuse(f"This model does not support effort level '{text(level)}'. Supported levels: {known}.")


def _thinking(body: Object, chosen: Model) -> None:
    config = obj(body.get("thinking"))
    kind = text(config.get("type"))
    if config and kind not in chosen.thinking:
        raise refuse(f'"thinking.type.{kind}" is not supported for this model.{_instead(chosen)}')
    if kind == "enabled":
        _budget(config.get("budget_tokens"), body.get("max_tokens"))
    forced = obj(body.get("tool_choice")).get("type") in FORCED
    if forced and (chosen.always_thinks or kind in {"enabled", "adaptive"}):
        raise refuse("Thinking may not be enabled when tool_choice forces tool use.")
    if kind in {"enabled", "adaptive"} and turns(body)[-1].get("role") == "assistant" and chosen.prefill:
        raise refuse("When thinking is enabled, a final assistant message must start with a thinking block.")


def _capabilities(body: Object, chosen: Model) -> None:
    """What a model cannot do: server tools, structured output, images, PDF."""
    tools = [obj(tool) for tool in items(body.get("tools"))]
    names = [text(tool.get("name")) for tool in tools]
    if len(set(names)) < len(names):
        raise refuse("tools: Tool names must be unique.")
    unfit = [kind for tool in tools if not chosen.takes_tool(kind := text(tool.get("type")))]
    if unfit:
        raise refuse(f"'{chosen.id}' does not support tool types: {', '.join(unfit)}.")
    if obj(body.get("output_config")).get("format") is not None and not chosen.structured_outputs:
        raise refuse(f"'{chosen.id}' does not support output format.")
    sent = {kind for message in turns(body) for kind in kinds(message)}
    if "image" in sent and not chosen.images:
        raise refuse(f"'{chosen.id}' does not support image input.")
    if "document" in sent and not chosen.pdf:
        raise refuse(f"'{chosen.id}' does not support PDF input.")


def _budget(budget: Json, limit: Json) -> None:
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise refuse("thinking.enabled.budget_tokens: Field required")
    if budget < LEAST_BUDGET:
        raise refuse("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if isinstance(limit, int) and limit <= budget:
        raise refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _instead(chosen: Model) -> str:
    if "adaptive" in chosen.thinking:
        return ' Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
    return ' Use "thinking.type.enabled" with "budget_tokens".'


def _stop_sequences(body: Object) -> None:
    for n, sequence in enumerate(_sequence_list(body)):
        if not text(sequence).strip():
            raise refuse(f"stop_sequences.{n}: each stop sequence must contain non-whitespace")


def _sequence_list(body: Object) -> Iterator[Json]:
    found = body.get("stop_sequences")
    if found is not None and not isinstance(found, list):
        raise refuse("stop_sequences: Input should be a valid list")
    yield from items(found)
