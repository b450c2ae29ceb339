"""The requests that the API refuses, and how it says so.

Wordings follow recorded error bodies where there is one, else the documentation (platform.claude.com: "Errors",
"Migration to 2026-10-21", "Extended thinking", "Effort").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.simulator import model_catalog
from mcp_server_claude.simulator.api_errors import rejection
from mcp_server_claude.simulator.json_body import (
    as_list,
    as_object,
    as_text,
    block_types,
    content_blocks,
    conversation_turns,
)
from mcp_server_claude.simulator.schema_limits import check_schemas
from mcp_server_claude.simulator.server_tool_state import unanswered_tool_use
from mcp_server_claude.simulator.tool_changes import is_tool_change, offered_tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.model_catalog import ModelList

FIRST_VERSION = "2023-06-01"
VERSIONS = (FIRST_VERSION, "2026-10-21")
MIN_THINKING_BUDGET = 1024
FORCED_TOOL_CHOICES = ("any", "tool")
HIGHEST_EFFORTS = ("xhigh", "max")
MAX_CACHE_BREAKPOINTS = 4
FAST_MODE_BETA = "fast-mode-2026-02-01"


def requested_model(body: Object, models: ModelList, day: str) -> CatalogModel:
    """The model that a body names, if it is still served on that day (`YYYY-MM-DD`).

    Raises:
        RequestRejectedError: there is none, or it has been retired.
    """
    if "model" not in body:
        raise rejection("model: Field required")
    name = body["model"]
    if not isinstance(name, str):
        raise rejection("model: Input should be a valid string")
    if not name:
        raise rejection("model: String should have at least 1 character")
    found = model_catalog.find_model(name, models)
    if found is None or found.lifecycle_on(day) == "retired":
        raise rejection(f"model: {name}", status=404)
    return found


def requested_version(headers: Mapping[str, str]) -> str:
    """The version that the `anthropic-version` header names.

    Raises:
        RequestRejectedError: there is none, or it is not served.
    """
    version = headers.get("anthropic-version", "")
    if not version:
        raise rejection("anthropic-version: header is required")
    if version not in VERSIONS:
        raise rejection(f"anthropic-version: {version!r} is not a valid version; use {VERSIONS[-1]} or {FIRST_VERSION}")
    return version


def check_request(body: Object, model: CatalogModel, api_version: str, *, counting: bool = False) -> None:
    """Pass a request whose fields the API takes; `counting` for `count_tokens`, which needs no `max_tokens`.

    Raises:
        RequestRejectedError: it does not.
    """
    if not counting:
        _check_max_tokens(body, model)
    _check_messages(body, model, api_version)
    _check_sampling_parameters(body, api_version)
    _check_effort(body, model)
    _check_thinking(body, model)
    _check_capabilities(body, model)
    choice = as_text(as_object(body.get("tool_choice")).get("type"))
    if choice in FORCED_TOOL_CHOICES and not offered_tools(body):
        raise rejection(f"tool_choice.{choice} may only be specified while providing tools")
    _check_stop_sequences(body)
    _check_system_messages(body, model)
    _check_citations(body)
    _check_cache_breakpoints(body)
    if "inference_geo" in body and not model.inference_geo:
        raise rejection(f"inference_geo: '{model.id}' does not support this parameter.")
    check_schemas(body)


def check_prompt_length(token_count: int, model: CatalogModel) -> None:
    """Pass a prompt that fits into the model's context window.

    Raises:
        RequestRejectedError: it does not.
    """
    if token_count > model.max_input_tokens:
        raise rejection(f"prompt is too long: {token_count} tokens > {model.max_input_tokens} maximum")


def check_service(body: Object, model: CatalogModel, day: str, betas: str) -> None:
    """Pass a request whose `speed` and `service_tier` the model has on that day ("Fast mode", November 2026).

    Raises:
        RequestRejectedError: it has not, or the beta header is missing.
    """
    if body.get("service_tier") not in {None, "auto", "standard_only"}:
        raise rejection("service_tier: Input should be 'auto' or 'standard_only'")
    speed = body.get("speed")
    if speed in {None, "standard"}:
        return
    if speed != "fast":
        raise rejection("speed: Input should be 'standard' or 'fast'")
    if model.fast_mode == "ignored":
        return
    if not model.takes_fast_mode(day):
        raise rejection(f"speed: '{model.id}' does not support fast mode.")
    if model.fast_mode == "beta" and FAST_MODE_BETA not in betas:
        raise rejection(f"speed: fast mode of '{model.id}' requires the `{FAST_MODE_BETA}` beta header.")


def _check_max_tokens(body: Object, model: CatalogModel) -> None:
    if "max_tokens" not in body:
        raise rejection("max_tokens: Field required")
    limit = body["max_tokens"]
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise rejection("max_tokens: Input should be a valid integer")
    if limit < 0:
        raise rejection("max_tokens: Input should be greater than or equal to 0")
    if limit > model.max_tokens:
        raise rejection(
            f"max_tokens: {limit} > {model.max_tokens}, which is the maximum allowed number of output tokens "
            f"for {model.id}"
        )


def _check_messages(body: Object, model: CatalogModel, api_version: str) -> None:
    if "messages" not in body:
        raise rejection("messages: Field required")
    messages = body["messages"]
    if not isinstance(messages, list):
        raise rejection("messages: Input should be a valid list")
    for n, message in enumerate(messages):
        _check_message(n, message, api_version)
    turns = conversation_turns(body)
    if not turns:
        raise rejection("messages: at least one message is required")
    if turns[0].get("role") != "user":
        raise rejection('messages: first message must use the "user" role')
    for n, block in enumerate(content_blocks(body.get("system"))):
        if block.get("type") == "text" and not as_text(block.get("text")) and not isinstance(body.get("system"), str):
            raise rejection(f"system.{n}: system: text content blocks must be non-empty")
    _check_tool_results(turns)
    if found := unanswered_tool_use(turns):
        place, use = found
        name = as_text(use.get("name"))
        raise rejection(
            f"messages.{place}: `{name}` tool use with id `{as_text(use.get('id'))}` was found without a corresponding "
            f"`{name}_tool_result` block"
        )
    if turns[-1].get("role") == "assistant":
        _check_prefill(body, turns[-1], model)


def _check_message(n: int, message: Json, api_version: str) -> None:
    if not isinstance(message, dict):
        raise rejection(f"messages.{n}: Input should be a valid dictionary")
    role = message.get("role")
    if role not in {"user", "assistant", "system"}:
        raise rejection(f"messages.{n}.role: Input should be 'user', 'assistant' or 'system'")
    if "content" not in message:
        raise rejection(f"messages.{n}.content: Field required")
    content = message["content"]
    if not isinstance(content, str | list):
        raise rejection(f"messages.{n}.content: Input should be a valid list")
    if not content:
        raise rejection(f"messages.{n}: {role} messages must have non-empty content")
    for place, block in enumerate(as_list(content)):
        _check_block(f"messages.{n}.content.{place}", role, block, api_version)


def _check_block(path: str, role: Json, block: Json, api_version: str) -> None:
    kind = as_object(block).get("type")
    if not isinstance(kind, str):
        raise rejection(f"{path}.type: Field required")
    if kind == "text" and not as_text(as_object(block).get("text")):
        raise rejection("messages: text content blocks must be non-empty")
    if api_version == FIRST_VERSION:
        return
    if kind == "document" and role == "assistant":
        raise rejection(f"{path}: document blocks are not allowed in assistant messages")
    if kind == "text" and role == "user" and as_list(as_object(block).get("citations")):
        raise rejection(f"{path}.citations: citations are not allowed on text blocks in user messages")


def _check_tool_results(turns: list[Object]) -> None:
    for n, message in enumerate(turns[:-1]):
        calls = [as_text(b.get("id")) for b in content_blocks(message.get("content")) if b.get("type") == "tool_use"]
        after = content_blocks(turns[n + 1].get("content"))
        results = {as_text(b.get("tool_use_id")) for b in after if b.get("type") == "tool_result"}
        if missing := [call for call in calls if call not in results]:
            raise rejection(
                f"messages.{n}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )


def _check_prefill(body: Object, final: Object, model: CatalogModel) -> None:
    if "server_tool_use" in block_types(final):
        return  # a paused turn, sent back unchanged
    if not model.prefill:
        raise rejection(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if as_object(body.get("output_config")).get("format") is not None:
        raise rejection("output_config.format: Prefilling assistant messages is not supported with output formats.")
    end = content_blocks(final.get("content"))[-1]
    text = as_text(end.get("text"))
    if text != text.rstrip():
        raise rejection("messages: final assistant content cannot end with trailing whitespace")


def _check_sampling_parameters(body: Object, api_version: str) -> None:
    if api_version == FIRST_VERSION:
        return
    for name in ("temperature", "top_p", "top_k"):
        if name in body:
            raise rejection(f"{name}: Extra inputs are not permitted")


def _check_effort(body: Object, model: CatalogModel) -> None:
    level = as_object(body.get("output_config")).get("effort")
    if level is None:
        return
    if not model.efforts:
        raise rejection("This model does not support the effort parameter.")
    if level not in model.efforts:
        known = ", ".join(sorted(model.efforts))
        raise rejection(f"This model does not support effort level '{as_text(level)}'. Supported levels: {known}.")


def _check_thinking(body: Object, model: CatalogModel) -> None:
    config = as_object(body.get("thinking"))
    kind = as_text(config.get("type"))
    if config and kind not in model.thinking:
        raise rejection(f'"thinking.type.{kind}" is not supported for this model.{_thinking_advice(model)}')
    if kind == "enabled":
        _check_thinking_budget(config.get("budget_tokens"), body.get("max_tokens"))
    forced = as_object(body.get("tool_choice")).get("type") in FORCED_TOOL_CHOICES
    if forced and not model.forced_tools:
        raise rejection('tool_choice: type "tool" and "any" are not supported for this model.')
    if forced and kind == "enabled":
        raise rejection("Thinking may not be enabled when tool_choice forces tool use.")
    level = as_object(body.get("output_config")).get("effort")
    if kind == "between_tools" and (level in HIGHEST_EFFORTS or {"display", "block_binding"} & set(config)):
        raise rejection(
            '"thinking.type.between_tools" takes no `display` or `block_binding`, and no effort above high.'
        )
    if kind == "disabled" and level in HIGHEST_EFFORTS and model.thinks_by_default:
        raise rejection('"thinking.type.disabled" is not supported at this effort.')
    if kind in {"enabled", "adaptive"} and conversation_turns(body)[-1].get("role") == "assistant" and model.prefill:
        raise rejection("When thinking is enabled, a final assistant message must start with a thinking block.")


def _check_capabilities(body: Object, model: CatalogModel) -> None:
    """Reject server tools, structured output, images and PDF where the model lacks them."""
    tools = [as_object(tool) for tool in as_list(body.get("tools"))]
    names = [as_text(tool.get("name")) for tool in tools]
    if len(set(names)) < len(names):
        raise rejection("tools: Tool names must be unique.")
    unfit = [kind for tool in tools if not model.takes_server_tool(kind := as_text(tool.get("type")))]
    if unfit:
        raise rejection(f"'{model.id}' does not support tool types: {', '.join(unfit)}.")
    if as_object(body.get("output_config")).get("format") is not None and not model.structured_outputs:
        raise rejection(f"'{model.id}' does not support output format.")
    sent = {kind for message in conversation_turns(body) for kind in block_types(message)}
    if "image" in sent and not model.images:
        raise rejection(f"'{model.id}' does not support image input.")
    if "document" in sent and not model.pdf:
        raise rejection(f"'{model.id}' does not support PDF input.")


def _check_thinking_budget(budget: Json, limit: Json) -> None:
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise rejection("thinking.enabled.budget_tokens: Field required")
    if budget < MIN_THINKING_BUDGET:
        raise rejection("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if isinstance(limit, int) and limit <= budget:
        raise rejection("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _thinking_advice(model: CatalogModel) -> str:
    if "adaptive" in model.thinking:
        return ' Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
    return ' Use "thinking.type.enabled" with "budget_tokens".'


def _check_stop_sequences(body: Object) -> None:
    for n, sequence in enumerate(_stop_sequence_list(body)):
        if not as_text(sequence).strip():
            raise rejection(f"stop_sequences.{n}: each stop sequence must contain non-whitespace")


def _stop_sequence_list(body: Object) -> Iterator[Json]:
    found = body.get("stop_sequences")
    if found is not None and not isinstance(found, list):
        raise rejection("stop_sequences: Input should be a valid list")
    yield from as_list(found)


def _check_system_messages(body: Object, model: CatalogModel) -> None:
    """Check the place of `role: "system"` messages ("Mid-conversation system messages", August 2026)."""
    messages = [as_object(message) for message in as_list(body.get("messages"))]
    roles = [message.get("role") for message in messages]
    if "system" not in roles:
        return
    if not model.system_messages:
        raise rejection("role 'system' is not supported on this model")
    for index, role in enumerate(roles):
        if role != "system":
            continue
        after_user = index > 0 and roles[index - 1] == "user"
        last = content_blocks(messages[index - 1].get("content"))[-1:] if index else []
        after_server_tool = any(as_text(block.get("type")).endswith("_tool_result") for block in last)
        changes_tools = any(map(is_tool_change, content_blocks(messages[index].get("content"))))
        if changes_tools and after_server_tool and not after_user:
            raise rejection(f"messages.{index}: tool changes are not accepted immediately after a paused turn")
        if not (after_user or after_server_tool) or (index + 1 < len(roles) and roles[index + 1] != "assistant"):
            raise rejection(f"messages.{index}: a system message follows a user message and ends a turn")


def _check_citations(body: Object) -> None:
    """Reject citations beside a format ("Structured outputs", August 2026)."""
    if as_object(body.get("output_config")).get("format") is None:
        return
    blocks = [block for message in conversation_turns(body) for block in content_blocks(message.get("content"))]
    sources = [*offered_tools(body), *(b for b in blocks if b.get("type") == "document")]
    if any(as_object(source.get("citations")).get("enabled") is True for source in sources):
        raise rejection("output_config.format: structured outputs are not supported with citations enabled.")


def _check_cache_breakpoints(body: Object) -> None:
    """Reject more than four breakpoints, the automatic one included ("Prompt caching", August 2026)."""
    messages = [as_object(message) for message in as_list(body.get("messages"))]
    pieces = [*map(as_object, as_list(body.get("tools"))), *content_blocks(body.get("system")), body]
    pieces += [block for message in messages for block in content_blocks(message.get("content"))]
    count = sum(piece.get("cache_control") is not None for piece in pieces)
    if count > MAX_CACHE_BREAKPOINTS:
        raise rejection(f"A maximum of 4 blocks with cache_control may be provided. Found {count}.")
