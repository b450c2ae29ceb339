"""One response, written out before it is played: its events in order, with what each adds to the account."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256, sha512
from typing import TYPE_CHECKING, Literal

from mcp_server_claude.simulator import server_tools, sse_format
from mcp_server_claude.simulator.event_builder import Sheet, pieces
from mcp_server_claude.simulator.server_tools import Run
from mcp_server_claude.simulator.token_counting import tokens

if TYPE_CHECKING:
    from mcp_server_claude.simulator.event_builder import Step
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.server_tools import Use
    from mcp_server_claude.simulator.token_counting import Input

Display = Literal["summarized", "omitted", "counted"]
"""How thinking shows: its text; nothing; or nothing but an estimate of its tokens (a beta)."""

SEARCHED_SHARE = 3
THOUGHT_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """A thinking block: exactly `text`, shown as `display` says."""

    text: str
    display: Display


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call: the tool's name and its input as JSON, which may have been cut by `max_tokens`."""

    name: str
    input: Object
    json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one response is to say, and what server tools do before the text, or after it (`late`).

    `container` is the id of that in which code runs, and when it expires.
    """

    model: str
    used: Input
    thought: Thought | None = None
    uses: tuple[Use, ...] = ()
    late: bool = False
    container: Object | None = None
    text: str = ""
    call: ToolCall | None = None
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    chars: int = 0
    part_pairs: bool = False
    cut: int | None = None
    seed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The events of one response; a fault strikes before `steps[cut]`. The last two steps end the message."""

    steps: list[Step]
    message: Object
    cut: int
    last_index: int


def write(part: Part, request_id: str = "") -> Script:
    """The script of a response."""
    message_id = f"msg_01{sha256((part.seed + request_id).encode('utf-8', 'replace')).hexdigest()[:22]}"
    sheet = Sheet(chars=part.chars, part_pairs=part.part_pairs, target=part.cut)
    sheet.add(sse_format.event({"type": "message_start", "message": _message(message_id, part, [], None, 1)}))
    begun = tuple(use for use in part.uses if isinstance(use, Run) and use.begun)
    new = tuple(use for use in part.uses if use not in begun)
    _serve(sheet, part, begun)
    if part.thought is not None:
        _think(sheet, part.thought)
    if not part.late:
        _serve(sheet, part, new)
    if part.text:
        _write(sheet, part)
    if part.late:
        _serve(sheet, part, new)
    if part.call is not None:
        _call(sheet, part, part.call, request_id)
    cut = len(sheet.steps) if sheet.cut is None else sheet.cut
    thought = len(part.thought.text) if part.thought else 0
    output = tokens(thought + sheet.position)
    last_index = max(0, len(sheet.content) - 1)
    sheet.add(_message_delta(part, output, tokens(thought)))
    sheet.add(sse_format.event({"type": "message_stop"}))
    message = _message(message_id, part, sheet.content, part.stop_reason, output)
    return Script(steps=sheet.steps, message=message, cut=cut, last_index=last_index)


def _serve(sheet: Sheet, part: Part, uses: tuple[Use, ...]) -> None:
    for use in uses:
        server_tools.put(sheet, use, part.seed)


def _think(sheet: Sheet, thought: Thought) -> None:
    index = sheet.start({"type": "thinking", "thinking": "", "signature": ""})
    shown = thought.display == "summarized"
    if shown:
        for piece in pieces(thought.text, 0, 0, part_pairs=False):
            sheet.add(sse_format.delta(index, {"type": "thinking_delta", "thinking": piece}), len(piece))
        sheet.add(sse_format.delta(index, {"type": "thinking_delta", "thinking": ""}))
    else:
        for piece in pieces(thought.text, THOUGHT_TOKENS * 4, 0, part_pairs=False):
            estimate: Object = {"type": "thinking_delta", "thinking": "", "estimated_tokens": THOUGHT_TOKENS}
            sheet.add(sse_format.delta(index, estimate) if thought.display == "counted" else b"", len(piece))
    signature = b64encode(sha512(thought.text.encode("utf-8", "replace")).digest() * 2).decode()
    sheet.add(sse_format.delta(index, {"type": "signature_delta", "signature": signature}))
    sheet.stop(index, {"type": "thinking", "thinking": thought.text if shown else "", "signature": signature})


def _write(sheet: Sheet, part: Part) -> None:
    """The answer's text; where something was found, a first block without and a second one with a citation."""
    said = part.text
    found = [citation for use in part.uses if (citation := server_tools.cited(use, said))]
    if not found or part.late or len(said) < SEARCHED_SHARE:
        _text(sheet, said, None)
        return
    _text(sheet, said[: len(said) // SEARCHED_SHARE], None)
    _text(sheet, said[len(said) // SEARCHED_SHARE :], found[0])


def _text(sheet: Sheet, said: str, citation: Object | None) -> None:
    block: Object = {"type": "text", "text": ""}
    if citation is None:
        index = sheet.start(block)
    else:
        index = sheet.start({"citations": [], **block})
        sheet.add(sse_format.delta(index, {"type": "citations_delta", "citation": citation}))
    sheet.visible(index, "text_delta", "text", said, is_text=True)
    whole: Object = {"type": "text", "text": said}
    sheet.stop(index, whole if citation is None else {"citations": [citation], **whole})


def _call(sheet: Sheet, part: Part, call: ToolCall, request_id: str) -> None:
    seed = part.seed + request_id + call.json
    block: Object = {
        "type": "tool_use",
        "id": f"toolu_01{sha256(seed.encode('utf-8', 'replace')).hexdigest()[:22]}",
        "name": call.name,
        "input": {},
        "caller": {"type": "direct"},
    }
    index = sheet.start(block)
    sheet.add(sse_format.delta(index, {"type": "input_json_delta", "partial_json": ""}))
    sheet.visible(index, "input_json_delta", "partial_json", call.json, is_text=False)
    sheet.stop(index, {**block, "input": call.input})


def _stopped(part: Part, reason: str | None) -> Object:
    details: Object | None = None
    if reason == "refusal":
        details = {"type": "refusal", "category": None, "explanation": "The simulator was asked to refuse."}
    stopped: Object = {
        "stop_reason": reason,
        "stop_sequence": part.stop_sequence if reason else None,
        "stop_details": details,
    }
    if reason and part.container:  # it is told at the end (issues 1424 and 1801 of the SDK)
        stopped["container"] = part.container
    return stopped


def _message(message_id: str, part: Part, content: list[Json], reason: str | None, output: int) -> Object:
    usage: Object = {
        **part.used.as_json(),
        "cache_creation": part.used.creation(),
        "output_tokens": output,
        "service_tier": "standard",
        "inference_geo": "global",
    }
    if reason is not None:
        usage |= _details(part, tokens(len(part.thought.text)) if part.thought else 0)
    head: Object = {
        "model": part.model,
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "content": content,
    }
    return {**head, **_stopped(part, reason), "usage": usage}


def _message_delta(part: Part, output: int, thinking: int) -> bytes:
    usage: Object = {**part.used.as_json(), "output_tokens": output, **_details(part, thinking)}
    return sse_format.event({"type": "message_delta", "delta": _stopped(part, part.stop_reason), "usage": usage})


def _details(part: Part, thinking: int) -> Object:
    found: Object = {}
    if thinking:
        found["output_tokens_details"] = {"thinking_tokens": thinking}
    if part.uses:
        found["server_tool_use"] = server_tools.counts(part.uses)
    return found
