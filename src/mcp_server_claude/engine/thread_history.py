"""The beginning of a request within a thread: system prompt, tool definitions and earlier messages, for one model.

Current models bind a thinking block to everything before it: `system`, `tools` and every earlier message. A change of
any of these is HTTP 400 (https://platform.claude.com/docs/en/build-with-claude/preserved-thinking, as documented
by November 2026).
Two rules keep a thread alive:

* A thread is append-only. It keeps the system prompt and the tool definitions that it began with. New rules become a
  `role: "system"` message after the question that brought them, and so do new tools where the API takes them there
  (`tool_addition`, https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages, as of
  2026-09-26). Tools that a turn may not use stay defined, with `tool_choice: none`.
* Each answer is stored with a digest of the request before it. Its thinking is sent back only where the new request
  begins with exactly the same content. So a change that cannot be appended (another model's
  versions of the tools, another key) leaves out thinking instead of failing.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias, cast

from mcp_server_claude.anthropic_api.request_body import server_tool_definitions
from mcp_server_claude.anthropic_api.web_allowance import FULL_WEB_ALLOWANCE
from mcp_server_claude.call_types import THINKING_BLOCK_TYPES, SentTurn
from mcp_server_claude.engine.file_tool_definitions import FILE_TOOL_NAMES, TOOL_DEFINITIONS
from mcp_server_claude.engine.thread_repair import ThreadRepair, without_missing_files
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.anthropic_api.web_allowance import WebAllowance
    from mcp_server_claude.call_types import Block, Call, Message, PastMessage, ToolDefinition, ToolName
    from mcp_server_claude.engine.structured_output import OutputSchema

    Definitions: TypeAlias = tuple[ToolDefinition, ...]

SYSTEM_MESSAGE_MODELS = re.compile(r"opus-4-8|opus-5|(fable|mythos)-5|sonnet-5-5|haiku-5-5")
"""Models that take `role: "system"` within `messages`
(https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages, looked up 2026-11-29)."""
ACCOUNT_TAG_CHARS = 8
"""Characters of a digest of the credential in front of each prefix digest, by which a changed key is recognised."""
NO_REPAIR = ThreadRepair()
RULES_PREFACE = "From here on these instructions replace the earlier ones:\n\n"
WEB_TOOLS = frozenset({"web_search", "web_fetch"})
WEB_VERSION = re.compile(r"web_(?:search|fetch)_(\d{8})")
FIRST_PROGRAMMATIC_VERSION = "20260209"
"""From this version on the web tools are called by code unless they say otherwise, which older models cannot run
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool, as documented by November 2026)."""


@frozen_dataclass(kw_only=True)
class ThreadView:
    """The part of a request before the call's own question, in the form for one model.

    `digest` covers the system prompt, the tools and the history. `rules` are the messages that follow the question.
    `tools` stand at the beginning, and `offered` are all, with those that messages define. `added_tools` are those that
    this turn brings. `definitions` are the tools with which the thread begins in its later turns; they differ from
    `tools` where a model or a schema needs other versions for this one request. `has_thinking` says that `history`
    holds bound thinking.
    """

    system: str
    tools: Definitions
    history: tuple[Message, ...]
    rules: tuple[Message, ...]
    definitions: Definitions
    offered: Definitions
    digest: str
    has_thinking: bool
    added_tools: Definitions = ()
    account_tag: str = ""
    notes: tuple[str, ...] = ()

    def sent_turn(self, question: Message, repair: ThreadRepair) -> SentTurn:
        """The part of this turn that the thread keeps."""
        return SentTurn(
            question=question,
            prefix_digest=f"{self.account_tag}.{_chain(self.digest, question, *self.rules)}",
            definitions=self.definitions,
            added_tools=self.added_tools,
            merges_tools=repair.additions_refused,
            dropped_thinking=not repair.with_thinking,
            drops_blocks=repair.drops_blocks,
            missing_files=tuple(sorted(repair.missing_files)),
        )


def thread_view(
    call: Call,
    model: ClaudeModel,
    form: OutputSchema | None = None,
    *,
    account: str = "",
    repair: ThreadRepair = NO_REPAIR,
    web: WebAllowance = FULL_WEB_ALLOWANCE,
) -> ThreadView:
    """The view that `model` gets of the thread of a call.

    `account` distinguishes credentials: the API refuses some thinking of other accounts. `repair` is what the
    API's refusals have made necessary. `web` bounds the web tools of this one request.
    """
    definitions, added = _thread_definitions(call, model)
    known = merge_definitions(definitions, *(past.added_tools for past in call.history), added)
    takes_system = takes_system_messages(model)
    adds_tools = takes_system and not repair.merges_tools and _definitions_for(known, model) == known
    offered = _for_request(_definitions_for(known, model), form, web)
    tools = _for_request(definitions, form, web) if adds_tools else offered
    abilities = set(abilities_in(offered))
    system = call.system if takes_system else next(_latest_rules(call), call.system)
    digest = _chain(account, {"system": system, "tools": _with_form_tool(tools, form)})
    account_tag = sha256(account.encode()).hexdigest()[:ACCOUNT_TAG_CHARS]
    left_out: PastMessage | None = None
    history: list[Message] = []
    has_thinking = False
    for past in call.history:
        keeps_thinking = repair.with_thinking and past.prefix_digest in {digest, f"{account_tag}.{digest}"}
        if past.role == "assistant":
            left_out = past if past.prefix_digest and not keeps_thinking and _has_thinking(past.content) else None
        content = [block for block in past.content if keeps_thinking or block.get("type") not in THINKING_BLOCK_TYPES]
        content = _without_missing_tools(without_missing_files(content, repair.missing_files), abilities)
        has_thinking = has_thinking or _has_thinking(content)
        additions = _for_request(past.added_tools, form, web) if adds_tools else ()
        messages = [_as_sent(past.role, content), *system_messages(past.rules if takes_system else "", additions)]
        history += messages
        digest = _chain(digest, *messages)
    return ThreadView(
        system=system,
        tools=tools,
        history=tuple(history),
        rules=tuple(
            system_messages(call.rules if takes_system else "", _for_request(added, form, web) if adds_tools else ())
        ),
        definitions=definitions,
        offered=offered,
        added_tools=added,
        digest=digest,
        has_thinking=has_thinking,
        account_tag=account_tag,
        notes=tuple(_change_notes(call, model, left_out if repair.with_thinking else None, account_tag)),
    )


def _has_thinking(content: Iterable[Block]) -> bool:
    return any(block.get("type") in THINKING_BLOCK_TYPES for block in content)


def _change_notes(call: Call, model: ClaudeModel, left_out: PastMessage | None, account_tag: str) -> Iterator[str]:
    """Sentences on what has changed since the last answer, where that costs the thread its thinking."""
    last = next((past.model for past in reversed(call.history) if past.role == "assistant" and past.model), "")
    if last and last != model.id:
        yield f"{last} gave the previous answer, and {model.id} may not read its thinking"
    if left_out is None:
        return
    tag, _, digest = left_out.prefix_digest.rpartition(".")
    reason = "the key or the platform" if digest and tag and tag != account_tag else "the tools or the system prompt"
    yield f"{reason} changed, so the thinking of earlier answers was left out"


def takes_system_messages(model: ClaudeModel) -> bool:
    """True if a model accepts `role: "system"` within `messages`."""
    return SYSTEM_MESSAGE_MODELS.search(model.anthropic_id or model.id) is not None


def system_messages(rules: str, added_tools: Sequence[ToolDefinition] = ()) -> list[Message]:
    """Rules that begin to hold within a thread, and tools that begin to be there, as a message; none without either.

    The API takes such a message directly after a user message, and an assistant message or nothing may follow it.
    """
    blocks: list[Block] = [
        {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}}
        for definition in added_tools
    ]
    if rules:
        blocks.append({"type": "text", "text": f"{RULES_PREFACE}{rules}"})
    return [{"role": "system", "content": blocks}] if blocks else []


def merge_definitions(*parts: Iterable[ToolDefinition]) -> Definitions:
    """Tool definitions in the order of their first names; a later one replaces an earlier one of the same name."""
    merged: dict[str, ToolDefinition] = {}
    for part in parts:
        merged |= {str(definition.get("name")): definition for definition in part}
    return tuple(merged.values())


def known_definitions(call: Call) -> Definitions:
    """All tools that the thread of a call has had so far."""
    return merge_definitions(call.definitions, *(past.added_tools for past in call.history))


def has_definitions(ability: ToolName, definitions: Iterable[ToolDefinition]) -> bool:
    """True if these definitions include the tools of an ability."""
    return any(_ability(definition) == ability for definition in definitions)


def abilities_in(definitions: Iterable[ToolDefinition]) -> tuple[ToolName, ...]:
    """The abilities whose tools are defined, in the order of their definitions."""
    return tuple(dict.fromkeys(ability for definition in definitions if (ability := _ability(definition))))


def _thread_definitions(call: Call, model: ClaudeModel) -> tuple[Definitions, Definitions]:
    """The tools that the thread begins with, and those that this call adds."""
    if not call.history:
        return call.definitions or _new_definitions(call.tools, model), ()
    definitions = call.definitions
    if not known_definitions(call):  # an earlier version of this package did not store them
        definitions = _new_definitions(_abilities_used(call), model)
    known = merge_definitions(definitions, known_definitions(call))
    abilities = abilities_in(known)
    if set(call.tools) <= set(abilities):
        return definitions, ()
    wanted = _new_definitions(tuple(dict.fromkeys((*abilities, *call.tools))), model)
    return definitions, tuple(definition for definition in wanted if definition not in known)


def _definitions_for(definitions: Definitions, model: ClaudeModel) -> Definitions:
    """The tools as this model takes them: its own versions where it cannot drive those of the thread."""
    lacking = {name for name, is_there in (("web", model.web_search), ("code", model.code_execution)) if not is_there}
    if any(_needs_programmatic(definition) for definition in definitions) and not model.programmatic:
        definitions = _new_definitions(abilities_in(definitions), model)
    return tuple(tool for tool in definitions if _ability(tool) not in lacking)


def _for_request(definitions: Iterable[ToolDefinition], form: OutputSchema | None, web: WebAllowance) -> Definitions:
    """The tools for one request, within its bounds. A format and citations exclude each other: 400 where both are
    enabled (docs, "Structured outputs").
    """
    limited = (web.limit_tool(definition) for definition in definitions)
    return tuple(limited if form is None else map(_without_citations, limited))


def _new_definitions(abilities: Sequence[ToolName], model: ClaudeModel) -> Definitions:
    own = TOOL_DEFINITIONS if "read" in abilities else ()
    return (*server_tool_definitions(abilities, programmatic=model.programmatic), *own)


def _with_form_tool(tools: Definitions, form: OutputSchema | None) -> list[ToolDefinition]:
    """The tools with the one by which a schema is forced, where the model has no structured outputs."""
    forced = cast("list[RequestBody]", form.apply_to({}).get("tools", [])) if form is not None else []
    return [*tools, *forced]


def _ability(definition: ToolDefinition) -> ToolName | None:
    kind = str(definition.get("type") or "")
    if kind.startswith("web_"):
        return "web"
    if kind.startswith("code_execution"):
        return "code"
    return "read" if not kind and definition.get("name") in FILE_TOOL_NAMES else None


def _needs_programmatic(definition: ToolDefinition) -> bool:
    version = WEB_VERSION.fullmatch(str(definition.get("type") or ""))
    return version is not None and version[1] >= FIRST_PROGRAMMATIC_VERSION


def _as_sent(role: str, content: list[Block]) -> Message:
    """A message in the form in which it was sent first: a question without files is a string (`Call.user_message`)."""
    match content:
        case [{"type": "text", "text": str(text)}] if role == "user":
            return {"role": role, "content": text}
        case _:
            return {"role": role, "content": content}


def _without_citations(definition: ToolDefinition) -> ToolDefinition:
    return {name: value for name, value in definition.items() if name != "citations"}


def _abilities_used(call: Call) -> tuple[ToolName, ...]:
    """The abilities used in a thread whose definitions an earlier version of this package did not store."""
    blocks = [block for past in call.history for block in past.content]
    is_web = any(block.get("type") == "server_tool_use" and block.get("name") in WEB_TOOLS for block in blocks)
    return tuple(dict.fromkeys(each for block in blocks if (each := _ability_used(block, is_web=is_web))))


def _without_missing_tools(content: list[Block], abilities: set[ToolName]) -> list[Block]:
    """A message for a model that lacks a tool which was used in it: its text alone, since the API wants the tool."""
    used = {_ability_used(block, is_web="web" in abilities) for block in content}
    if used <= {*abilities, None}:
        return content
    text = "\n\n".join(str(block["text"]) for block in content if block.get("type") == "text" and block.get("text"))
    others = [block for block in content if block.get("type") in {"document", "image"}]
    return [*others, {"type": "text", "text": text or "(no text)"}]


def _ability_used(block: Block, *, is_web: bool) -> ToolName | None:
    """The ability whose tool a block needs. The web tools themselves use `code_execution`, to filter results."""
    match block.get("type"), str(block.get("name") or ""):
        case "container_upload", _:
            return "code"
        case "server_tool_use", name if name in WEB_TOOLS:
            return "web"
        case "server_tool_use", "code_execution" if is_web:
            return None
        case "server_tool_use", name if name.endswith("code_execution"):
            return "code"
        case _:
            return None


def _latest_rules(call: Call) -> Iterator[str]:
    """The rules that hold now, the latest first, without those that the thread began with."""
    yield from (rules for rules in (call.rules, *(past.rules for past in reversed(call.history))) if rules)


def _chain(digest: str, *values: Mapping[str, object]) -> str:
    """A digest of what came before and these values; independent of key order and of cache breakpoints."""
    for value in values:
        hashed = sha256(digest.encode())
        for part in _canonical(value):
            hashed.update(part)
        digest = hashed.hexdigest()
    return digest


def _canonical(value: object) -> Iterable[bytes]:
    """A JSON value as bytes that differ where the value does. Cache breakpoints are not part of the prefix."""
    match value:
        case str():
            data = value.encode("utf-8", "surrogatepass")
            yield b"s%d:" % len(data)
            yield data
        case list() | tuple():
            yield b"["
            for each in cast("Sequence[object]", value):
                yield from _canonical(each)
            yield b"]"
        case dict():
            fields = cast("Mapping[str, object]", value)
            yield b"{"
            for name in sorted(fields):
                if name != "cache_control":
                    yield from _canonical(name)
                    yield from _canonical(fields[name])
            yield b"}"
        case _:
            yield f"v{value!r};".encode()
