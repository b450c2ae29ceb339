"""The client of the Messages API: the SDK's client, built once on a thread, with a time limit on every request."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
from opentelemetry import trace

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api import error_classification, response_headers, token_estimate
from mcp_server_claude.anthropic_api.http_client import build_http_client, check_key_log
from mcp_server_claude.anthropic_api.platforms import PLATFORMS
from mcp_server_claude.anthropic_api.request_body import added_definitions
from mcp_server_claude.anthropic_api.stream_reader import feed_message, read_stream, read_whole_message
from mcp_server_claude.anthropic_api.stream_usage import token_count
from mcp_server_claude.errors import CallError, ConfigurationError, TemporaryError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.garbage_collection import freeze_imports

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic, AsyncStream
    from anthropic.types import RawMessageStreamEvent
    from httpx2 import AsyncBaseTransport

    from mcp_server_claude.anthropic_api.credentials import Credential
    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.settings import Settings

COUNT_TIMEOUT_S = 5.0
"""Seconds for a count of tokens, which is an estimate by the API itself; a slower one is replaced by our own."""
PROBE_TIMEOUT_S = 30.0
THINKING_COUNT_BETA = "thinking-token-count-2026-05-13"
"""The beta that adds `estimated_tokens` to thinking deltas, even where the thinking itself is not shown."""
THINKING_BINDING_BETA = "thinking-binding-controls-2026-08-01"
"""The beta of `thinking.block_binding`."""
INLINE_TOOLS_BETA = "inline-tools-2026-09-15"
"""The beta of tools that a message defines (`tool_addition`), of the Claude API alone
(https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages, as of 2026-09-26)."""
NOT_COUNTABLE_FIELDS = frozenset({"max_tokens", "container"})
"""The fields of a request that `count_tokens` does not take."""
FINAL_COUNT_KINDS = frozenset(
    {
        "invalid_request",
        "too_large",
        "too_long",
        "thinking_signature",
        "schema_too_complex",
        "schema_with_citations",
        "image_dimensions_too_large",
        "url_unavailable",
    }
)
"""Errors of `count_tokens` that are about the request itself, so that the request would fail too."""


@frozen_dataclass()
class TokenCount:
    """The input tokens of a request; `exact` by the API's own count, else estimated and never too low."""

    tokens: int
    exact: bool = True


class ClaudeClient:
    """The client of the Messages API. Importing the SDK takes about half a second, so `get_client` does it on a thread.

    `transport` carries the requests in place of sockets, e.g. a recording that is played back.
    """

    def __init__(self, settings: Settings, transport: AsyncBaseTransport | None = None) -> None:
        self.settings = settings
        self._transport = transport
        self._client: AsyncAnthropic | None = None
        self._client_without_spans: AsyncAnthropic | None = None
        self._setup_error: CallError | None = None
        self._build_lock = anyio.Lock()
        self._thinking_beta_refused = False
        self._last_was_regional = False
        self.platform = PLATFORMS[settings.platform]
        self.credential: Credential | None = None

    async def get_client(self) -> AsyncAnthropic:
        """The SDK's client, built at the first call.

        Raises:
            ConfigurationError: There is no usable key, base URL, proxy or certificate file; the same sentence each
                time.
            TemporaryError: The process has no file descriptors left; the next call tries again.
        """
        if self._client is not None:  # even a free lock is a round of the event loop, and each call comes here twice
            return self._client
        async with self._build_lock:
            if self._client is None and self._setup_error is None:
                try:
                    self.credential, self._client = await anyio.to_thread.run_sync(
                        _build_client, self.settings, self._transport, abandon_on_cancel=True
                    )
                except ConfigurationError as error:
                    self._setup_error = error
        if self._client is None:
            assert self._setup_error is not None  # noqa: S101 - one of the two is set above
            raise type(self._setup_error)(str(self._setup_error), kind=self._setup_error.kind)
        return self._client

    @property
    def is_built(self) -> bool:
        """True once the SDK's client is there, or is known to be impossible."""
        return self._client is not None or self._setup_error is not None

    @property
    def account(self) -> str:
        """An identifier of the account that pays; empty before the client is built, or without a key."""
        return self.credential.account if self.credential else ""

    def platform_model_id(self, model: str) -> str:
        """The platform's id of a model, from Anthropic's id."""
        return self.platform.platform_model_id(model, self.credential.region if self.credential else "")

    @property
    def is_regional(self) -> bool:
        """True if inference is confined to a region, which costs more: by the platform's endpoint, or as the latest
        response said. A workspace may have such a default, which no request shows.
        """
        return self._last_was_regional or bool(self._region)

    @property
    def is_anthropic_address(self) -> bool:
        """True if the requests go to a service of Anthropic's own, and not to a gateway or another cloud."""
        return self.credential is not None and self.platform.counts_thinking(self.credential)

    @property
    def _region(self) -> str:
        return self.platform.inference_region(self.credential) if self.credential else ""

    async def stream_message(
        self, body: RequestBody, message_stream: MessageStream, *, read_interval_s: float = 0
    ) -> None:
        """Send `body` and feed every event of the response into `message_stream`.

        A stream may end without a `stop_reason`: then it was cut, and the caller decides what to do. Cancelling closes
        the upstream connection at once. While text comes, it is read every `read_interval_s` seconds.

        Raises:
            CallError: The request failed, possibly in mid-stream; `message_stream` holds what had arrived by then.
        """
        stream = await self._open_stream(body)
        async with stream:
            message_stream.headers = stream.response.headers
            message_stream.request_id = response_headers.request_id_from(message_stream.headers)
            message_stream.bytes_received = lambda: stream.response.num_bytes_downloaded
            requested_id = str(body["model"]) if self.platform.is_cloud else ""
            message_stream.region = self._region
            try:
                if await read_whole_message(stream.response, message_stream):
                    return
                response_headers.check_content_type(stream.response.status_code, message_stream.headers)
                await read_stream(stream, message_stream, requested_id=requested_id, interval_s=read_interval_s)
            except Exception as error:
                call_error = self.classify_error(error)
                if call_error is None:
                    raise
                raise call_error.with_request_id(message_stream.request_id) from None
            finally:
                if message_stream.has_started:
                    self._last_was_regional = message_stream.has_regional_inference

    def read_message(self, message: dict[str, object], message_stream: MessageStream) -> None:
        """Feed a whole message, as a batch has it, into `message_stream`: it is read and checked as a stream is.

        Raises:
            TemporaryError: It is no message of the Messages API.
        """
        message_stream.region = self._region
        feed_message(message, message_stream)

    async def count_tokens(self, body: RequestBody, *, estimate_on_error: bool = True) -> TokenCount:
        """The input tokens of a request by the API's own count, else estimated.

        An estimate replaces a count that does not exist on the platform, takes longer than `COUNT_TIMEOUT_S`, or cannot
        be true.

        Raises:
            CallError: The API refused the request itself, or the key; without `estimate_on_error`, any error.
        """
        client = await self.get_client()
        fields = {
            name: value for name, value in self.platform.adapt_body(body).items() if name not in NOT_COUNTABLE_FIELDS
        }
        if "count_tokens" in self.platform.unsupported:
            return await _estimate_tokens(fields)
        try:
            with anyio.fail_after(COUNT_TIMEOUT_S):
                headers = self.beta_headers(fields)
                counted = await client.messages.count_tokens(extra_headers=headers, **cast("dict[str, Any]", fields))
        except Exception as error:
            call_error = self.classify_error(error) if not isinstance(error, TimeoutError) else COUNT_TIMEOUT_ERROR
            if call_error is None:
                raise
            if (
                not estimate_on_error
                or isinstance(call_error, ConfigurationError)
                or call_error.kind in FINAL_COUNT_KINDS
            ):
                raise call_error from None
            return await _estimate_tokens(fields)
        # A gateway may answer with anything, and the SDK passes on what it cannot parse.
        tokens = token_count(getattr(counted, "input_tokens", None))
        if tokens is not None and token_estimate.is_plausible(tokens, fields):
            return TokenCount(tokens)
        return await _estimate_tokens(fields)

    async def check_messages_route(self) -> None:
        """Send an empty request, which costs nothing, to find out whether the base URL has a Messages API.

        Raises:
            CallError: It has none, or it could not be reached. An API that refuses the empty request is there.
        """
        client = await self.get_client()
        try:
            with anyio.fail_after(PROBE_TIMEOUT_S):
                await client.post("/v1/messages", cast_to=object, body={})
        except TimeoutError:
            raise TemporaryError("The base URL did not answer in time.", kind="timeout") from None
        except Exception as error:
            call_error = self.classify_error(error)
            if call_error is None:
                raise
            if call_error.kind != "invalid_request":
                raise call_error from None

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

    async def _open_stream(self, body: RequestBody) -> AsyncStream[RawMessageStreamEvent]:
        """Send the request. If the API refuses the beta that counts thinking, send it again without the beta.

        Raises:
            CallError: The request failed before the stream began.
        """
        client = self._without_idle_spans(await self.get_client())
        # The body is built by this package from admitted values; its keys are the API's own.
        fields = cast("dict[str, Any]", self.platform.adapt_body(body))
        while True:
            counts_thinking = self._requests_thinking_count()
            headers = self.beta_headers(fields, *([THINKING_COUNT_BETA] if counts_thinking else []))
            try:
                return await client.messages.create(stream=True, extra_headers=headers, **fields)
            except Exception as error:
                call_error = self.classify_error(error)
                if call_error is None:
                    raise
                if (
                    not counts_thinking
                    or call_error.kind != "invalid_request"
                    or "anthropic-beta" not in str(call_error)
                ):
                    raise call_error from None
                self._thinking_beta_refused = True

    def _without_idle_spans(self, client: AsyncAnthropic) -> AsyncAnthropic:
        """The client, or a copy that begins no spans where nothing takes them: it computes twenty attributes for one.

        Without a provider of spans the trace of the caller is passed on all the same, so it must have none. A copy of
        a platform's client would find its credentials again.
        """
        has_provider = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        if self.platform.is_cloud or has_provider or trace.get_current_span().get_span_context().is_valid:
            return client
        if self._client_without_spans is None:
            self._client_without_spans = client.with_options(open_telemetry=False)
        return self._client_without_spans

    @property
    def takes_thinking_betas(self) -> bool:
        """True if the betas on thinking are known to be accepted, or asked for by the operator."""
        if "thinking_count" in self.platform.unsupported:
            return False
        choice = self.settings.thinking_count
        return choice == "on" or (choice == "auto" and self.is_anthropic_address)

    @property
    def takes_tool_additions(self) -> bool:
        """True if tools that a message defines are known to be accepted."""
        return not self.platform.is_cloud and self.takes_thinking_betas

    def beta_headers(self, fields: RequestBody, *betas: str) -> dict[str, str]:
        """The header that names these betas, and those that a request's own fields need."""
        names = list(betas)
        if "block_binding" in cast("RequestBody", fields.get("thinking") or {}):
            names.append(THINKING_BINDING_BETA)
        if added_definitions(fields):
            names.append(INLINE_TOOLS_BETA)
        if self.platform.files_beta and _holds_file_id(fields.get("messages")):
            names.append(self.platform.files_beta)
        return {"anthropic-beta": ",".join(names)} if names else {}

    def _requests_thinking_count(self) -> bool:
        return self.takes_thinking_betas and not self._thinking_beta_refused


def _holds_file_id(value: object) -> bool:
    """True if a block of these messages names a file of the Files API."""
    if isinstance(value, list | tuple):
        return any(_holds_file_id(each) for each in cast("list[object]", value))
    if not isinstance(value, dict):
        return False
    fields = cast("dict[str, object]", value)
    return isinstance(fields.get("file_id"), str) or any(
        _holds_file_id(fields.get(name)) for name in ("content", "source")
    )


COUNT_TIMEOUT_ERROR = TemporaryError("The count of tokens did not arrive in time.", kind="timeout")


async def _estimate_tokens(fields: RequestBody) -> TokenCount:
    return TokenCount(await anyio.to_thread.run_sync(token_estimate.estimate_input_tokens, fields), exact=False)


def _build_client(settings: Settings, transport: AsyncBaseTransport | None) -> tuple[Credential, AsyncAnthropic]:
    """Import the SDK and the prices, and build the SDK's client; on a thread, since it takes half a second.

    Raises:
        ConfigurationError: A key, URL, proxy or certificate file is missing or unusable.
        TemporaryError: The process has no file descriptors left.
    """
    check_key_log()
    pricing.find_rates("claude")
    platform = PLATFORMS[settings.platform]
    credential = platform.find_credential(settings)
    telemetry = {
        "propagation": settings.forward_traceparent,
        "traces": {"content_mode": "content" if settings.trace_content else "metadata_only"},
    }
    http_client = build_http_client(settings.http_backend, transport, base_url=credential.base_url)
    try:
        client = platform.build_client(settings, credential, http_client, telemetry)
    except Exception as error:  # the SDK reads its profile now
        call_error = error_classification.to_call_error(error)
        if not isinstance(call_error, ConfigurationError):
            raise
        raise call_error from None
    for resource in ("messages", "models", "files"):  # imported by the SDK where they are first used: on the event loop
        with suppress(AttributeError):  # of platforms without them
            getattr(client, resource)
    freeze_imports()
    return credential, client
