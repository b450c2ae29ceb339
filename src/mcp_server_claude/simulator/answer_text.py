"""What Claude says to a conversation: new, or going on from where an earlier answer was cut.

A continuation is recognised in two forms. Up to Claude 4.5 the conversation ends with the partial answer as an
assistant message (prefill). From 4.6 on it ends with the partial answer and a user message that asks to go on. When
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
from mcp_server_claude.simulator.json_body import blocks, items, kinds, obj, said, text, turns
from mcp_server_claude.simulator.prompt_directives import NOTHING, parse
from mcp_server_claude.simulator.schema_examples import example

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.prompt_directives import Directive

ANCHOR_CHARS = 40
HUGE_CHARS = 5_000_000
TINY_EVENTS = 10_000
_GO_ON = re.compile(r"interrupted|continue", re.IGNORECASE)
_REPEAT = re.compile(r"repeat", re.IGNORECASE)
_HOW_MUCH = re.compile(r"repeat[^.\n\d]{0,60}(\d+) char", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The text to say, and what it was made from.

    `conversation` names the conversation up to its last real prompt, whatever was said after it. `pauses` counts the
    responses of a paused turn that is being taken up again, `after_tool` is true after a tool's result. `pending` are
    the uses of server tools whose results are still to come.
    """

    text: str
    prompt: str
    directive: Directive
    conversation: str
    resumed: bool = False
    pauses: int = 0
    after_tool: bool = False
    pending: tuple[Object, ...] = ()


def answer(body: Object, defaults: Directive = NOTHING) -> Answer:
    """The answer to a valid request body.

    Raises:
        BadDirectiveError: the prompt holds a directive that cannot be read.
    """
    messages = turns(body)
    return replace(_answer(messages, body, defaults), pending=tuple(server_tool_state.pending(messages)))


def schema(body: Object) -> Json:
    """The JSON schema that the answer must keep, if there is one."""
    form = obj(obj(body.get("output_config")).get("format"))
    return form.get("schema") if form.get("type") == "json_schema" else None


def _answer(messages: list[Object], body: Object, defaults: Directive) -> Answer:
    last = len(messages)
    while last and messages[last - 1].get("role") == "assistant":
        last -= 1
    if last < len(messages):
        return _resumed(messages[:last], messages[last:], "", body, defaults)
    request = said(messages[-1].get("content"), "\n") if messages else ""
    if _GO_ON.search(request) and last > 1 and messages[-2].get("role") == "assistant":
        before = last - 1
        while before and messages[before - 1].get("role") == "assistant":
            before -= 1
        found = _resumed(messages[:before], messages[before : last - 1], request, body, defaults)
        if found.resumed:
            return found
    return _fresh(messages, body, defaults)


def _resumed(before: list[Object], partial: list[Object], request: str, body: Object, defaults: Directive) -> Answer:
    """The rest of the answer to `before`, of which `partial` has been said."""
    whole = _answer(before, body, defaults)
    done = "".join(said(message.get("content")) for message in partial)
    # "Go on" after a whole answer is a new turn, unless the end is to be repeated: then it was lost on its way.
    left = done.rstrip() < whole.text.rstrip() or _REPEAT.search(request) is not None
    goes_on = whole.text.startswith(done) and (not request or (bool(done.strip()) and left))
    anchor = ""
    if goes_on and request and _REPEAT.search(request) and whole.directive.anchor is not False:
        asked = _HOW_MUCH.search(request)
        anchor = done[-(int(asked[1]) if asked else ANCHOR_CHARS) :]
    return Answer(
        text=anchor + whole.text[len(done) :] if goes_on else whole.text,
        prompt=whole.prompt,
        directive=whole.directive,
        conversation=whole.conversation,
        resumed=goes_on,
        pauses=server_tool_state.turns_taken(partial),
        after_tool=whole.after_tool,
    )


def _fresh(messages: list[Object], body: Object, defaults: Directive) -> Answer:
    prompts = [said(m.get("content"), "\n") for m in messages if m.get("role") == "user" and _is_prompt(m)]
    asked, prompt = parse(prompts[-1] if prompts else "")
    chosen = asked.over(defaults)
    system = said(body.get("system"))
    result = _tool_result(messages[-1]) if messages else ""
    told = json.dumps([system, messages], sort_keys=True).encode()
    return Answer(
        text=_text(prompt, chosen, system, len(prompts), result, schema(body)),
        prompt=prompt,
        directive=chosen,
        conversation=sha256(told).hexdigest(),
        after_tool=bool(messages) and "tool_result" in kinds(messages[-1]),
    )


def _text(prompt: str, chosen: Directive, system: str, turn: int, tool_result: str, form: Json) -> str:
    if chosen.text is not None:
        return chosen.text
    if form is not None:
        return json.dumps(example(form, prompt), ensure_ascii=False)
    if chosen.fault == "tiny":
        return generated_text.answer(prompt, system=system, turn=turn, tokens=TINY_EVENTS)[:TINY_EVENTS]
    said_text = generated_text.answer(prompt, system=system, turn=turn, tool_result=tool_result, tokens=chosen.tokens)
    if chosen.fault == "huge":
        return (f"{said_text}\n\n" * (HUGE_CHARS // (len(said_text) + 2) + 1))[:HUGE_CHARS]
    return said_text


def _is_prompt(message: Object) -> bool:
    return bool(kinds(message) - {"tool_result"})


def _tool_result(message: Object) -> str:
    found = [block for block in blocks(message.get("content")) if block.get("type") == "tool_result"]
    return " ".join(
        text(block.get("content")) or said(items(block.get("content")), " ") or "(nothing)" for block in found
    )
