"""The SDK's client, built once on a thread, and the one way in which it is used: a stream, fed into an `Answer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from mcp_server_claude.anthropic_api import error_classification, token_estimate
from mcp_server_claude.anthropic_api.platforms import PLATFORMS
from mcp_server_claude.anthropic_api.stream_reader import read_stream
from mcp_server_claude.errors import CallError, ConfigurationError

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from httpx2 import AsyncBaseTransport

    from mcp_server_claude.anthropic_api.credentials import Credential
    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.settings import Settings

CONNECT_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 120.0
KEEPALIVE_TTL_S = 90.0
"""A pooled connection outlives the pause between two tool calls; the SDK's own 5 s would pay for TLS each time."""
THINKING_COUNT_BETA = "thinking-token-count-2026-05-13"
"""The beta that adds `estimated_tokens` to thinking deltas, also where the thinking itself is not shown."""
NOT_COUNTABLE_FIELDS = frozenset({"max_tokens", "container"})
"""The fields of a request that `count_tokens` does not take."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The input tokens of a request; `exact` by the API's own count, else estimated and never too low."""

    tokens: int
    exact: bool = True


class ClaudeClient:
    """The Messages API. Importing the SDK takes about a second, so it happens on a thread, at the first `get_client`.

    `transport` carries the requests instead of sockets, e.g. a recording that is played back.
    """

    def __init__(self, settings: Settings, transport: AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport
        self._client: AsyncAnthropic | None = None
        self._setup_error: CallError | None = None
        self._build_lock = anyio.Lock()
        self._thinking_beta_refused = False
        self.platform = PLATFORMS[settings.platform]
        self.credential: Credential | None = None

    async def get_client(self) -> AsyncAnthropic:
        """The client, built when it is first needed.

        Raises:
            ConfigurationError: There is no usable key or base URL; the same sentence each time.
        """
        async with self._build_lock:
            if self._client is None and self._setup_error is None:
                try:
                    self.credential, self._client = await anyio.to_thread.run_sync(
                        _build_client, self._settings, self._transport, abandon_on_cancel=True
                    )
                except CallError as failure:
                    self._setup_error = failure
        if self._client is None:
            assert self._setup_error is not None  # noqa: S101 - one of the two is there, see above
            raise type(self._setup_error)(str(self._setup_error), kind=self._setup_error.kind)
        return self._client

    def platform_model_id(self, model: str) -> str:
        """What the platform calls a model that Anthropic calls this."""
        return self.platform.platform_model_id(model, self.credential.region if self.credential else "")

    async def stream_message(self, body: RequestBody, message_stream: MessageStream) -> None:
        """Send `body` and feed what streams back into `answer`, to the stream's end.

        The stream may end without a `stop_reason`: then it was cut, and the caller decides what to do. Cancelling
        closes the upstream connection at once.

        Raises:
            CallError: What went wrong, in mid-stream too; `answer` holds what had come by then.
        """
        client = await self.get_client()
        headers = {"anthropic-beta": THINKING_COUNT_BETA} if self._requests_thinking_count() else {}
        fields = cast("dict[str, Any]", self.platform.adapt_body(body))
        try:
            # The body is built by us from admitted values; its keys are the API's own.
            stream = await client.messages.create(stream=True, extra_headers=headers, **fields)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            raise self._classify_stream_error(error, message_stream) from None
        async with stream:
            message_stream.headers = stream.response.headers
            message_stream.request_id = error_classification.request_id_from(message_stream.headers)
            message_stream.bytes_received = lambda: stream.response.num_bytes_downloaded
            error_classification.check_content_type(stream.response.status_code, message_stream.headers)
            requested_id = str(body["model"]) if self.platform.name != "anthropic" else ""
            try:
                await read_stream(stream, message_stream, requested_id=requested_id)
            except Exception as error:  # noqa: BLE001 - translated, or raised again
                raise self._classify_stream_error(error, message_stream) from None

    async def count_input_tokens(self, body: RequestBody) -> int:
        """The input tokens of a request; see `counted`.

        Raises:
            CallError: The API refused the request itself, or the key.
        """
        return (await self.count_tokens(body)).tokens

    async def count_tokens(self, body: RequestBody, *, estimate_on_error: bool = True) -> TokenCount:
        """The input tokens of a request, by the API's own count; estimated where it has no such endpoint.

        Raises:
            CallError: The API refused the request itself, or the key; without `guess`, whatever went wrong.
        """
        client = await self.get_client()
        fields = {
            name: value for name, value in self.platform.adapt_body(body).items() if name not in NOT_COUNTABLE_FIELDS
        }
        if "count_tokens" in self.platform.unsupported:
            return await _estimate_tokens(fields)
        try:
            counted = await client.messages.count_tokens(**cast("dict[str, Any]", fields))
        except Exception as error:
            failure = self.classify_error(error)
            if failure is None:
                raise
            if (
                not estimate_on_error
                or isinstance(failure, ConfigurationError)
                or failure.kind in {"invalid_request", "too_large"}
            ):
                raise failure from None
            return await _estimate_tokens(fields)
        # A gateway may answer with anything, and the SDK hands on what it cannot parse.
        tokens: object = getattr(counted, "input_tokens", None)
        return TokenCount(tokens) if isinstance(tokens, int) else await _estimate_tokens(fields)

    def _requests_thinking_count(self) -> bool:
        if self._thinking_beta_refused or "thinking_count" in self.platform.unsupported:
            return False
        choice = self._settings.thinking_count
        is_known = self.credential is not None and self.platform.counts_thinking(self.credential)
        return choice == "on" or (choice == "auto" and is_known)

    def _classify_stream_error(self, error: Exception, answer: MessageStream) -> Exception:
        """The failure that an exception stands for; the exception itself when it is a bug."""
        failure = self.classify_error(error)
        if failure is None:
            return error
        failure = failure.with_request_id(answer.request_id)
        if failure.kind == "invalid_request" and "anthropic-beta" in str(failure) and self._requests_thinking_count():
            self._thinking_beta_refused = True  # only a comfort: the same request goes again without it
            return failure.with_retry()
        return failure

    def classify_error(self, error: Exception) -> CallError | None:
        """The call error for an exception, in the words of the platform; None for a bug."""
        if self.credential is None or not self.platform.is_cloud:
            return error_classification.to_call_error(error)
        if (call_error := self.platform.library_error(error)) is not None:
            return call_error
        if (call_error := error_classification.to_call_error(error)) is None:
            return None
        message = error_classification.api_message_sentence(error)
        return self.platform.with_platform_wording(call_error, message, self.credential)

    async def close(self) -> None:
        """Close the pooled connections."""
        if self._client is not None:
            await self._client.close()


async def _estimate_tokens(fields: RequestBody) -> TokenCount:
    return TokenCount(await anyio.to_thread.run_sync(token_estimate.estimate_input_tokens, fields), exact=False)


def _build_client(settings: Settings, transport: AsyncBaseTransport | None) -> tuple[Credential, AsyncAnthropic]:
    """Import the SDK and make its client; on a thread."""
    platform = PLATFORMS[settings.platform]
    credential = platform.find_credential(settings)
    import anthropic
    import httpx2

    carrier: dict[str, Any] = {} if transport is None else {"transport": transport}
    http_client = anthropic.DefaultAsyncHttpxClient(
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=KEEPALIVE_TTL_S),
        timeout=httpx2.Timeout(
            CONNECT_TIMEOUT_S, read=None, write=WRITE_TIMEOUT_S, pool=None
        ),  # reading is watched by the engine
        follow_redirects=False,  # an API does not redirect a POST; what does is a portal or a wrong address
        **carrier,
    )
    telemetry = {
        "propagation": settings.forward_traceparent,
        "traces": {"content_mode": "content" if settings.trace_content else "metadata_only"},
    }
    client = platform.build_client(settings, credential, http_client, telemetry)
    return credential, client
