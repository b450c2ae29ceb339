"""The answer to a conversation: a new one, or the rest of an earlier answer that was cut.

A continuation is recognised in two forms. Up to Claude 4.5 the conversation ends with the partial answer as an
assistant message (prefill). From 4.6 on it ends with the partial answer and a user message that asks for a
continuation. When
the partial begins the answer to what stood before it, the new answer is the rest of that answer, so that both parts
together are the original.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import generated_text, server_tool_state
from mcp_server_claude.simulator.json_body import (
    as_list,
    as_object,
    as_text,
    block_types,
    content_blocks,
    content_text,
    conversation_turns,
)
from mcp_server_claude.simulator.prompt_directives import EMPTY_DIRECTIVE, parse_directives
from mcp_server_claude.simulator.schema_examples import example_value
from mcp_server_claude.simulator.thinking_binding import without_thinking

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.prompt_directives import Directive

DEFAULT_ANCHOR_CHARS = 40
HUGE_ANSWER_CHARS = 5_000_000
TINY_ANSWER_EVENTS = 10_000
STRAY_TEXT = "?"
"""The text of the fault `badindex`. A partial answer that holds it is continued as if the simulator had written it."""
_CONTINUE_REQUEST = re.compile(r"interrupted|continue", re.IGNORECASE)
_REPEAT_REQUEST = re.compile(r"repeat", re.IGNORECASE)
_REPEAT_LENGTH = re.compile(r"repeat[^.\n\d]{0,60}(\d+) char", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedAnswer:
    """The text to say, and what it was made from.

    `conversation` names the conversation up to its last real prompt, without what follows it. `earlier_pauses`
    counts the responses of a paused turn that is being taken up again, `follows_tool_result` is true after a tool's
    result. `pending_tool_uses` are the uses of server tools whose results are still to come.
    """

    text: str
    prompt: str
    directive: Directive
    conversation: str
    resumed: bool = False
    earlier_pauses: int = 0
    follows_tool_result: bool = False
    pending_tool_uses: tuple[Object, ...] = ()


def plan_answer(body: Object, defaults: Directive = EMPTY_DIRECTIVE) -> ScriptedAnswer:
    """The answer to a valid request body.

    Raises:
        InvalidDirectiveError: the prompt holds a directive that cannot be read.
    """
    messages = conversation_turns(body)
    return replace(
        _plan_messages(messages, body, defaults), pending_tool_uses=tuple(server_tool_state.pending_tool_uses(messages))
    )


def output_schema(body: Object) -> Json:
    """The JSON schema that the answer must keep, if there is one."""
    form = as_object(as_object(body.get("output_config")).get("format"))
    return form.get("schema") if form.get("type") == "json_schema" else None


def _plan_messages(messages: list[Object], body: Object, defaults: Directive) -> ScriptedAnswer:
    last = len(messages)
    while last and messages[last - 1].get("role") == "assistant":
        last -= 1
    if last < len(messages):
        return _plan_continuation(messages[:last], messages[last:], "", body, defaults)
    request = content_text(messages[-1].get("content"), "\n") if messages else ""
    if _CONTINUE_REQUEST.search(request) and last > 1 and messages[-2].get("role") == "assistant":
        before = last - 1
        while before and messages[before - 1].get("role") == "assistant":
            before -= 1
        found = _plan_continuation(messages[:before], messages[before : last - 1], request, body, defaults)
        if found.resumed:
            return found
    return _plan_new_answer(messages, body, defaults)


def _plan_continuation(
    before: list[Object], partial: list[Object], request: str, body: Object, defaults: Directive
) -> ScriptedAnswer:
    """The rest of the answer to `before`, of which `partial` has been sent."""
    whole = _plan_messages(before, body, defaults)
    done = "".join(content_text(message.get("content")) for message in partial)
    # "Go on" after a whole answer is a new turn, unless the end is to be repeated: then it was lost on its way.
    said_chars = _said_chars(whole.text, done)
    left = done.rstrip() < whole.text.rstrip() or _REPEAT_REQUEST.search(request) is not None
    goes_on = said_chars is not None and (not request or (bool(done.strip()) and left))
    anchor = ""
    if goes_on and request and _REPEAT_REQUEST.search(request) and whole.directive.anchor is not False:
        asked = _REPEAT_LENGTH.search(request)
        anchor = done[-(int(asked[1]) if asked else DEFAULT_ANCHOR_CHARS) :]
    return ScriptedAnswer(
        text=anchor + whole.text[said_chars:] if goes_on else whole.text,
        prompt=whole.prompt,
        directive=whole.directive,
        conversation=whole.conversation,
        resumed=goes_on,
        earlier_pauses=server_tool_state.response_count(partial),
        follows_tool_result=whole.follows_tool_result,
    )


def _said_chars(whole: str, done: str) -> int | None:
    """The length of the beginning of `whole` that `done` is, apart from stray text; None if it is no beginning."""
    said_chars = 0
    for character in done:
        if whole[said_chars : said_chars + 1] == character:
            said_chars += 1
        elif character != STRAY_TEXT:
            return None
    return said_chars


def _plan_new_answer(messages: list[Object], body: Object, defaults: Directive) -> ScriptedAnswer:
    prompts = [content_text(m.get("content"), "\n") for m in messages if m.get("role") == "user" and _is_user_prompt(m)]
    directive, prompt = parse_directives(prompts[-1] if prompts else "")
    chosen = directive.with_defaults(defaults)
    system = content_text(body.get("system"))
    result = _tool_result_text(messages[-1]) if messages else ""
    # Thinking is left out: a request that is sent again without it belongs to the same conversation.
    history: list[Json] = [*without_thinking(messages)]
    signed = json.dumps([system, history], sort_keys=True).encode()
    return ScriptedAnswer(
        text=_answer_text(prompt, chosen, system, len(prompts), result, output_schema(body)),
        prompt=prompt,
        directive=chosen,
        conversation=sha256(signed).hexdigest(),
        follows_tool_result=bool(messages) and "tool_result" in block_types(messages[-1]),
    )


def _answer_text(prompt: str, directive: Directive, system: str, turn: int, tool_result: str, form: Json) -> str:
    if directive.text is not None:
        return directive.text
    if form is not None:
        return json.dumps(example_value(form, prompt), ensure_ascii=False)
    if directive.fault == "tiny":
        return generated_text.generate_answer(prompt, system=system, turn_number=turn, tokens=TINY_ANSWER_EVENTS)[
            :TINY_ANSWER_EVENTS
        ]
    said_text = generated_text.generate_answer(
        prompt, system=system, turn_number=turn, tool_result=tool_result, tokens=directive.tokens
    )
    if directive.fault == "huge":
        return (f"{said_text}\n\n" * (HUGE_ANSWER_CHARS // (len(said_text) + 2) + 1))[:HUGE_ANSWER_CHARS]
    return said_text


def _is_user_prompt(message: Object) -> bool:
    return bool(block_types(message) - {"tool_result"})


def _tool_result_text(message: Object) -> str:
    found = [block for block in content_blocks(message.get("content")) if block.get("type") == "tool_result"]
    return " ".join(
        as_text(block.get("content")) or content_text(as_list(block.get("content")), " ") or "(nothing)"
        for block in found
    )
