"""The plan of a response, made from the request: thinking, server tools, tool call, text and stop reason."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import generated_text, sse_format
from mcp_server_claude.simulator.event_plan import PlannedThinking, PlannedToolCall, ResponsePlan
from mcp_server_claude.simulator.json_body import as_integer, as_list, as_object, as_text
from mcp_server_claude.simulator.prompt_directives import STREAM_FAULTS
from mcp_server_claude.simulator.schema_examples import example_value
from mcp_server_claude.simulator.server_tool_state import CODE_TOOL_NAMES
from mcp_server_claude.simulator.server_tools import CodeRun, WebFetch, WebSearch
from mcp_server_claude.simulator.token_counting import CHARS_PER_TOKEN, InputUsage
from mcp_server_claude.simulator.tool_changes import offered_tools

if TYPE_CHECKING:
    from mcp_server_claude.simulator.answer_text import ScriptedAnswer
    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.event_plan import ThinkingDisplay
    from mcp_server_claude.simulator.json_body import Object
    from mcp_server_claude.simulator.server_tools import ServerToolUse

THINKING_TOKENS = {"low": 24, "medium": 48, "high": 80, "xhigh": 120, "max": 200}
THINKING_COUNT_BETA = "thinking-token-count-2026-05-13"
MAX_QUERY_WORDS = 8
_SEARCH_REQUEST = re.compile(r"\bsearch", re.IGNORECASE)
_CODE_REQUEST = re.compile(r"\b(run|plot|compute)", re.IGNORECASE)
_PAGE_URL = re.compile(r"https://[^\s\])>]+")


def plan_response(
    body: Object,
    answer: ScriptedAnswer,
    model: CatalogModel,
    *,
    input_usage: InputUsage,
    betas: str = "",
    delta_chars: int = 0,
    inference_geo: str = "global",
) -> ResponsePlan:
    """Plan the response to a request.

    Args:
        body: The valid request.
        answer: The text to say and the directive of the prompt.
        model: The model that answers.
        input_usage: The tokens of the request.
        betas: The `anthropic-beta` header.
        delta_chars: Characters in a delta, 0 for varying sizes.
        inference_geo: The place of inference where the request names none.
    """
    chosen = answer.directive
    huge = chosen.fault == "huge"
    part = ResponsePlan(
        model=as_text(body.get("model")),
        input_usage=input_usage,
        delta_chars=1 if chosen.fault == "tiny" else max(1, len(answer.text)) if huge else chosen.chars or delta_chars,
        split_surrogates=chosen.split == "surrogates",
        tools_after_text=chosen.late is True,
        seed=f"{answer.conversation}{answer.text}",
        inference_geo=(as_text(body.get("inference_geo")) or inference_geo) if model.inference_geo else "not_available",
        speed=as_text(body.get("speed")) or None,
        refusal_category=chosen.category,
    )
    limit = as_integer(body.get("max_tokens"), 0)
    if limit == 0:  # a pre-warmed cache: nothing is generated
        return replace(part, stop_reason="max_tokens")
    thought = _plan_thinking(body, answer, model, betas)
    room = limit * CHARS_PER_TOKEN
    if thought is not None and len(thought.text) >= room:
        return replace(part, thinking=replace(thought, text=thought.text[:room]), stop_reason="max_tokens")
    part = replace(part, thinking=thought)
    room -= len(thought.text) if thought else 0
    tool = _tool_to_call(body, answer)
    part = (
        _plan_tool_call(part, tool, answer, room, _plan_server_tools(body, answer))
        if tool
        else _plan_text(part, body, answer, len(answer.text) if huge else room)
    )
    return replace(
        part,
        fault_position=_fault_position(answer, len(part.tool_call.input_json) if part.tool_call else len(part.text)),
    )


def refuses_before_output(answer: ScriptedAnswer) -> bool:
    """True when the answer is a refusal before anything was said."""
    return answer.directive.stop == "refusal" and (answer.directive.at == 0 or not answer.text)


def _plan_thinking(body: Object, answer: ScriptedAnswer, model: CatalogModel, betas: str) -> PlannedThinking | None:
    config = as_object(body.get("thinking"))
    kind = as_text(config.get("type"))
    requested = answer.directive.think
    if requested is None and refuses_before_output(answer):
        return None  # a refusal before any output
    if requested is None and not (kind in {"enabled", "adaptive"} or (not kind and model.thinks_by_default)):
        return None
    effort = as_text(as_object(body.get("output_config")).get("effort")) or model.default_effort
    count = THINKING_TOKENS.get(effort, THINKING_TOKENS["medium"]) if requested is None else requested
    if not count:
        return None
    display: ThinkingDisplay = "omitted" if model.omits_thinking else "summarized"
    if config.get("display") in {"omitted", "summarized"}:
        display = "omitted" if config["display"] == "omitted" else "summarized"
    if display == "omitted" and THINKING_COUNT_BETA in betas:
        display = "counted"
    return PlannedThinking(text=generated_text.generate_thinking(answer.prompt, tokens=count), display=display)


def _tool_to_call(body: Object, answer: ScriptedAnswer) -> Object | None:
    """The tool to call: a forced one, or the one the directive asks for."""
    choice = as_object(body.get("tool_choice"))
    mine = [tool for tool in offered_tools(body) if not _is_server_tool(tool)]
    requested = answer.directive.stop == "tool_use" and not answer.follows_tool_result
    if not requested and (choice.get("type") not in {"any", "tool"} or not mine):
        return None
    name = as_text(choice.get("name")) or answer.directive.tool
    named = [tool for tool in mine if not name or tool.get("name") == name]
    return named[0] if named else {"name": name or "lookup", "input_schema": {"properties": {"query": {}}}}


def _is_server_tool(tool: Object) -> bool:
    return as_text(tool.get("type")).startswith(("web_search", "web_fetch", "code_execution", "tool_search"))


def _plan_tool_call(
    plan: ResponsePlan, tool: Object, answer: ScriptedAnswer, room: int, uses: tuple[ServerToolUse, ...]
) -> ResponsePlan:
    arguments = as_object(example_value({"type": "object"} | as_object(tool.get("input_schema")), answer.prompt))
    text = sse_format.json_bytes(arguments).decode()
    whole = len(text) <= room
    call = PlannedToolCall(name=as_text(tool.get("name")), input=arguments if whole else {}, input_json=text[:room])
    reason = "tool_use" if whole else "max_tokens"
    first = answer.text[: _stop_position(answer, answer.text, pausing=True)] if plan.tools_after_text else ""
    return replace(plan, text=first, tool_call=call, server_tool_uses=_without_results(uses), stop_reason=reason)


def _plan_text(plan: ResponsePlan, body: Object, answer: ScriptedAnswer, room: int) -> ResponsePlan:
    text, reason, sequence = answer.text, answer.directive.stop or "end_turn", None
    pausing = reason == "pause_turn" and answer.earlier_pauses < (answer.directive.times or 1)
    if reason in {"tool_use", "pause_turn"} and not pausing:
        reason = "end_turn"
    if reason not in {"end_turn", "stop_sequence"}:
        text = text[: _stop_position(answer, text, pausing=pausing)]
    sequences = [as_text(sequence) for sequence in as_list(body.get("stop_sequences"))]
    places = [(text.index(sequence), sequence) for sequence in sequences if sequence in text]
    if places:
        place, sequence = min(places)
        text, reason = text[:place], "stop_sequence"
    elif reason == "stop_sequence":
        sequence = sequences[0] if sequences else None
    if len(text) > room:
        text, reason, sequence = text[:room], "max_tokens", None
    uses = _plan_server_tools(body, answer, pausing=pausing)
    if pausing or (reason == "max_tokens" and plan.tools_after_text):
        uses = _without_results(uses)
    return replace(plan, text=text, stop_reason=reason, stop_sequence=sequence, server_tool_uses=uses)


def _plan_server_tools(body: Object, answer: ScriptedAnswer, *, pausing: bool = False) -> tuple[ServerToolUse, ...]:
    """The server tools that run in this response, once a turn: those directed or mentioned in the prompt."""
    names, printed = _output_file_names(answer), _program_output(answer)
    begun = [
        CodeRun(started_use_id=as_text(use.get("id")), stdout=printed, output_file_ids=names)
        for use in answer.pending_tool_uses
        if _is_code_execution(use)
    ]
    if answer.resumed and not pausing:
        return tuple(begun)
    chosen, prompt = answer.directive, answer.prompt
    found: list[ServerToolUse] = []
    query = " ".join(prompt.split()[:MAX_QUERY_WORDS])
    searches = _server_tool_count(body, "web_search", chosen.search, _SEARCH_REQUEST.search(prompt) is not None)
    found += _web_searches(body, query, searches, chosen.results or 0)
    page = _PAGE_URL.search(prompt)
    fetches = _server_tool_count(body, "web_fetch", chosen.fetch, page is not None)
    found += _web_fetches(body, page[0] if page else "https://example.com/page", fetches, chosen.page or 0)
    if not answer.follows_tool_result and _server_tool_count(
        body, "code_execution", chosen.code, _CODE_REQUEST.search(prompt) is not None
    ):
        found.append(CodeRun(program=f"print({printed!r})\n", stdout=printed, output_file_ids=names))
    if pausing and not found:
        found.append(WebSearch(query))
    return (*begun, *found)


def _web_searches(body: Object, query: str, count: int, tokens: int) -> list[WebSearch]:
    """The searches, each of other words; those beyond `max_uses` fail ("Web search tool", August 2026)."""
    limit = as_integer(_server_tool(body, "web_search").get("max_uses"), count)
    return [
        WebSearch(
            f"{query} {place}" if place else query,
            tokens=tokens if place < limit else 0,
            refused="" if place < limit else "max_uses_exceeded",
        )
        for place in range(count)
    ]


def _web_fetches(body: Object, url: str, count: int, tokens: int) -> list[WebFetch]:
    """The pages, cut at `max_content_tokens`; those beyond `max_uses` fail ("Web fetch tool", August 2026)."""
    tool = _server_tool(body, "web_fetch")
    limit, most_tokens = as_integer(tool.get("max_uses"), count), as_integer(tool.get("max_content_tokens"), tokens)
    return [
        WebFetch(
            f"{url}#{place}" if place else url,
            tokens=min(tokens, most_tokens) if place < limit else 0,
            refused="" if place < limit else "max_uses_exceeded",
        )
        for place in range(count)
    ]


def _server_tool_count(body: Object, tool: str, directed: int | None, mentioned: bool) -> int:  # noqa: FBT001
    """How often a server tool is used: as directed, else once when it is offered and the prompt mentions its work."""
    return int(mentioned and bool(_server_tool(body, tool))) if directed is None else int(directed)


def _server_tool(body: Object, kind: str) -> Object:
    """The definition of a server tool that is offered; empty when there is none."""
    nothing: Object = {}
    return next((tool for tool in offered_tools(body) if as_text(tool.get("type")).startswith(kind)), nothing)


def _without_results(uses: tuple[ServerToolUse, ...]) -> tuple[ServerToolUse, ...]:
    """The same, but code that is run has no result yet."""
    return tuple(
        replace(use, is_pending=True) if isinstance(use, CodeRun) and not use.started_use_id else use for use in uses
    )


def _is_code_execution(use: Object) -> bool:
    return as_text(use.get("name")) in CODE_TOOL_NAMES


def _program_output(answer: ScriptedAnswer) -> str:
    return f"{len(answer.prompt.split())} words\n"


def _output_file_names(answer: ScriptedAnswer) -> tuple[str, ...]:
    return tuple(name for name in (answer.directive.makes or "").split(",") if name)


def _stop_position(answer: ScriptedAnswer, content: str, *, pausing: bool) -> int:
    """The position, in characters, at which an answer stops. A pause comes between words."""
    place = len(content) // 2 if answer.directive.fault in STREAM_FAULTS else _directed_position(answer, len(content))
    while pausing and 0 < place < len(content) and not content[place - 1].isspace():
        place += 1
    return place


def _directed_position(answer: ScriptedAnswer, length: int) -> int:
    """The position of a stop or a fault, in characters: as directed, else the middle."""
    place = answer.directive.at
    return length // 2 if place is None else 0 if place == "headers" else place


def _fault_position(answer: ScriptedAnswer, length: int) -> int | None:
    return _directed_position(answer, length) if answer.directive.fault in STREAM_FAULTS else None
