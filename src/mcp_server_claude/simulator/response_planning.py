"""What a response is to say, decided from the request: thinking, server tools, tool call, text, where it stops."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import generated_text, sse_format
from mcp_server_claude.simulator.event_plan import Part, Thought, ToolCall
from mcp_server_claude.simulator.json_body import items, number, obj, text
from mcp_server_claude.simulator.prompt_directives import BREAKS
from mcp_server_claude.simulator.schema_examples import example
from mcp_server_claude.simulator.server_tool_state import CODE
from mcp_server_claude.simulator.server_tools import Fetch, Run, Search
from mcp_server_claude.simulator.token_counting import CHARS_PER_TOKEN, Input

if TYPE_CHECKING:
    from mcp_server_claude.simulator.answer_text import Answer
    from mcp_server_claude.simulator.event_plan import Display
    from mcp_server_claude.simulator.json_body import Object
    from mcp_server_claude.simulator.model_catalog import Model
    from mcp_server_claude.simulator.server_tools import Use

THINKING_TOKENS = {"low": 24, "medium": 48, "high": 80, "xhigh": 120, "max": 200}
COUNT_BETA = "thinking-token-count-2026-05-13"
QUERY_WORDS = 8
_SEARCH = re.compile(r"\bsearch", re.IGNORECASE)
_CODE = re.compile(r"\b(run|plot|compute)", re.IGNORECASE)
_PAGE = re.compile(r"https://[^\s\])>]+")


def cast(body: Object, answer: Answer, model: Model, *, used: Input, betas: str = "", chars: int = 0) -> Part:
    """The part that Claude plays in answer to this request; `chars` is the size of a delta, 0 for a natural one."""
    chosen = answer.directive
    huge = chosen.fault == "huge"
    part = Part(
        model=text(body.get("model")),
        used=used,
        chars=1 if chosen.fault == "tiny" else max(1, len(answer.text)) if huge else chosen.chars or chars,
        part_pairs=chosen.split == "surrogates",
        late=chosen.late is True,
        seed=f"{answer.conversation}{answer.text}",
    )
    limit = number(body.get("max_tokens"), 0)
    if limit == 0:  # a pre-warmed cache: nothing is generated
        return replace(part, stop_reason="max_tokens")
    thought = _thought(body, answer, model, betas)
    room = limit * CHARS_PER_TOKEN
    if thought is not None and len(thought.text) >= room:
        return replace(part, thought=replace(thought, text=thought.text[:room]), stop_reason="max_tokens")
    part = replace(part, thought=thought)
    room -= len(thought.text) if thought else 0
    tool = _tool(body, answer)
    part = (
        _calling(part, tool, answer, room, _uses(body, answer))
        if tool
        else _speaking(part, body, answer, len(answer.text) if huge else room)
    )
    return replace(part, cut=_cut(answer, len(part.call.json) if part.call else len(part.text)))


def _thought(body: Object, answer: Answer, model: Model, betas: str) -> Thought | None:
    config = obj(body.get("thinking"))
    kind = text(config.get("type"))
    asked = answer.directive.think
    if asked is None and not (kind in {"enabled", "adaptive"} or (not kind and model.thinks_by_default)):
        return None
    effort = text(obj(body.get("output_config")).get("effort")) or "medium"
    count = THINKING_TOKENS.get(effort, THINKING_TOKENS["medium"]) if asked is None else asked
    if not count:
        return None
    display: Display = "omitted" if model.omits_thinking else "summarized"
    if config.get("display") in {"omitted", "summarized"}:
        display = "omitted" if config["display"] == "omitted" else "summarized"
    if display == "omitted" and COUNT_BETA in betas:
        display = "counted"
    return Thought(text=generated_text.thoughts(answer.prompt, tokens=count), display=display)


def _tool(body: Object, answer: Answer) -> Object | None:
    """The tool to call: a forced one, or the one the directive asks for."""
    choice = obj(body.get("tool_choice"))
    mine = [obj(tool) for tool in items(body.get("tools")) if not _is_server_tool(obj(tool))]
    asked = answer.directive.stop == "tool_use" and not answer.after_tool
    if not asked and (choice.get("type") not in {"any", "tool"} or not mine):
        return None
    name = text(choice.get("name")) or answer.directive.tool
    named = [tool for tool in mine if not name or tool.get("name") == name]
    return named[0] if named else {"name": name or "lookup", "input_schema": {"properties": {"query": {}}}}


def _is_server_tool(tool: Object) -> bool:
    return text(tool.get("type")).startswith(("web_search", "web_fetch", "code_execution", "tool_search"))


def _calling(part: Part, tool: Object, answer: Answer, room: int, uses: tuple[Use, ...]) -> Part:
    given = obj(example({"type": "object"} | obj(tool.get("input_schema")), answer.prompt))
    said = sse_format.dumps(given).decode()
    whole = len(said) <= room
    call = ToolCall(name=text(tool.get("name")), input=given if whole else {}, json=said[:room])
    reason = "tool_use" if whole else "max_tokens"
    first = answer.text[: _stop(answer, answer.text, pausing=True)] if part.late else ""
    return replace(part, text=first, call=call, uses=_left_open(uses), stop_reason=reason)


def _speaking(part: Part, body: Object, answer: Answer, room: int) -> Part:
    said, reason, sequence = answer.text, answer.directive.stop or "end_turn", None
    pausing = reason == "pause_turn" and answer.pauses < (answer.directive.times or 1)
    if reason in {"tool_use", "pause_turn"} and not pausing:
        reason = "end_turn"
    if reason not in {"end_turn", "stop_sequence"}:
        said = said[: _stop(answer, said, pausing=pausing)]
    given = [text(sequence) for sequence in items(body.get("stop_sequences"))]
    places = [(said.index(sequence), sequence) for sequence in given if sequence in said]
    if places:
        place, sequence = min(places)
        said, reason = said[:place], "stop_sequence"
    elif reason == "stop_sequence":
        sequence = given[0] if given else None
    if len(said) > room:
        said, reason, sequence = said[:room], "max_tokens", None
    uses = _uses(body, answer, pausing=pausing)
    if pausing or (reason == "max_tokens" and part.late):
        uses = _left_open(uses)
    return replace(part, text=said, stop_reason=reason, stop_sequence=sequence, uses=uses)


def _uses(body: Object, answer: Answer, *, pausing: bool = False) -> tuple[Use, ...]:
    """What server tools do in this response: what they are asked for or the prompt speaks of, once a turn."""
    names, printed = _names(answer), _printed(answer)
    begun = [Run(begun=text(use.get("id")), prints=printed, made=names) for use in answer.pending if _is_code(use)]
    if answer.resumed and not pausing:
        return tuple(begun)
    chosen, prompt = answer.directive, answer.prompt
    found: list[Use] = []
    if _wanted(body, "web_search", chosen.search, _SEARCH.search(prompt) is not None):
        found.append(Search(" ".join(prompt.split()[:QUERY_WORDS])))
    page = _PAGE.search(prompt)
    if _wanted(body, "web_fetch", chosen.fetch, page is not None):
        found.append(Fetch(page[0] if page else "https://example.com/page"))
    if not answer.after_tool and _wanted(body, "code_execution", chosen.code, _CODE.search(prompt) is not None):
        found.append(Run(program=f"print({printed!r})\n", prints=printed, made=names))
    if pausing and not found:
        found.append(Search(" ".join(prompt.split()[:QUERY_WORDS])))
    return (*begun, *found)


def _wanted(body: Object, tool: str, asked: bool | None, spoken_of: bool) -> bool:  # noqa: FBT001
    """Whether a server tool is used: as asked, else where it is offered and the prompt speaks of such a thing."""
    if asked is not None:
        return asked
    return spoken_of and any(text(obj(each).get("type")).startswith(tool) for each in items(body.get("tools")))


def _left_open(uses: tuple[Use, ...]) -> tuple[Use, ...]:
    """The same, but code that is run has no result yet."""
    return tuple(replace(use, pending=True) if isinstance(use, Run) and not use.begun else use for use in uses)


def _is_code(use: Object) -> bool:
    return text(use.get("name")) in CODE


def _printed(answer: Answer) -> str:
    return f"{len(answer.prompt.split())} words\n"


def _names(answer: Answer) -> tuple[str, ...]:
    return tuple(name for name in (answer.directive.makes or "").split(",") if name)


def _stop(answer: Answer, said: str, *, pausing: bool) -> int:
    """Where an answer stops, in characters. A pause comes between words: nobody calls a tool within one."""
    place = len(said) // 2 if answer.directive.fault in BREAKS else _place(answer, len(said))
    while pausing and 0 < place < len(said) and not said[place - 1].isspace():
        place += 1
    return place


def _place(answer: Answer, length: int) -> int:
    """Where a stop or a fault strikes, in characters: as asked, else in the middle."""
    place = answer.directive.at
    return length // 2 if place is None else 0 if place == "headers" else place


def _cut(answer: Answer, length: int) -> int | None:
    return _place(answer, length) if answer.directive.fault in BREAKS else None
