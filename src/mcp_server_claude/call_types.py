"""The values of a call: `Call` (the request), `CallEvent` (its progress) and `Reply` (its result).

All are frozen and independent of the SDKs, the store, MCP and HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, field
from secrets import token_hex
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass

Effort = Literal["", "low", "medium", "high", "xhigh", "max"]
"""The effort that Claude puts into an answer (`output_config.effort`); empty for the model's default."""

ToolName = Literal["web", "code", "read"]
"""A group of tools that Claude may use while it answers. `web` searches and fetches pages, and `code` writes and runs
code, both on Anthropic's side. `read` lists, searches and reads files below the allowed roots, on ours."""

StopReason: TypeAlias = str
"""The Messages API's `stop_reason`. The API may add new ones."""

CHARS_PER_TOKEN = 3.5
"""Characters a token of English prose, with the tokenizer of the models since 4.7; only for estimates."""

COMPLETE_STOP_REASONS: frozenset[StopReason] = frozenset({"end_turn", "stop_sequence"})
"""The stop reasons of a complete answer."""

GLOBAL_INFERENCE = frozenset({None, "", "global", "not_available"})
"""The values of `usage.inference_geo` for inference that is not confined to a region
(https://platform.claude.com/docs/en/manage-claude/data-residency, looked up 2026-11-29)."""

DEFAULT_SERVICE_TERMS = frozenset({None, "", "standard"})
"""The values of `usage.service_tier` and `usage.speed` at the standard price."""

THINKING_BLOCK_TYPES = frozenset({"thinking", "redacted_thinking"})
"""The types of content blocks with thinking. They are bound to the model that wrote them."""

Block: TypeAlias = Mapping[str, object]
"""One content block of an assistant message, as the API sent it."""


Message: TypeAlias = Mapping[str, object]
"""A message of a conversation as the API takes it: a `role` and its `content`."""

ToolDefinition: TypeAlias = Mapping[str, object]
"""A tool as a request defines it."""


def new_call_id() -> str:
    """A new call id, `c_` and 24 hexadecimal digits: time in seconds first, so that ids sort by age."""
    return f"c_{int(time.time()):08x}{token_hex(8)}"


@frozen_dataclass(kw_only=True)
class Limits:
    """The limits of a user; None or 0 for no limit.

    `usd_per_day` is in US dollars a UTC day, `calls_per_minute` counts new calls, `concurrent` running ones.
    """

    usd_per_day: float | None = None
    calls_per_minute: int = 0
    concurrent: int = 0


@frozen_dataclass(kw_only=True)
class PastMessage:
    """A message of a thread, as it was sent or received.

    `rules` are the instructions that began to hold with a question. `prefix_digest` identifies everything that came
    before an answer in its request, and is empty where the thinking of the answer must not be sent again. `model` is
    the model that was asked for an answer. `added_tools` are the tools that a question brought into its thread.
    """

    role: Literal["user", "assistant"]
    content: Sequence[Block]
    rules: str = ""
    prefix_digest: str = ""
    model: str = ""
    added_tools: Sequence[ToolDefinition] = ()


@frozen_dataclass(kw_only=True)
class SentTurn:
    """The part of a turn, apart from the answer, that a thread stores and sends again unchanged.

    `definitions` are the tools with which the thread begins from now on, `added_tools` those that this turn brought.
    With `merges_tools` the API refused tools that come later, so that all stand at the beginning. `dropped_thinking`
    says that the API refused the thinking of earlier answers, so that it must not be sent again; with `drops_blocks`
    the API drops what it would refuse, in every later request. `missing_files` are URLs and file ids of earlier turns
    that cannot be fetched any more.
    """

    question: Message
    prefix_digest: str
    definitions: tuple[ToolDefinition, ...] = ()
    added_tools: tuple[ToolDefinition, ...] = ()
    merges_tools: bool = False
    dropped_thinking: bool = False
    drops_blocks: bool = False
    missing_files: tuple[str, ...] = ()


@frozen_dataclass(kw_only=True)
class Call:
    """One question to Claude, as MCP, HTTP or the shell received it.

    `model` is an exact id or a line (`opus`, `sonnet`, `haiku`, `fable`); empty means the configured default.
    `max_tokens` of 0 means the model's own limit, `max_usd` of 0 no limit of its own. `client` is the MCP client's
    name, `source` is one of these. `thread` is the conversation that this continues, `history` its messages so far,
    `definitions` the tools that it was begun with, `rules` the instructions that hold from this question on.
    `attachments` are the content blocks that come before the prompt, read from what `files` names. `schema` is a JSON
    Schema that the answer is held to; `notes` are sentences for the answer's footer. `limits` are those of its `user`.
    `starts_thread` says that `thread` is a fresh id, and this call the first of that conversation. `container_id` names
    the container where code ran in an earlier turn, so that code finds its files again. `shows_status` says that a
    person watches the progress. `drops_thinking_blocks` says that the API is to drop thinking of the thread
    that it would refuse, `merges_tools` that it takes no tools which come later in the thread.
    `job_id` is the job that it belongs to, and `job_max_usd` what all calls of that job may cost together; 0 for no
    limit. Without `caches_prompt` only rules and attachments are written to the prompt cache: no other call begins with
    the same prompt; and without `caches_attachments` the rules alone. `project` is the name that the ledger shows;
    empty for that of the process. With `batch` it is answered in a message batch, within 24 hours and at half the
    price.
    """

    prompt: str
    system: str = ""
    model: str = ""
    effort: Effort = ""
    max_tokens: int = 0
    max_usd: float = 0.0
    thread: str = ""
    starts_thread: bool = False
    history: tuple[PastMessage, ...] = ()
    definitions: tuple[ToolDefinition, ...] = ()
    rules: str = ""
    attachments: tuple[Block, ...] = ()
    container_id: str = ""
    tools: tuple[ToolName, ...] = ()
    files: tuple[str, ...] = ()
    schema: Mapping[str, object] | None = None
    notes: tuple[str, ...] = ()
    tool: str = "claude_ask"
    source: Literal["mcp", "http", "shell"] = "mcp"
    client: str = ""
    user: str = "local"
    limits: Limits = field(default_factory=Limits)
    job_id: str = ""
    job_max_usd: float = 0.0
    caches_prompt: bool = True
    caches_attachments: bool = True
    trace_id: str = ""
    project: str = ""
    batch: bool = False
    shows_status: bool = False
    drops_thinking_blocks: bool = False
    merges_tools: bool = False
    id: str = field(default_factory=new_call_id)

    def user_message(self) -> Message:
        """The user message of the call: its attachments, then its prompt."""
        text = {"type": "text", "text": self.prompt}
        return {"role": "user", "content": [*self.attachments, text] if self.attachments else self.prompt}


@frozen_dataclass(kw_only=True)
class TokenCounts:
    """The counts of the Messages API's `usage`, for one request or added up."""

    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    web_searches: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All input tokens, cached ones included."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens

    def counts(self) -> dict[str, int]:
        """The counts alone, by field name."""
        return {name: getattr(self, name) for name in TokenCounts.__dataclass_fields__}

    def plus(self, other: TokenCounts) -> TokenCounts:
        """The sum of both."""
        return TokenCounts(**{name: count + getattr(other, name) for name, count in self.counts().items()})


@frozen_dataclass(kw_only=True)
class ModelUsage(TokenCounts):
    """The share of one model in a call that asked more than one: its requests, tokens and cost.

    `cost_usd` is in US dollars, null when the model's price is unknown.
    """

    model: str
    requests: int = 0
    cost_usd: float | None = 0.0


@frozen_dataclass(kw_only=True)
class Usage(TokenCounts):
    """The usage of a call: its tokens, its cost and its end. A stable, documented shape.

    Token counts are the API's own, added up over every upstream request of the call.

    Args:
        model: The model that answered.
        cost_usd: US dollars; null when the model's price is unknown, never 0 for that reason.
        pricing_as_of: The version of the price list.
        stop_reason: The API's stop reason of the last request.
        complete: The answer is complete.
        estimated: A stream ended early, and its output tokens were counted from its text.
        resumed: The text was joined from more than one stream.
        request_ids: The API's ids of the requests.
        attempts: Upstream requests.
        retries: Requests that were sent again after an error.
        ttft_s: Seconds from the call to the first visible text.
        duration_s: Seconds from the call to its end.
        thread: The thread of the call.
        call_id: The id of the call.
        user: The user who made it.
        trace_id: The OpenTelemetry trace.
        fallback_from: The model that was requested, where another one answered.
        by_model: The share of each model, where another one answered.
        inference_geo: The place of inference, as the API names it or as the platform's endpoint implies it.
        speed: `standard` or `fast`, where the API names it.
        service_tier: `standard`, `priority` or `batch`, where the API names it.
    """

    model: str = ""
    cost_usd: float | None = None
    pricing_as_of: str | None = None
    stop_reason: StopReason | None = None
    complete: bool = False
    estimated: bool = False
    resumed: bool = False
    request_ids: tuple[str, ...] = ()
    attempts: int = 0
    retries: int = 0
    ttft_s: float | None = None
    duration_s: float = 0.0
    thread: str | None = None
    call_id: str = ""
    user: str = "local"
    trace_id: str = ""
    fallback_from: str | None = None
    by_model: tuple[ModelUsage, ...] = ()
    inference_geo: str | None = None
    speed: str | None = None
    service_tier: str | None = None

    @property
    def service_notes(self) -> tuple[str, ...]:
        """The terms of service that are not the default, in words: they change the price."""
        tier = self.service_tier if self.service_tier not in DEFAULT_SERVICE_TERMS else None
        return tuple(
            note
            for note in (
                "fast mode" if self.speed == "fast" else "",
                f"{tier} tier" if tier else "",
                f"inference in {self.inference_geo}" if self.is_regional else "",
            )
            if note
        )

    @property
    def is_regional(self) -> bool:
        """True if inference was confined to a region, which costs more."""
        return self.inference_geo not in GLOBAL_INFERENCE

    def as_json(self) -> Mapping[str, object]:
        """All fields as JSON-ready values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "request_ids": list(self.request_ids),
            "by_model": [asdict(share) for share in self.by_model],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Usage:
        """The usage from values that `as_json` wrote, e.g. in the journal; unknown fields are ignored."""
        values = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        ids = cast("Sequence[str]", values.pop("request_ids", ()))
        shares = cast("Sequence[dict[str, Any]]", values.pop("by_model", ()))
        return cls(
            **cast("dict[str, Any]", values),
            request_ids=tuple(ids),
            by_model=tuple(ModelUsage(**share) for share in shares),
        )


@frozen_dataclass(kw_only=True)
class MessageStart:
    """The API began to answer (`message_start`). `usage` has the exact token counts of the input."""

    usage: Usage


class TextDelta(NamedTuple):
    """A piece of the answer. All pieces joined are the answer. A tuple, since it is made more often than all others."""

    text: str


@frozen_dataclass()
class TextPending:
    """Text that may still be withdrawn is being written; `chars` is its length so far."""

    chars: int


@frozen_dataclass()
class ThinkingProgress:
    """Claude is thinking; `tokens` is the number of thinking tokens so far, 0 when the API does not report it.

    `summary` is the latest whole sentence of the summary, where the model shows one.
    """

    tokens: int = 0
    summary: str = ""


@frozen_dataclass()
class ToolUse:
    """Claude uses a tool, e.g. `web_search`; `query` is its main argument, when known."""

    tool: str
    query: str = ""


@frozen_dataclass()
class Waiting:
    """The call waits for a slot or before a retry.

    Args:
        reason: The reason, in words for a person.
        seconds: Seconds to wait, when known.
        attempt: The number of the next attempt; 0 if this is not a retry.
        attempts: The most attempts.
    """

    reason: str
    seconds: float | None = None
    attempt: int = 0
    attempts: int = 0


CallEvent: TypeAlias = MessageStart | TextDelta | TextPending | ThinkingProgress | ToolUse | Waiting
Listener: TypeAlias = Callable[[CallEvent], None]
"""A function that receives the events of a call. It must return at once, so that it never slows the stream."""


@frozen_dataclass(kw_only=True)
class Citation:
    """A cited page, and the words of it that the answer relies on."""

    url: str
    title: str = ""
    cited_text: str = ""


@frozen_dataclass(kw_only=True)
class OutputFile:
    """A file that code wrote while Claude answered. `id` is ours; `bytes` is the size, when known."""

    id: str
    name: str
    mime_type: str
    bytes: int | None = None


@frozen_dataclass()
class StructuredOutput:
    """The value of an answer with a schema; it is valid."""

    value: object


@frozen_dataclass(kw_only=True)
class Reply:
    """The result of a call: its text, its usage, and for an incomplete answer one sentence on why and what to do.

    `files` are those that code wrote, `container_id` is the container in which it ran, `sent` is what a thread keeps of
    the request. `job_id` is the job that continues the call, if the reply holds only the text at the moment of
    detaching.
    """

    text: str
    usage: Usage
    blocks: tuple[Block, ...] = ()
    incomplete: str = ""
    notes: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    structured_output: StructuredOutput | None = None
    files: tuple[OutputFile, ...] = ()
    container_id: str = ""
    sent: SentTurn | None = None
    job_id: str = ""
