"""One streamed message, accumulated as it arrives.

The SDK's `messages.stream()` helper is not used: it rebuilds a snapshot for every event (quadratic in the answer's
length), drops usage fields that the API sends, and loses the usage when a tool's JSON is cut. Here text is appended
to a log and joined once, usage is merged from `message_start` and `message_delta` (the latter wins), and nothing is
parsed before its block is whole.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from mcp_server_claude.anthropic_api.content_block_builder import ContentBlockBuilder, is_text_in_fields
from mcp_server_claude.anthropic_api.response_limits import too_large_error
from mcp_server_claude.anthropic_api.stream_usage import (
    FALLBACK_ATTEMPT,
    MAX_TOKEN_COUNT,
    StreamUsage,
    as_name,
    as_object,
    token_count,
)
from mcp_server_claude.anthropic_api.thinking_summary import ThinkingSummary
from mcp_server_claude.call_types import (
    CHARS_PER_TOKEN,
    GLOBAL_INFERENCE,
    THINKING_BLOCK_TYPES,
    MessageStart,
    StopReason,
    TextDelta,
    ThinkingProgress,
    ToolUse,
    Usage,
)
from mcp_server_claude.errors import TemporaryError
from mcp_server_claude.lone_surrogates import split_high_surrogate
from mcp_server_claude.redaction import sanitize
from mcp_server_claude.text_log import TextLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mcp_server_claude.anthropic_api.stream_usage import BilledAttempt
    from mcp_server_claude.call_types import Block, Listener


STREAM_EVENTS = frozenset(
    {"content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
)
"""The events that may only come after `message_start`."""
TEXT_FIELD_BY_DELTA = {
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
}
"""The field that must be text, for each type of delta except `text_delta`."""
MAX_TEXT_CHARS = 16_000_000
"""Characters of an answer, more than a hundred for each of the 128,000 tokens that a model may write."""
QUERY_FIELDS = ("query", "url", "path", "command")
"""The fields of a server tool's input that say what it was asked for."""


class MessageStream:
    """The message of one request so far. It can be read at any moment, also after an error or a cancel.

    `listener` is called with each event and must not wait; `on_start` after `message_start`, with the usage.
    `bytes_received()` and `event_count` grow with the stream, and `in_thinking_block` is true while a thinking block is
    open: a watchdog distinguishes silence from a broken stream by these. `container_id` names the container in which
    code ran.
    `text_chars` is the length of the text so far. `is_finished` is set by `message_stop`, after which nothing counts.
    `ends_in_text` is true if the latest event was a delta of text. `model` is the model that answers, also where the
    API asked a fallback model; then `fallback_from` is the one that was requested. `region` is the place of inference
    that a platform's endpoint implies, where its responses do not name it. `dropped_thinking_blocks` counts the blocks
    of earlier answers that the API dropped, as far as it says so.

    If the listener appends the text to `log`, it is held there, not here as well.

    Text for a block that was never started is kept as text of the answer. With `strict_blocks` it is malformed: for a
    stream whose text must be exact, such as the continuation of an answer.
    """

    def __init__(self, listener: Listener, log: TextLog | None = None, *, strict_blocks: bool = False) -> None:
        self._listener = listener
        self._log = log or TextLog()
        self._strict_blocks = strict_blocks
        self._blocks: dict[int, ContentBlockBuilder] = {}
        self._thinking_tokens = 0
        self._is_thinking_counted = False
        self._tool_input_chars = 0
        self._half_pairs: dict[int, str] = {}
        self._summary = ThinkingSummary()
        self._usage = StreamUsage()
        self._declined: dict[str, str] = {}
        self.model = ""
        self.fallback_from = ""
        self.region = ""
        self.dropped_thinking_blocks = 0
        self.request_id: str | None = None
        self.container_id = ""
        self.stop_reason: StopReason | None = None
        self.stop_details: dict[str, object] = {}
        self.has_started = False
        self.is_finished = False
        self.in_thinking_block = False
        self.ends_in_text = False
        self.event_count = 0
        self.text_chars = 0
        self.headers: Mapping[str, str] = {}
        self.bytes_received: Callable[[], int] = int
        self.on_start: Callable[[MessageStream, Usage], None] | None = None
        self.first_text_at: float | None = None

    @property
    def text(self) -> str:
        """The text of the answer so far, all its text blocks joined."""
        blocks = (block for block in self.blocks if block.get("type") == "text")
        return "".join(str(block.get("text") or "") for block in blocks)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The content blocks so far, in their order; the last may be partial."""
        return tuple(self._blocks[index].build_block() for index in sorted(self._blocks))

    @property
    def raw_usage(self) -> dict[str, object]:
        """Usage as the API sent it, `message_start` and `message_delta` merged."""
        return self._usage.raw

    @property
    def has_invalid_usage(self) -> bool:
        """True if a count was nonsense, so that the cost is unknown."""
        return self._usage.has_invalid_counts

    @property
    def attempts(self) -> tuple[BilledAttempt, ...]:
        """The attempts that the API bills one by one; empty where it names none."""
        return self._usage.attempts

    @property
    def declined_categories(self) -> dict[str, str]:
        """The models that declined before another one answered, each with the category of its refusal."""
        return self._declined

    @property
    def has_only_text(self) -> bool:
        """True if nothing but text and thinking has arrived, so that a broken stream can be continued."""
        return self.block_types <= {"text", *THINKING_BLOCK_TYPES}

    @property
    def block_types(self) -> frozenset[str]:
        """The types of the content blocks so far."""
        return frozenset(str(block.fields.get("type")) for block in self._blocks.values())

    @property
    def cache_creation_1h_input_tokens(self) -> int:
        """The tokens written to the cache for an hour, which cost more than those for five minutes."""
        return self._usage.cache_creation_1h_input_tokens

    @property
    def has_thinking(self) -> bool:
        """True if a thinking block has begun."""
        return not self.block_types.isdisjoint(THINKING_BLOCK_TYPES)

    @property
    def has_uncounted_thinking(self) -> bool:
        """True if there is thinking whose tokens the API has not counted so far. A summary is shorter than they are."""
        return self.has_thinking and not self._is_thinking_counted and not self._usage.counts().thinking_tokens

    def feed_events(self, events: Sequence[dict[str, object]]) -> None:
        """Add events, each a JSON object with a `type`. Consecutive text deltas reach the listener as one.

        Raises:
            TemporaryError: An event is malformed, or comes out of order.
        """
        texts: list[str] = []
        index = -1
        for event in events:
            if self.is_finished:
                break
            self.event_count += 1
            delta = cast("dict[str, object] | None", event.get("delta"))
            # The most frequent event by far: it pays to look for it before all others, and for its block only once.
            if type(delta) is dict and delta.get("type") == "text_delta" and event["type"] == "content_block_delta":
                text, position = delta.get("text"), event.get("index")
                if (
                    type(text) is str
                    and type(position) is int
                    and self.has_started
                    and (position == index or self._accepts_text(position))
                ):
                    if position != index:
                        if texts:
                            self._add_text(index, "".join(texts))
                            texts.clear()
                        index = position
                    texts.append(text)
                    continue
            self._add_text(index, "".join(texts))
            texts.clear()
            index = -1
            self._feed_event(event)
        self._add_text(index, "".join(texts))
        self.ends_in_text = index != -1

    def _feed_event(self, event: dict[str, object]) -> None:
        kind = event["type"]
        if kind == "message_start":
            if self.has_started:
                raise self._malformed_error()
            self._on_message_start(self._object_in(event, "message"))
        elif not self.has_started and kind in STREAM_EVENTS:
            raise self._malformed_error()
        elif kind == "content_block_start":
            self._on_block_start(self._index_in(event), self._object_in(event, "content_block"))
        elif kind == "content_block_delta":
            self._on_block_delta(self._index_in(event), self._object_in(event, "delta"))
        elif kind == "content_block_stop":
            self.in_thinking_block = False
            self._publish_half_pair(self._index_in(event))
            self._on_block_stop(self._index_in(event))
        elif kind == "message_delta":
            self._on_message_delta(event)
        elif kind == "message_stop":
            for index in sorted(self._half_pairs):
                self._publish_half_pair(index)
            self.is_finished = True
        # Others are types that the API may add.

    def discard_stop_reason(self) -> None:
        """Take the message for one that did not end: something that came after its stop reason could not be read."""
        self.stop_reason = None
        self.stop_details = {}

    def usage(self) -> Usage:
        """The usage of this one request so far.

        The output is the API's own count once that has come; before, it is estimated from the text, the thinking and
        the tools' input that arrived, and `estimated` is true.
        """
        counts = self._usage.counts()
        is_counted = self._usage.has_final_output and (counts.output_tokens > 0 or not self.text_chars)
        exact = self.stop_reason is not None and not self.has_invalid_usage and is_counted
        estimate = round((self.text_chars + self._tool_input_chars) / CHARS_PER_TOKEN) + self._thinking_tokens
        output = counts.output_tokens if exact else max(counts.output_tokens, estimate)
        return Usage(
            input_tokens=counts.input_tokens,
            cache_read_input_tokens=counts.cache_read_input_tokens,
            cache_creation_input_tokens=counts.cache_creation_input_tokens,
            output_tokens=output if self.has_started else 0,
            thinking_tokens=counts.thinking_tokens or self._thinking_tokens,
            web_searches=counts.web_searches,
            model=self.model,
            inference_geo=self._inference_geo(),
            speed=self._usage.word("speed"),
            service_tier=self._usage.word("service_tier"),
            stop_reason=self.stop_reason,
            estimated=self.has_started and not exact,
            request_ids=(self.request_id,) if self.request_id else (),
        )

    @property
    def has_regional_inference(self) -> bool:
        """As `Usage.is_regional`, of this one request so far."""
        return self._inference_geo() not in GLOBAL_INFERENCE

    def _inference_geo(self) -> str | None:
        named = self._usage.word("inference_geo")
        return self.region if self.region and named in GLOBAL_INFERENCE else named

    def _on_message_start(self, message: dict[str, object]) -> None:
        self.has_started = True
        self.model = as_name(message.get("model"))
        self._merge_usage(message, is_final=bool(message.get("stop_reason")))
        transformations = message.get("input_transformations")
        if isinstance(transformations, list):
            kinds = [as_object(each).get("type") for each in cast("list[object]", transformations)]
            self.dropped_thinking_blocks = kinds.count("thinking_dropped")
        # Programmatic tool calling sends content and stop_reason at once, and no deltas (a recorded stream does).
        content: object = message.get("content") or []
        if not isinstance(content, list):
            raise self._malformed_error()
        for index, block in enumerate(cast("list[object]", content)):
            if not isinstance(block, dict):
                raise self._malformed_error()
            self._on_block_start(index, cast("dict[str, object]", block))
        self._read_stop_fields(message)
        usage = self.usage()
        if self.on_start is not None:
            self.on_start(self, usage)
        self._listener(MessageStart(usage=usage))

    def _on_message_delta(self, event: dict[str, object]) -> None:
        self._merge_usage(event, is_final=True)
        self._read_stop_fields(as_object(event.get("delta")))

    def _merge_usage(self, event: dict[str, object], *, is_final: bool) -> None:
        """Merge the usage of an event. Where a fallback model was asked, the entry that it completed names it."""
        self._usage.merge_event(event.get("usage"), is_final=is_final)
        for attempt in self._usage.attempts:
            if attempt.kind == FALLBACK_ATTEMPT and attempt.model:
                self._switch_model(self.model, attempt.model)

    def _switch_model(self, declined: str, answering: str) -> None:
        if answering != declined:
            self.fallback_from = self.fallback_from or declined
            self.model = answering

    def _read_stop_fields(self, fields: dict[str, object]) -> None:
        self.container_id = as_name(as_object(fields.get("container")).get("id")) or self.container_id
        # A refusal stands: what comes after it does not make an answer of the text before it.
        reason = as_name(fields.get("stop_reason"))
        if reason and self.stop_reason != "refusal":
            self.stop_reason = reason
            details = as_object(fields.get("stop_details"))
            self.stop_details = {name: sanitize(value) for name, value in details.items() if isinstance(value, str)}

    def _on_block_start(self, index: int, fields: dict[str, object]) -> None:
        if not isinstance(fields.get("type"), str) or not is_text_in_fields(fields):
            raise self._malformed_error()
        self._blocks[index] = ContentBlockBuilder(fields)
        self.in_thinking_block = fields.get("type") in THINKING_BLOCK_TYPES
        match fields.get("type"):
            case "text":
                self._publish_text(index, str(fields.get("text") or ""))
            case "thinking" | "redacted_thinking":
                self._summary.begin_block()
                self._listener(ThinkingProgress(self._thinking_tokens, self._summary.last_sentence))
            case "server_tool_use":
                self._listener(ToolUse(as_name(fields.get("name"))))
            case "fallback":
                self._on_fallback(fields)
            case _:
                pass

    def _on_fallback(self, fields: dict[str, object]) -> None:
        """Record a change of models: the output of the model that declined ends here, that of the next one follows."""
        declined, answering = (as_name(as_object(fields.get(side)).get("model")) for side in ("from", "to"))
        if declined:
            self._declined[declined] = as_name(as_object(fields.get("trigger")).get("category"))
        if answering:
            self._switch_model(declined or self.model, answering)

    def _on_block_stop(self, index: int) -> None:
        """Announce what a server tool was asked for, which is known only when its block is whole."""
        block = self._blocks.get(index)
        if block is not None and block.fields.get("type") == "server_tool_use":
            tool_input = as_object(block.build_block().get("input"))
            query = next((tool_input[name] for name in QUERY_FIELDS if tool_input.get(name)), "")
            self._listener(ToolUse(as_name(block.fields.get("name")), sanitize(str(query))))

    def _on_block_delta(self, index: int, delta: dict[str, object]) -> None:
        kind = delta.get("type")
        if not isinstance(kind, str):
            raise self._malformed_error()
        if kind == "text_delta":
            text = self._text_in(delta, "text")
            if not self._accepts_text(index):
                raise self._malformed_error()
            self._add_text(index, text)
            return
        block = self._blocks.get(index)
        if block is None:
            raise self._malformed_error()
        if field := TEXT_FIELD_BY_DELTA.get(kind):
            block.append(field, self._text_in(delta, field))
            if kind == "thinking_delta":
                self._add_thinking(delta)
            elif kind == "input_json_delta":
                self._tool_input_chars += len(str(delta[field]))
        elif kind == "citations_delta":
            block.append_citation(self._object_in(delta, "citation"))
        else:
            block.append_unknown_delta(delta)

    def _accepts_text(self, index: int) -> bool:
        """True if a text delta may belong to this block."""
        block = self._blocks.get(index)
        return not self._strict_blocks or (block is not None and block.fields.get("type") == "text")

    def _object_in(self, event: dict[str, object], field: str) -> dict[str, object]:
        value = event.get(field)
        if not isinstance(value, dict):
            raise self._malformed_error()
        return cast("dict[str, object]", value)

    def _text_in(self, delta: dict[str, object], field: str) -> str:
        value = delta.get(field)
        if not isinstance(value, str):
            raise self._malformed_error()
        return value

    def _index_in(self, event: dict[str, object]) -> int:
        value = event.get("index")
        if type(value) is not int:
            raise self._malformed_error()
        return value

    def _malformed_error(self) -> TemporaryError:
        return TemporaryError(
            "The stream of the Messages API was malformed. Try again.", kind="protocol", request_id=self.request_id
        )

    def _add_text(self, index: int, text: str) -> None:
        """Add text to a block. A block that was never started counts as text, so that its text is not lost."""
        if not text:
            return
        if (block := self._blocks.get(index)) is None:
            block = self._blocks[index] = ContentBlockBuilder({"type": "text", "text": ""})
        start = self._log.chars
        self._publish_text(index, text)
        block.append_logged_text(text, self._log, start)

    def _publish_text(self, index: int, text: str) -> None:
        """Publish text of a block. Half a surrogate pair waits for the rest: text of another block may come first."""
        if self._half_pairs or not text.isascii():
            text, half = split_high_surrogate(self._half_pairs.pop(index, "") + text)
            if half:
                self._half_pairs[index] = half
        self._emit_text(text)

    def _publish_half_pair(self, index: int) -> None:
        """Publish half a surrogate pair whose block has ended."""
        self._emit_text(self._half_pairs.pop(index, ""))

    def _emit_text(self, text: str) -> None:
        if text:
            if self.first_text_at is None:
                self.first_text_at = time.monotonic()
            self.text_chars += len(text)
            if self.text_chars > MAX_TEXT_CHARS:
                raise too_large_error()
            self._listener(TextDelta(text))

    def _add_thinking(self, delta: dict[str, object]) -> None:
        # `estimated_tokens` is the increment that the beta thinking-token-count-2026-05-13 adds to each delta.
        counted = token_count(delta.get("estimated_tokens"))
        self._is_thinking_counted = self._is_thinking_counted or counted is not None
        tokens = round(len(str(delta["thinking"])) / CHARS_PER_TOKEN) if counted is None else counted
        self._thinking_tokens = min(self._thinking_tokens + tokens, MAX_TOKEN_COUNT)
        if delta["thinking"]:
            self._summary.add_text(str(delta["thinking"]))
        self._listener(ThinkingProgress(self._thinking_tokens, self._summary.last_sentence))
