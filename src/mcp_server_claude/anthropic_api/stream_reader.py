"""The response of a streamed request, read from its bytes into a `MessageStream`.

The SDK opens the stream, with its credentials, platforms, errors and spans. The bytes are split and parsed here,
because the SDK would build a pydantic model for each event (`sse_events`).
"""

from __future__ import annotations

import re
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api.read_coalescing import MIN_FULL_READ_BYTES, ReadCoalescer
from mcp_server_claude.anthropic_api.read_turns import ReadTurns
from mcp_server_claude.anthropic_api.response_body import ResponseBody
from mcp_server_claude.anthropic_api.response_headers import media_type
from mcp_server_claude.anthropic_api.response_limits import too_large_error
from mcp_server_claude.anthropic_api.sse_events import (
    ErrorEventError,
    EventSplitter,
    MalformedEventError,
    parse_event,
    parse_json,
)
from mcp_server_claude.anthropic_api.stream_usage import as_object
from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from anthropic import AsyncStream
    from anthropic.types import RawMessageStreamEvent
    from httpx2 import Response

    from mcp_server_claude.anthropic_api.message_stream import MessageStream

MAX_BYTES_PER_TURN = 16 * 1024
"""Bytes of a fast stream that are parsed in one turn. One read of a socket may hold more."""
EVENTS_PER_TURN = 8
"""The same for events that the SDK decodes."""
MAX_STREAM_BYTES = 128 << 20
"""Bytes of one response, decompressed: a thousand bytes for each of the 128,000 tokens that a model may write."""
AWS_EVENT_STREAM = "application/vnd.amazon.eventstream"
OBSERVED_EVENTS = frozenset({"message_start", "content_block_start", "message_delta", "message_stop"})
"""The events that the SDK's span reads."""
DRAIN_TIMEOUT_S = 0.25
MAX_DRAINED_BYTES = 64 * 1024
"""Bytes that may follow the end of a message; an upstream that sends more loses the connection."""
INFERENCE_PROFILE_ID = re.compile(r"^[a-z-]+\.anthropic\.")
"""The id of an inference profile of Amazon's. Where it has no price, none is known: another id's would be wrong."""


async def read_stream(
    stream: AsyncStream[RawMessageStreamEvent],
    message_stream: MessageStream,
    *,
    requested_id: str = "",
    interval_s: float = 0,
) -> None:
    """Read a response to its end, or to the end of its message. What follows `message_stop` is passed over.

    `requested_id` is the model's id on a platform that answers with Anthropic's name of the model. While text comes,
    it is read every `interval_s` seconds, see `read_coalescing`.

    Raises:
        anthropic.APIStatusError: The API reported an error within the stream.
        TemporaryError: An event is malformed, or comes out of order.
        ValueError: The data of an event is not JSON.
    """
    if media_type(message_stream.headers) == AWS_EVENT_STREAM:
        await _read_sdk_events(stream, message_stream, requested_id)
        return
    observer = _SpanObserver(stream)
    try:
        async with aclosing(_body_of(stream.response)) as pieces:
            body = ResponseBody(stream.response, pieces, is_observed=observer.is_listening)
            message_stream.bytes_received = lambda: body.bytes_received
            coalescer = ReadCoalescer(stream.response, interval_s)
            await _read_bytes(body, message_stream, observer, coalescer, requested_id)
    except (ErrorEventError, MalformedEventError, TemporaryError) as error:
        if message_stream.is_finished:
            return
        if not isinstance(error, ErrorEventError):
            message_stream.discard_stop_reason()
            raise
        import anthropic  # loaded long since: it has opened the stream

        reported = anthropic.APIStatusError(str(error), response=stream.response, body=error.body)
        observer.fail(reported)
        raise reported from None


def _body_of(response: Response) -> AsyncGenerator[bytes]:
    """The body as it arrives. Without a content coding httpx2's decoders would only pass each piece on."""
    return response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()


async def read_whole_message(response: Response, message_stream: MessageStream) -> bool:
    """Read a response that is a whole message in JSON, as gateways that cannot stream send it.

    Returns:
        False if it is none; then nothing was fed to the stream.
    """
    if media_type(message_stream.headers) != "application/json":
        return False
    try:
        message = as_object(parse_json(await response.aread()))
    except (MalformedEventError, TemporaryError):
        return False
    if message.get("type") != "message" or not isinstance(message.get("content"), list):
        return False
    feed_message(message, message_stream)
    return True


def feed_message(message: dict[str, object], message_stream: MessageStream) -> None:
    """Feed a whole message into `message_stream`: it is read and checked as a stream is.

    Raises:
        TemporaryError: It is no message of the Messages API.
    """
    message_stream.feed_events([{"type": "message_start", "message": message}, {"type": "message_stop"}])


async def _read_bytes(
    body: ResponseBody,
    message_stream: MessageStream,
    observer: _SpanObserver,
    coalescer: ReadCoalescer,
    requested_id: str,
) -> None:
    splitter = EventSplitter()
    turns = ReadTurns.of_running_loop()
    async for chunk in body:
        if body.bytes_received > MAX_STREAM_BYTES:
            raise too_large_error()
        for start in range(0, len(chunk), MAX_BYTES_PER_TURN):
            if len(chunk) >= MIN_FULL_READ_BYTES:
                await turns.wait_for_turn()
            events = splitter.feed(chunk[start : start + MAX_BYTES_PER_TURN])
            await _feed_events(events, message_stream, observer, requested_id)
            if message_stream.is_finished:
                await _drain(body)
                observer.finish()
                return
        if message_stream.ends_in_text:
            await coalescer.rest_after(len(chunk))
    with suppress(MalformedEventError):  # cut in the middle of an event, as the missing stop reason will show
        await _feed_events(splitter.finish(), message_stream, observer, requested_id)
    observer.finish()


async def _feed_events(
    events: Iterable[tuple[bytes, bytes]], message_stream: MessageStream, observer: _SpanObserver, requested_id: str
) -> None:
    """Feed what can be parsed, also where a later event cannot: no text that arrived is lost.

    Other tasks run after each content block, so that the use of a tool is reported while its result is still unread.
    """
    parsed: list[dict[str, object]] = []
    try:
        for name, data in events:
            event = parse_event(name, data)
            if event is None:
                continue
            if event["type"] in OBSERVED_EVENTS:
                observer.observe(event)
                if requested_id and event["type"] == "message_start":
                    _restore_requested_id(event, requested_id)
            parsed.append(event)
            if event["type"] == "content_block_stop":
                batch, parsed = parsed, []
                message_stream.feed_events(batch)
                await anyio.lowlevel.checkpoint()
    finally:
        message_stream.feed_events(parsed)


async def _read_sdk_events(
    stream: AsyncStream[RawMessageStreamEvent], message_stream: MessageStream, requested_id: str
) -> None:
    """Read Amazon's binary event stream, which the SDK decodes. An error after the message's end is passed over."""
    turns = ReadTurns.of_running_loop()
    try:
        async for typed in stream:
            event = cast("dict[str, object]", typed.model_dump(exclude_unset=True, warnings=False))
            if requested_id and event.get("type") == "message_start":
                _restore_requested_id(event, requested_id)
            message_stream.feed_events([event])
            if message_stream.bytes_received() > MAX_STREAM_BYTES:
                raise too_large_error()  # noqa: TRY301
            if not message_stream.event_count % EVENTS_PER_TURN:
                await turns.wait_for_turn()
    except Exception:
        if not message_stream.is_finished:
            raise


async def _drain(body: ResponseBody) -> None:
    """Read what follows the end of a message, so that its connection can be used again."""
    received = 0
    with anyio.move_on_after(DRAIN_TIMEOUT_S):
        try:
            async for data in body:
                received += len(data)
                if received > MAX_DRAINED_BYTES:
                    return
        except Exception:  # noqa: BLE001, S110 - the message is complete: how its connection ends does not matter
            pass


def _restore_requested_id(event: dict[str, object], requested_id: str) -> None:
    """Report the requested id instead of the response's, because prices differ by it.

    An id that a user chose (a deployment, a profile's ARN) has no price of its own and is not restored.
    """
    message = event.get("message")
    if isinstance(message, dict) and (
        INFERENCE_PROFILE_ID.match(requested_id) or pricing.find_rates(requested_id) is not None
    ):
        cast("dict[str, object]", message)["model"] = requested_id


class _SpanObserver:
    """Tells the SDK's span of a request which events came. Their typed models are built only where it listens."""

    def __init__(self, stream: AsyncStream[RawMessageStreamEvent]) -> None:
        self._observer: Any = getattr(getattr(stream.response, "stream", None), "stream_observer", None)
        if self._observer is not None:
            self._observer.begin()

    @property
    def is_listening(self) -> bool:
        """True if there is a span."""
        return self._observer is not None

    def observe(self, event: dict[str, object]) -> None:
        """Pass an event on, as the SDK's own reader would."""
        if self._observer is not None:
            from anthropic._models import construct_type
            from anthropic.types import RawMessageStreamEvent

            self._observer.item(construct_type(value=event, type_=cast("type[object]", RawMessageStreamEvent)))

    def finish(self) -> None:
        """Report that the response was read to its end."""
        if self._observer is not None:
            self._observer.end("read")

    def fail(self, error: Exception) -> None:
        """Report that the stream failed."""
        if self._observer is not None:
            self._observer.end("failed", error)
