"""One streamed message, put together as it arrives.

Not the SDK's `messages.stream()` helper: that one rebuilds a snapshot for every event (quadratic in the answer's
length), drops usage fields that the API sends, and loses the usage when a tool's JSON is cut. Here text is appended
to a list and joined once, usage is merged from `message_start` and `message_delta` (the latter wins), and nothing is
parsed before its block is whole.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, cast

from mcp_server_claude.anthropic_api.event_validation import is_valid_event
from mcp_server_claude.call_types import (
    CHARS_PER_TOKEN,
    THINKING_BLOCK_TYPES,
    MessageStart,
    StopReason,
    TextDelta,
    ThinkingProgress,
    ToolUse,
    Usage,
)
from mcp_server_claude.errors import TemporaryError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anthropic.types import RawMessageStreamEvent
    from anthropic.types.raw_content_block_delta import RawContentBlockDelta

    from mcp_server_claude.call_types import Block, Listener


class _BlockBuilder:
    """A content block while its deltas come in."""

    __slots__ = ("citations", "fields", "parts")

    def __init__(self, fields: dict[str, object]) -> None:
        self.fields = fields
        self.parts: dict[str, list[str]] = {}
        self.citations: list[object] = []

    def append(self, name: str, piece: str) -> None:
        self.parts.setdefault(name, []).append(piece)

    def build_block(self) -> dict[str, object]:
        """The block as the API would have sent it in one piece."""
        fields = dict(self.fields)
        for name, pieces in self.parts.items():
            if name == "partial_json":
                fields["input"] = _parse_tool_input("".join(pieces))
            else:
                # Deltas may part surrogate pairs; a block that holds the halves could not be sent back.
                fields[name] = replace_lone_surrogates(str(fields.get(name) or "") + "".join(pieces))
        if self.citations:
            fields["citations"] = [*cast("list[object]", fields.get("citations") or []), *self.citations]
        return fields


class MessageStream:
    """What has come of one answer so far. It is readable at any moment, also after a fault or a cancel.

    `listen` hears each event as it is fed, without waiting; `on_start` is called once `message_start` has come.
    `bytes_received()` is the number of bytes that have come, `events` that of events, and `thinking` whether the
    latest of
    them was of a thinking block: what tells a silence from a broken stream. `container` is where code ran, by its id.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._blocks: dict[int, _BlockBuilder] = {}
        self._text: list[str] = []
        self._thinking_tokens = 0
        self._raw_usage: dict[str, object] = {}
        self.model = ""
        self.request_id: str | None = None
        self.container_id = ""
        self.stop_reason: StopReason | None = None
        self.stop_details: dict[str, object] = {}
        self.has_started = False
        self.in_thinking_block = False
        self.event_count = 0
        self.headers: Mapping[str, str] = {}
        self.bytes_received: Callable[[], int] = int
        self.on_start: Callable[[MessageStream], None] | None = None
        self.first_text_at: float | None = None

    @property
    def text(self) -> str:
        """The text of the answer so far, all its text blocks joined."""
        return "".join(self._text)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The content blocks so far, in their order; the last may be partial."""
        return tuple(self._blocks[index].build_block() for index in sorted(self._blocks))

    @property
    def raw_usage(self) -> dict[str, object]:
        """Usage as the API sent it, `message_start` and `message_delta` merged."""
        return self._raw_usage

    @property
    def has_only_text(self) -> bool:
        """Whether nothing but text and thinking has arrived: what a broken stream can be continued from."""
        kinds = {block.fields.get("type") for block in self._blocks.values()}
        return kinds <= {"text", *THINKING_BLOCK_TYPES}

    @property
    def cache_creation_1h_input_tokens(self) -> int:
        """Of the tokens written to the cache, those written for an hour: they cost more."""
        return _as_count(_as_object(self._raw_usage.get("cache_creation")).get("ephemeral_1h_input_tokens"))

    @property
    def has_thinking(self) -> bool:
        """Whether a thinking block has begun."""
        return any(block.fields.get("type") in THINKING_BLOCK_TYPES for block in self._blocks.values())

    def feed_event(self, event: RawMessageStreamEvent) -> None:
        """Take in one event of the stream.

        Raises:
            TemporaryError: It is malformed, or a delta for a block that was never started.
        """
        self.event_count += 1
        if not is_valid_event(event):
            raise self._malformed_error()
        match event.type:
            case "content_block_delta":
                self._on_block_delta(event.index, event.delta)
            case "content_block_start":
                self._on_block_start(event.index, event.content_block.model_dump(exclude_unset=True, warnings=False))
            case "message_start":
                self._on_message_start(event.message.model_dump(exclude_unset=True, warnings=False))
            case "message_delta":
                self._on_message_delta(event.model_dump(exclude_unset=True, warnings=False))
            case "content_block_stop":
                self.in_thinking_block = False
                self._on_block_stop(event.index)
            case _:
                pass  # message_stop, and event types that the API may add

    def usage(self) -> Usage:
        """The account of this one request so far.

        Output is the API's own count once it has come; before that it is estimated from what arrived, and says so.
        """
        raw = self._raw_usage
        exact = self.stop_reason is not None
        estimate = round(len(self.text) / CHARS_PER_TOKEN) + self._thinking_tokens
        output = _as_count(raw.get("output_tokens")) if exact else max(_as_count(raw.get("output_tokens")), estimate)
        details = _as_object(raw.get("output_tokens_details"))
        return Usage(
            model=self.model,
            input_tokens=_as_count(raw.get("input_tokens")),
            cache_read_input_tokens=_as_count(raw.get("cache_read_input_tokens")),
            cache_creation_input_tokens=_as_count(raw.get("cache_creation_input_tokens")),
            output_tokens=output if self.has_started else 0,
            thinking_tokens=_as_count(details.get("thinking_tokens")) or self._thinking_tokens,
            web_searches=_as_count(_as_object(raw.get("server_tool_use")).get("web_search_requests")),
            stop_reason=self.stop_reason,
            estimated=self.has_started and not exact,
            request_ids=(self.request_id,) if self.request_id else (),
        )

    def _on_message_start(self, message: dict[str, object]) -> None:
        self.has_started = True
        self.model = str(message.get("model") or "")
        self._raw_usage = _without_nulls(_as_object(message.get("usage")))
        # Programmatic tool calling sends content and stop_reason at once, and no deltas (a recorded stream does).
        for index, block in enumerate(cast("list[dict[str, object]]", message.get("content") or [])):
            self._on_block_start(index, block)
        self._read_stop_fields(message)
        if self.on_start is not None:
            self.on_start(self)
        self._listener(MessageStart(usage=self.usage()))

    def _on_message_delta(self, event: dict[str, object]) -> None:
        self._raw_usage |= _without_nulls(_as_object(event.get("usage")))
        self._read_stop_fields(_as_object(event.get("delta")))

    def _read_stop_fields(self, fields: dict[str, object]) -> None:
        self.container_id = str(_as_object(fields.get("container")).get("id") or self.container_id)
        if fields.get("stop_reason"):
            self.stop_reason = str(fields["stop_reason"])
            self.stop_details = _as_object(fields.get("stop_details"))

    def _on_block_start(self, index: int, fields: dict[str, object]) -> None:
        self._blocks[index] = _BlockBuilder(fields)
        self.in_thinking_block = fields.get("type") in THINKING_BLOCK_TYPES
        match fields.get("type"):
            case "text":
                self._add_text(str(fields.get("text") or ""))
            case "thinking" | "redacted_thinking":
                self._listener(ThinkingProgress(self._thinking_tokens))
            case "server_tool_use":
                self._listener(ToolUse(str(fields.get("name") or "")))
            case _:
                pass

    def _on_block_stop(self, index: int) -> None:
        """A block is whole: what a server tool was asked for is known only now."""
        block = self._blocks.get(index)
        if block is not None and block.fields.get("type") == "server_tool_use":
            asked = _as_object(block.build_block().get("input"))
            what = next((asked[name] for name in ("query", "url", "path", "command") if asked.get(name)), "")
            self._listener(ToolUse(str(block.fields.get("name") or ""), str(what)))

    def _on_block_delta(self, index: int, delta: RawContentBlockDelta) -> None:
        block = self._blocks.get(index)
        if block is None:
            raise self._malformed_error()
        match delta.type:
            case "text_delta":
                block.append("text", delta.text)
                self._add_text(delta.text)
            case "thinking_delta":
                block.append("thinking", delta.thinking)
                self._add_thinking(delta)
            case "input_json_delta":
                block.append("partial_json", delta.partial_json)
            case "signature_delta":
                block.append("signature", delta.signature)
            case "citations_delta":
                block.citations.append(delta.citation.model_dump(exclude_unset=True, warnings=False))
            case _:
                _append_unknown_delta(block, delta)

    def _malformed_error(self) -> TemporaryError:
        return TemporaryError(
            "The stream of the Messages API was malformed. Try again.", kind="protocol", request_id=self.request_id
        )

    def _add_text(self, text: str) -> None:
        if text:
            if self.first_text_at is None:
                self.first_text_at = time.monotonic()
            self._text.append(text)
            self._listener(TextDelta(text))

    def _add_thinking(self, delta: object) -> None:
        # `estimated_tokens` is the increment that the beta thinking-token-count-2026-05-13 adds to each delta.
        counted = getattr(delta, "estimated_tokens", None)
        text = str(getattr(delta, "thinking", ""))
        self._thinking_tokens += counted if isinstance(counted, int) else round(len(text) / CHARS_PER_TOKEN)
        self._listener(ThinkingProgress(self._thinking_tokens))


def _append_unknown_delta(block: _BlockBuilder, delta: object) -> None:
    """Keep what newer APIs add: every string field of an unknown delta grows the block's field of that name."""
    dump = getattr(delta, "model_dump", None)
    fields = _as_object(dump(exclude_unset=True, warnings=False)) if callable(dump) else {}
    for name, value in fields.items():
        if name != "type" and isinstance(value, str):
            block.append(name, value)


def _parse_tool_input(text: str) -> object:
    """A tool's input. Cut short by `max_tokens` it is what can be read of it, as the SDK's own helper gives it."""
    try:
        return cast("object", json.loads(text)) if text else {}
    except ValueError:
        import jiter  # comes with anthropic

        try:
            return cast("object", jiter.from_json(replace_lone_surrogates(text).encode(), partial_mode=True))
        except ValueError:
            return {}


def _without_nulls(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _as_object(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _as_count(value: object) -> int:
    return value if isinstance(value, int) else 0
