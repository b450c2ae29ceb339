"""The events of one response, built before they are sent, each with the characters that it adds to the usage."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from mcp_server_claude.simulator import server_tools, sse_format
from mcp_server_claude.simulator.event_builder import EventBuilder, split_text
from mcp_server_claude.simulator.sampling_iterations import SamplingIteration
from mcp_server_claude.simulator.server_tools import CodeRun
from mcp_server_claude.simulator.token_counting import token_count

if TYPE_CHECKING:
    from mcp_server_claude.simulator.event_builder import StreamStep
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.server_tools import ServerToolUse
    from mcp_server_claude.simulator.thinking_binding import ThinkingContext
    from mcp_server_claude.simulator.token_counting import InputUsage

ThinkingDisplay = Literal["summarized", "omitted", "counted"]
"""The display of thinking: its text, nothing, or an estimate of its tokens (a beta)."""

UNCITED_SHARE = 3
TOKENS_PER_THINKING_DELTA = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedThinking:
    """A thinking block: exactly `text`, shown as `display` says."""

    text: str
    display: ThinkingDisplay


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedToolCall:
    """A tool call: the tool's name and its input as JSON, which may have been cut by `max_tokens`."""

    name: str
    input: Object
    input_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclinedAttempt:
    """The output of a model that refused before another one answered, and the category of its refusal."""

    model: str
    text: str
    category: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePlan:
    """The content of one response. Server tools run before its text, or after it (`tools_after_text`).

    `input_usage` is the input of the first iteration, which `message_start` announces, `final_usage` that of all
    iterations of the model that answers; `earlier_iterations` are those of summaries and of a model that declined.
    `requested_model` is the model in `message_start`, empty for the one that answers. `summary` is the text of a
    compaction block. `container` is the id of the container in which code runs, and when it expires.
    `refusal_category` is `stop_details.category` of a refusal. `input_transformations` is None for a request without
    the beta header.
    """

    model: str
    input_usage: InputUsage
    final_usage: InputUsage | None = None
    requested_model: str = ""
    summary: str | None = None
    declined: DeclinedAttempt | None = None
    earlier_iterations: tuple[SamplingIteration, ...] = ()
    shows_iterations: bool = False
    credit_token: str | None = None
    has_prefill_claim: bool = False
    inference_geo: str = "global"
    service_tier: str = "standard"
    speed: str | None = None
    refusal_category: str | None = None
    input_transformations: tuple[Object, ...] | None = None
    thinking: PlannedThinking | None = None
    server_tool_uses: tuple[ServerToolUse, ...] = ()
    tools_after_text: bool = False
    container: Object | None = None
    text: str = ""
    tool_call: PlannedToolCall | None = None
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    delta_chars: int = 0
    split_surrogates: bool = False
    fault_position: int | None = None
    seed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPlan:
    """The events of one response; a fault strikes before `steps[cut]`. The last two steps end the message.

    `final_usage` is the input of all iterations, as the end of the message counts it, and `iterations` are those that
    are billed one by one, empty where the totals of the message say it all.
    """

    steps: list[StreamStep]
    message: Object
    fault_step: int
    last_index: int
    output_tokens: int
    final_usage: InputUsage
    iterations: tuple[SamplingIteration, ...] = ()


def build_event_plan(plan: ResponsePlan, thinking_context: ThinkingContext, request_id: str = "") -> EventPlan:
    """Build the events of a response; its thinking is bound to `thinking_context`."""
    message_id = f"msg_01{sha256((plan.seed + request_id).encode('utf-8', 'replace')).hexdigest()[:22]}"
    builder = EventBuilder(
        delta_chars=plan.delta_chars, split_surrogates=plan.split_surrogates, fault_position=plan.fault_position
    )
    builder.add_frame(
        sse_format.event_frame({"type": "message_start", "message": _message_object(message_id, plan, [], None, 1)})
    )
    if plan.summary is not None:
        _add_summary(builder, plan.summary)
    if plan.declined is not None:
        _add_declined_attempt(builder, plan.declined, plan.model)
    started = tuple(use for use in plan.server_tool_uses if isinstance(use, CodeRun) and use.started_use_id)
    new = tuple(use for use in plan.server_tool_uses if use not in started)
    _add_server_tools(builder, plan, started)
    if plan.thinking is not None:
        _add_thinking(builder, plan.thinking, thinking_context)
    if not plan.tools_after_text:
        _add_server_tools(builder, plan, new)
    if plan.text:
        _add_answer_text(builder, plan)
    if plan.tools_after_text:
        _add_server_tools(builder, plan, new)
    if plan.tool_call is not None:
        _add_tool_call(builder, plan, plan.tool_call, request_id)
    cut = len(builder.steps) if builder.fault_step is None else builder.fault_step
    thought = len(plan.thinking.text) if plan.thinking else 0
    output = token_count(thought + builder.visible_chars)
    last_index = max(0, len(builder.content) - 1)
    builder.add_frame(_message_delta(plan, output, token_count(thought)))
    builder.add_frame(sse_format.event_frame({"type": "message_stop"}))
    message = _message_object(message_id, plan, builder.content, plan.stop_reason, output)
    return EventPlan(
        steps=builder.steps,
        message=message,
        fault_step=cut,
        last_index=last_index,
        output_tokens=output,
        final_usage=_final_usage(plan),
        iterations=_iterations(plan, output) if plan.earlier_iterations else (),
    )


def _final_usage(plan: ResponsePlan) -> InputUsage:
    return plan.input_usage if plan.final_usage is None else plan.final_usage


def _iterations(plan: ResponsePlan, output: int) -> tuple[SamplingIteration, ...]:
    """All iterations of a response, the last with the totals of the model that answers."""
    last = SamplingIteration(
        kind="message" if plan.declined is None else "fallback_message",
        model=plan.model,
        input_usage=_final_usage(plan),
        output_tokens=output,
        declined=plan.stop_reason == "refusal",
        declined_category=plan.refusal_category,
    )
    return (*plan.earlier_iterations, last)


def _add_summary(builder: EventBuilder, summary: str) -> None:
    """The block of a compaction, in one delta. Its tokens are those of an iteration of its own."""
    index = builder.start_block({"type": "compaction", "content": None, "encrypted_content": None})
    encrypted = sha256(summary.encode()).hexdigest()
    delta: Object = {"type": "compaction_delta", "content": summary, "encrypted_content": encrypted}
    builder.add_frame(sse_format.delta_frame(index, delta))
    builder.stop_block(index, {"type": "compaction", "content": summary, "encrypted_content": encrypted})


def _add_declined_attempt(builder: EventBuilder, declined: DeclinedAttempt, answering_model: str) -> None:
    """The text of a model that declined, and the seam after it. Its tokens are those of an iteration of its own."""
    if declined.text:
        index = builder.start_block({"type": "text", "text": ""})
        builder.add_frame(sse_format.delta_frame(index, {"type": "text_delta", "text": declined.text}))
        builder.stop_block(index, {"type": "text", "text": declined.text})
    builder.add_block(
        {
            "type": "fallback",
            "from": {"model": declined.model},
            "to": {"model": answering_model},
            "trigger": {"type": "refusal", "category": declined.category},
        }
    )


def _add_server_tools(builder: EventBuilder, plan: ResponsePlan, uses: tuple[ServerToolUse, ...]) -> None:
    for use in uses:
        server_tools.add_server_tool_blocks(builder, use, plan.seed)


def _add_thinking(builder: EventBuilder, thought: PlannedThinking, context: ThinkingContext) -> None:
    index = builder.start_block({"type": "thinking", "thinking": "", "signature": ""})
    visible = thought.display == "summarized"
    if visible:
        for piece in split_text(thought.text, 0, 0, split_surrogates=False):
            builder.add_frame(sse_format.delta_frame(index, {"type": "thinking_delta", "thinking": piece}), len(piece))
        builder.add_frame(sse_format.delta_frame(index, {"type": "thinking_delta", "thinking": ""}))
    else:
        for piece in split_text(thought.text, TOKENS_PER_THINKING_DELTA * 4, 0, split_surrogates=False):
            estimate: Object = {"type": "thinking_delta", "thinking": "", "estimated_tokens": TOKENS_PER_THINKING_DELTA}
            builder.add_frame(
                sse_format.delta_frame(index, estimate) if thought.display == "counted" else b"", len(piece)
            )
    signature = context.sign(builder.content[:index], token_count(len(thought.text)))
    builder.add_frame(sse_format.delta_frame(index, {"type": "signature_delta", "signature": signature}))
    builder.stop_block(index, {"type": "thinking", "thinking": thought.text if visible else "", "signature": signature})


def _add_answer_text(builder: EventBuilder, plan: ResponsePlan) -> None:
    """The answer's text; where something was found, a first block without and a second one with a citation."""
    text = plan.text
    citations = [citation for use in plan.server_tool_uses if (citation := server_tools.citation_for(use, text))]
    if not citations or plan.tools_after_text or len(text) < UNCITED_SHARE:
        _add_text_block(builder, text, None)
        return
    _add_text_block(builder, text[: len(text) // UNCITED_SHARE], None)
    _add_text_block(builder, text[len(text) // UNCITED_SHARE :], citations[0])


def _add_text_block(builder: EventBuilder, content: str, citation: Object | None) -> None:
    block: Object = {"type": "text", "text": ""}
    if citation is None:
        index = builder.start_block(block)
    else:
        index = builder.start_block({"citations": [], **block})
        builder.add_frame(sse_format.delta_frame(index, {"type": "citations_delta", "citation": citation}))
    builder.add_deltas(index, "text_delta", "text", content, is_text=True)
    whole: Object = {"type": "text", "text": content}
    builder.stop_block(index, whole if citation is None else {"citations": [citation], **whole})


def _add_tool_call(builder: EventBuilder, plan: ResponsePlan, call: PlannedToolCall, request_id: str) -> None:
    seed = plan.seed + request_id + call.input_json
    block: Object = {
        "type": "tool_use",
        "id": f"toolu_01{sha256(seed.encode('utf-8', 'replace')).hexdigest()[:22]}",
        "name": call.name,
        "input": {},
        "caller": {"type": "direct"},
    }
    index = builder.start_block(block)
    builder.add_frame(sse_format.delta_frame(index, {"type": "input_json_delta", "partial_json": ""}))
    builder.add_deltas(index, "input_json_delta", "partial_json", call.input_json, is_text=False)
    builder.stop_block(index, {**block, "input": call.input})


def _stop_fields(plan: ResponsePlan, reason: str | None) -> Object:
    details: Object | None = None
    if reason == "refusal":
        details = {
            "type": "refusal",
            "category": plan.refusal_category,
            "explanation": "The simulator was asked to refuse.",
        }
        if plan.credit_token is not None:
            details |= {
                "fallback_credit_token": plan.credit_token,
                "fallback_has_prefill_claim": plan.has_prefill_claim,
            }
    stopped: Object = {
        "stop_reason": reason,
        "stop_sequence": plan.stop_sequence if reason else None,
        "stop_details": details,
    }
    if reason and plan.container:  # it is sent at the end (issues 1424 and 1801 of the SDK)
        stopped["container"] = plan.container
    return stopped


def _message_object(
    message_id: str, plan: ResponsePlan, content: list[Json], reason: str | None, output: int
) -> Object:
    used = plan.input_usage if reason is None else _final_usage(plan)
    usage: Object = {
        **used.usage_fields(),
        "cache_creation": used.cache_creation(),
        "output_tokens": output,
        "service_tier": plan.service_tier,
        "inference_geo": plan.inference_geo,
    }
    if plan.speed is not None:
        usage["speed"] = plan.speed
    if reason is not None:
        usage |= _usage_details(plan, output, token_count(len(plan.thinking.text)) if plan.thinking else 0)
    head: Object = {
        "model": plan.model if reason is not None else plan.requested_model or plan.model,
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "content": content,
    }
    if plan.input_transformations is not None:
        transformations: list[Json] = [*plan.input_transformations]
        head["input_transformations"] = transformations
    return {**head, **_stop_fields(plan, reason), "usage": usage, "diagnostics": None}


def _message_delta(plan: ResponsePlan, output: int, thinking: int) -> bytes:
    usage: Object = {
        **_final_usage(plan).usage_fields(),
        "output_tokens": output,
        **_usage_details(plan, output, thinking),
    }
    return sse_format.event_frame(
        {"type": "message_delta", "delta": _stop_fields(plan, plan.stop_reason), "usage": usage}
    )


def _usage_details(plan: ResponsePlan, output: int, thinking: int) -> Object:
    details: Object = {}
    if plan.shows_iterations:
        entries: list[Json] = [each.usage_entry() for each in _iterations(plan, output)]
        details["iterations"] = entries
    if thinking:
        details["output_tokens_details"] = {"thinking_tokens": thinking}
    if plan.server_tool_uses:
        details["server_tool_use"] = server_tools.server_tool_usage(plan.server_tool_uses)
    return details
