"""What travels through the house: a `Call` goes in, `CallEvent`s are heard on the way, a `Reply` comes back.

Everything here is a frozen value and knows nothing of the SDKs, the store or the doors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from secrets import token_hex
from typing import Any, Literal, TypeAlias, cast

Effort = Literal["", "low", "medium", "high", "xhigh", "max"]
"""How much work Claude puts into an answer; empty leaves it to the model (`output_config.effort`)."""

ToolName = Literal["web", "code", "read"]
"""What Claude may do by itself while it answers: `web` searches and reads pages, `code` writes and runs code, both on
Anthropic's side; `read` lists, searches and reads files below the allowed roots, on ours."""

StopReason: TypeAlias = str
"""The Messages API's `stop_reason`; see `STOPS` for those known today. More may be added by the API."""

CHARS_PER_TOKEN = 3.5
"""English prose under the tokenizer of the models since 4.7; only for estimates, and always told as such."""

COMPLETE_STOP_REASONS: frozenset[StopReason] = frozenset({"end_turn", "stop_sequence"})
"""The stop reasons after which an answer is whole."""

THINKING_BLOCK_TYPES = frozenset({"thinking", "redacted_thinking"})
"""The types of content blocks that hold thinking. They are bound to the model that wrote them."""

Block: TypeAlias = Mapping[str, object]
"""One content block of an assistant message, as the API sent it."""


Message: TypeAlias = Mapping[str, object]
"""A message of a conversation as the API takes it: a `role` and its `content`."""


def new_call_id() -> str:
    """A new call id, `c_` and 16 hexadecimal digits: time in seconds first, so that ids sort by age."""
    return f"c_{int(time.time()):08x}{token_hex(4)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a user may do: dollars a UTC day (None: no limit), calls begun a minute and calls at once (0: no limit)."""

    usd_per_day: float | None = None
    calls_per_minute: int = 0
    concurrent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One question to Claude, as a door took it in.

    `model` is an exact id or a line (`opus`, `sonnet`, `haiku`, `fable`); empty means the configured default.
    `max_tokens` of 0 means the model's own limit, `max_usd` of 0 no limit of its own. `client` is the MCP client's
    name, `source` the door. `thread` is the conversation that this goes on with, `history` its messages so far, and
    `attached` the content blocks that come before the prompt, read from what `files` names. `schema` is a JSON Schema
    that the answer is held to; `notes` are sentences for the answer's footer. `limits` are those of its `user`.
    `begins` says that `thread` is a fresh id, and this call the first of that conversation. `container` is where code
    ran in an earlier turn, which finds its files there again.
    """

    prompt: str
    system: str = ""
    model: str = ""
    effort: Effort = ""
    max_tokens: int = 0
    max_usd: float = 0.0
    thread: str = ""
    starts_thread: bool = False
    history: tuple[Message, ...] = ()
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
    trace_id: str = ""
    id: str = field(default_factory=new_call_id)

    def user_message(self) -> Message:
        """The call's own turn."""
        text = {"type": "text", "text": self.prompt}
        return {"role": "user", "content": [*self.attachments, text] if self.attachments else self.prompt}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """What one model had of a call that asked more than one: requests, tokens, and US dollars (null when unknown)."""

    model: str
    requests: int = 0
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The account of a call: what it used, what it cost, how it ended. A stable, documented shape.

    Token counts are the API's own, added up over every upstream request of the call. `cost_usd` is in US dollars,
    null when the model's price is unknown (never 0 for that reason). `ttft_s` runs from the call to the first
    visible text, `duration_s` to the end; both in seconds. `estimated` says that a stream ended early and its output
    tokens were counted from what arrived, `resumed` that the text was joined from more than one stream. Where another
    model was asked instead of the one that was asked for, `fallback_from` is the latter, and `by_model` says what each
    of them used.
    """

    model: str = ""
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    web_searches: int = 0
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

    def as_json(self) -> Mapping[str, object]:
        """The account as JSON-ready values, every field present."""
        return asdict(self) | {
            "request_ids": list(self.request_ids),
            "by_model": [asdict(share) for share in self.by_model],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Usage:
        """An account that was written with `as_json`, e.g. by the journal."""
        values = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        ids = cast("Sequence[str]", values.pop("request_ids", ()))
        shares = cast("Sequence[dict[str, Any]]", values.pop("by_model", ()))
        return cls(
            **cast("dict[str, Any]", values),
            request_ids=tuple(ids),
            by_model=tuple(ModelUsage(**share) for share in shares),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStart:
    """The API has begun to answer: `message_start` came, with the input's exact token counts in `usage`."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer; the pieces joined are the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class TextPending:
    """Text is being written that may still be withdrawn; so many characters of it so far."""

    chars: int


@dataclass(frozen=True, slots=True)
class ThinkingProgress:
    """Claude thinks; `tokens` of it so far, 0 when the API does not say."""

    tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A server tool is at work, e.g. `web_search`; `query` when it is known."""

    tool: str
    query: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The call waits, for `seconds` where that is known: for a place, or before try `attempt` of at most `attempts`."""

    reason: str
    seconds: float | None = None
    attempt: int = 0
    attempts: int = 0


CallEvent: TypeAlias = MessageStart | TextDelta | TextPending | ThinkingProgress | ToolUse | Waiting
Listener: TypeAlias = Callable[[CallEvent], None]
"""Hears what happens to a call, at once and without waiting: a listener never slows the upstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A page that an answer cites, and the words of it that it relies on."""

    url: str
    title: str = ""
    cited_text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """A file that code made while Claude answered, by our id; `bytes` is its size where that is known."""

    id: str
    name: str
    mime_type: str
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StructuredOutput:
    """The value of an answer that was held to a schema; it is valid."""

    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back: the text, its account, and when it is not complete one sentence on why and how to go on.

    `files` are what code made, `container` where it ran.
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
