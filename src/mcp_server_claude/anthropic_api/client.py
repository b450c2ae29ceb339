"""The SDK's client, built once on a thread, and the one way in which it is used: a stream, fed into an `Answer`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel
import anyio.to_thread

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api import credentials, error_classification, token_estimate
from mcp_server_claude.anthropic_api.credentials import API_VERSION, custom_headers
from mcp_server_claude.anthropic_api.platforms.platform import PLATFORMS
from mcp_server_claude.errors import Failure, Misconfigured

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from httpx2 import AsyncBaseTransport, AsyncClient

    from mcp_server_claude.anthropic_api.credentials import Credential
    from mcp_server_claude.anthropic_api.message_stream import Answer
    from mcp_server_claude.anthropic_api.request_body import Body
    from mcp_server_claude.settings import Settings

CONNECT_S = 10.0
WRITE_S = 120.0
KEEPALIVE_S = 90.0
"""A pooled connection outlives the pause between two tool calls; the SDK's own 5 s would pay for TLS each time."""


PROFILE = re.compile(r"^[a-z-]+\.anthropic\.")
"""The id of an inference profile of Amazon's. Where there is no price of it, that of another is none either."""
EVENTS_A_TURN = 8
"""Events after which others get their turn. One read of a socket may hold 500, and the SDK parses them without a pause:
another tool's answer then waited for a second behind ten streams at full speed (benchmarks/, `another_tool`)."""
THINKING_COUNT = "thinking-token-count-2026-05-13"
"""The beta that adds `estimated_tokens` to thinking deltas, also where the thinking itself is not shown."""
UNCOUNTED = frozenset({"max_tokens", "container"})
"""The fields of a request that `count_tokens` does not take."""


@dataclass(frozen=True, slots=True)
class Count:
    """The input tokens of a request; `exact` by the API's own count, else estimated and never too low."""

    tokens: int
    exact: bool = True


class Claude:
    """The Messages API. Importing the SDK takes about a second, so it happens on a thread, at the first `ready`.

    `transport` carries the requests instead of sockets, e.g. a recording that is played back.
    """

    def __init__(self, settings: Settings, transport: AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport
        self._client: AsyncAnthropic | None = None
        self._failure: Failure | None = None
        self._building = anyio.Lock()
        self._beta_refused = False
        self.platform = PLATFORMS[settings.platform]
        self.credential: Credential | None = None

    async def ready(self) -> AsyncAnthropic:
        """The client, built when it is first needed.

        Raises:
            Misconfigured: There is no usable key or base URL; the same sentence each time.
        """
        async with self._building:
            if self._client is None and self._failure is None:
                try:
                    self.credential, self._client = await anyio.to_thread.run_sync(
                        _build, self._settings, self._transport, abandon_on_cancel=True
                    )
                except Failure as failure:
                    self._failure = failure
        if self._client is None:
            assert self._failure is not None  # noqa: S101 - one of the two is there, see above
            raise type(self._failure)(str(self._failure), kind=self._failure.kind)
        return self._client

    def call_it(self, model: str) -> str:
        """What the platform calls a model that Anthropic calls this."""
        return self.platform.call_it(model, self.credential.region if self.credential else "")

    async def stream(self, body: Body, answer: Answer) -> None:
        """Send `body` and feed what streams back into `answer`, to the stream's end.

        The stream may end without a `stop_reason`: then it was cut, and the caller decides what to do. Cancelling
        closes the upstream connection at once.

        Raises:
            Failure: What went wrong, in mid-stream too; `answer` holds what had come by then.
        """
        client = await self.ready()
        headers = {"anthropic-beta": THINKING_COUNT} if self._counts_thinking() else {}
        fields = cast("dict[str, Any]", self.platform.fit(body))
        try:
            # The body is built by us from admitted values; its keys are the API's own.
            stream = await client.messages.create(stream=True, extra_headers=headers, **fields)
        except Exception as error:  # noqa: BLE001 - translated, or raised again
            raise self._told(error, answer) from None
        async with stream:
            answer.headers = stream.response.headers
            answer.request_id = error_classification.request_id(answer.headers)
            answer.received = lambda: stream.response.num_bytes_downloaded
            error_classification.check_stream(stream.response.status_code, answer.headers)
            events = aiter(stream)
            while True:
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                except Exception as error:  # noqa: BLE001 - translated, or raised again
                    raise self._told(error, answer) from None
                if not answer.events and self.platform.name != "anthropic":
                    _call_as_asked(event, str(body["model"]))
                answer.feed(event)
                if not answer.events % EVENTS_A_TURN:
                    await anyio.lowlevel.checkpoint()

    async def count(self, body: Body) -> int:
        """The input tokens of a request; see `counted`.

        Raises:
            Failure: The API refused the request itself, or the key.
        """
        return (await self.counted(body)).tokens

    async def counted(self, body: Body, *, guess: bool = True) -> Count:
        """The input tokens of a request, by the API's own count; estimated where it has no such endpoint.

        Raises:
            Failure: The API refused the request itself, or the key; without `guess`, whatever went wrong.
        """
        client = await self.ready()
        fields = {name: value for name, value in self.platform.fit(body).items() if name not in UNCOUNTED}
        if "count_tokens" in self.platform.lacks:
            return await _estimated(fields)
        try:
            counted = await client.messages.count_tokens(**cast("dict[str, Any]", fields))
        except Exception as error:
            failure = self.translated(error)
            if failure is None:
                raise
            if not guess or isinstance(failure, Misconfigured) or failure.kind in {"invalid_request", "too_large"}:
                raise failure from None
            return await _estimated(fields)
        # A gateway may answer with anything, and the SDK hands on what it cannot parse.
        tokens: object = getattr(counted, "input_tokens", None)
        return Count(tokens) if isinstance(tokens, int) else await _estimated(fields)

    def _counts_thinking(self) -> bool:
        if self._beta_refused or "thinking_count" in self.platform.lacks:
            return False
        wanted = self._settings.thinking_count
        own = self.credential is not None and self.credential.base_url == credentials.ANTHROPIC_URL
        return wanted == "on" or (wanted == "auto" and (own or self.platform.name == "aws"))

    def _told(self, error: Exception, answer: Answer) -> Exception:
        """The failure that an exception stands for; the exception itself when it is a bug."""
        failure = self.translated(error)
        if failure is None:
            return error
        failure.request_id = failure.request_id or answer.request_id
        if failure.kind == "invalid_request" and "anthropic-beta" in str(failure) and self._counts_thinking():
            self._beta_refused = True  # only a comfort: the same request goes again without it
            failure.should_retry, failure.retry_after_s = True, 0.0
        return failure

    def translated(self, error: Exception) -> Failure | None:
        """The failure that an exception stands for, in the words of the platform."""
        if self.credential is None or self.platform.name == "anthropic":
            return error_classification.translate(error)
        from mcp_server_claude.anthropic_api.platforms import cloud_clients

        if (failure := cloud_clients.translate(error, self.credential)) is not None:
            return failure
        failure = error_classification.translate(error)
        return None if failure is None else cloud_clients.reworded(failure, error, self.credential)

    async def close(self) -> None:
        """Close the pooled connections."""
        if self._client is not None:
            await self._client.close()


async def _estimated(fields: Body) -> Count:
    return Count(await anyio.to_thread.run_sync(token_estimate.input_tokens, fields), exact=False)


def _call_as_asked(event: object, asked: str) -> None:
    """Have the answer named by the id that was asked, where that decides on the price: the answer only says what
    Anthropic calls the model. A name that somebody gave (a deployment, a profile's ARN) says nothing of it.
    """
    message: Any = getattr(event, "message", None)
    if isinstance(getattr(message, "model", None), str) and (PROFILE.match(asked) or pricing.rates(asked) is not None):
        message.model = asked


def _build(settings: Settings, transport: AsyncBaseTransport | None) -> tuple[Credential, AsyncAnthropic]:
    """Import the SDK and make its client; on a thread."""
    credential = credentials.find(settings)
    import anthropic
    import httpx2

    carrier: dict[str, Any] = {} if transport is None else {"transport": transport}
    http_client = anthropic.DefaultAsyncHttpxClient(
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=KEEPALIVE_S),
        timeout=httpx2.Timeout(CONNECT_S, read=None, write=WRITE_S, pool=None),  # reading is watched by the engine
        follow_redirects=False,  # an API does not redirect a POST; what does is a portal or a wrong address
        **carrier,
    )
    telemetry = {
        "propagation": settings.forward_traceparent,
        "traces": {"content_mode": "content" if settings.trace_content else "metadata_only"},
    }
    if credential.platform.name == "anthropic":
        client = _anthropic(settings, credential, http_client, telemetry)
    else:
        from mcp_server_claude.anthropic_api.platforms import cloud_clients

        client = cloud_clients.client(credential, http_client, telemetry=telemetry)
    _warm()
    return credential, client


def _anthropic(settings: Settings, credential: Credential, http_client: AsyncClient, telemetry: Any) -> AsyncAnthropic:
    """The client for Anthropic's own API, or for a gateway in its place."""
    import anthropic

    key = credential.key.get_secret_value() if credential.key else None
    headers: dict[str, Any] = {}
    if credential.private:
        # The client's environment may add headers for its own gateway; a key of ours travels without them. Omitting
        # one that the SDK sets itself would take the SDK's away as well, so that those two are said again.
        headers = dict.fromkeys(custom_headers(), anthropic.omit)
        if headers:
            headers |= {"Authorization": f"Bearer {key}", "anthropic-version": API_VERSION}
    if key and settings.auth_header == "x-api-key":
        headers |= {"X-Api-Key": key, "Authorization": anthropic.omit}
    return anthropic.AsyncAnthropic(
        api_key=key,
        auth_token=os.environ["ANTHROPIC_AUTH_TOKEN"].strip() if credential.source == "ANTHROPIC_AUTH_TOKEN" else None,
        base_url=credential.base_url if credential.private or settings.base_url else None,
        max_retries=0,  # the retry loop is ours: the SDK's sleeps through any Retry-After, in silence
        default_headers=headers,
        open_telemetry=telemetry,
        http_client=http_client,
    )


def _warm() -> None:
    """Build the SDK's deferred pydantic models now, on this thread, not at the first delta."""
    from anthropic._models import construct_type
    from anthropic.types import RawMessageStreamEvent

    for event in WARM_EVENTS:
        construct_type(value=event, type_=cast("type[object]", RawMessageStreamEvent))


WARM_EVENTS: tuple[dict[str, object], ...] = (
    {
        "type": "message_start",
        "message": {
            "id": "msg_warm",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
)
