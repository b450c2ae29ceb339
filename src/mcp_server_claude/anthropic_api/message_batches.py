"""The Message Batches API: requests that are answered within 24 hours, at half the price.

Rules: platform.claude.com/docs/en/build-with-claude/batch-processing and …/api/messages/batches, as documented by
November 2026. No request is repeated here: a batch that was created, though its response was lost, is found by
`list_batches`, and polls are repeated anyway.
"""

from __future__ import annotations

import math
import time
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args
from urllib.parse import quote

from mcp_server_claude.anthropic_api.response_headers import response_time
from mcp_server_claude.anthropic_api.sse_events import parse_json
from mcp_server_claude.anthropic_api.stream_usage import as_name, as_object, token_count
from mcp_server_claude.errors import CallError, RequestError, TemporaryError
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Sequence

    from anthropic import AsyncAnthropic

    from mcp_server_claude.anthropic_api.client import ClaudeClient
    from mcp_server_claude.anthropic_api.request_body import RequestBody

BatchStatus: TypeAlias = Literal["in_progress", "canceling", "ended"]
BATCH_STATUSES: tuple[BatchStatus, ...] = get_args(BatchStatus)
ResultKind: TypeAlias = Literal["succeeded", "errored", "canceled", "expired"]
RESULT_KINDS: tuple[ResultKind, ...] = get_args(ResultKind)

BATCHES_PATH = "/v1/messages/batches"
TRANSFER_TIMEOUT_S = 60.0
"""Seconds without a byte after which a transfer counts as broken, if `MCP_CLAUDE_BYTES_TIMEOUT_S` is not shorter."""
MAX_BATCHES_PER_PAGE = 100
MAX_LIST_PAGES = 50
MAX_RESULT_LINE_BYTES = 64 << 20
"""Bytes of the result of one request, more than any model writes."""
RAW_RESPONSE_HEADERS = {"X-Stainless-Raw-Response": "raw"}
"""Has the SDK return a response with its headers, as its own `with_raw_response` does."""
NEVER_CREATED_STATUSES = frozenset({429, 529})
"""Statuses, in addition to those of rejected requests (4xx), after which there is no batch."""


@frozen_dataclass(kw_only=True)
class BatchRequest:
    """One request of a batch. `custom_id` matches `^[a-zA-Z0-9_-]{1,64}$` and is unique within the batch."""

    custom_id: str
    body: RequestBody


@frozen_dataclass(kw_only=True)
class UpstreamBatch:
    """A batch as the API describes it. `created_at` is in unix seconds, 0 where it is unknown."""

    id: str
    status: BatchStatus
    requests: int
    created_at: float
    has_results: bool

    @property
    def has_ended(self) -> bool:
        """True if every request has a result."""
        return self.status == "ended"


@frozen_dataclass(kw_only=True)
class BatchResult:
    """The result of one request: its `message` if it succeeded, its `error` if it did not. Only messages are billed."""

    custom_id: str
    kind: ResultKind
    message: dict[str, object] | None = None
    error: CallError | None = None


async def create_batch(claude: ClaudeClient, requests: Sequence[BatchRequest]) -> UpstreamBatch:
    """Create a batch.

    Raises:
        CallError: It was not created, or this is unknown; see `was_not_created`.
    """
    client = await _open_client(claude)
    betas: set[str] = set()
    items: list[dict[str, object]] = []
    for request in requests:
        fields = claude.platform.adapt_body(request.body)
        betas.update(filter(None, claude.beta_headers(fields).get("anthropic-beta", "").split(",")))
        items.append({"custom_id": request.custom_id, "params": fields})
    headers = {"anthropic-beta": ",".join(sorted(betas))} if betas else {}
    options = _options(claude, headers)
    return _as_batch(
        await _call_api(claude, client.post(BATCHES_PATH, cast_to=object, body={"requests": items}, **options))
    )


def was_not_created(error: CallError) -> bool:
    """True if this error of `create_batch` proves that there is no batch: the API refused it, or nothing was sent."""
    if error.status is not None:
        return 400 <= error.status < 500 or error.status in NEVER_CREATED_STATUSES
    return error.kind in {"connection_refused", "no_key", "unsupported"}


async def retrieve_batch(claude: ClaudeClient, batch_id: str) -> UpstreamBatch:
    """A batch as it stands now.

    Raises:
        CallError: The API does not report it.
    """
    client = await _open_client(claude)
    return _as_batch(await _call_api(claude, client.get(_batch_path(batch_id), cast_to=object, **_options(claude))))


async def cancel_batch(claude: ClaudeClient, batch_id: str) -> UpstreamBatch:
    """Cancel a batch. Requests that were answered before keep their results, and are billed.

    Raises:
        CallError: It could not be canceled; of kind `invalid_request` if it has ended.
    """
    client = await _open_client(claude)
    path = f"{_batch_path(batch_id)}/cancel"
    return _as_batch(await _call_api(claude, client.post(path, cast_to=object, **_options(claude))))


async def list_batches(claude: ClaudeClient, since: float, until: float = math.inf) -> list[UpstreamBatch]:
    """The batches of the workspace that were created between two times, the newest first.

    The times are unix seconds of this machine's clock. Where the API's clock differs by the date of its responses, the
    batches between these times of either clock are listed, since a gateway may have set the date. Batches without a
    time are listed too.

    Raises:
        CallError: The API does not tell.
    """
    client = await _open_client(claude)
    found: list[UpstreamBatch] = []
    query: dict[str, object] = {"limit": MAX_BATCHES_PER_PAGE}
    for _ in range(MAX_LIST_PAGES):
        options = _options(claude, RAW_RESPONSE_HEADERS)
        options["options"]["params"] = query
        response = cast("Any", await _call_api(claude, client.get(BATCHES_PATH, cast_to=object, **options)))
        page = as_object(await _call_api(claude, response.parse()))
        now = time.time()
        ahead_s = (response_time(response.headers) or now) - now
        earliest, latest = since + min(ahead_s, 0.0), until + max(ahead_s, 0.0)
        data = page.get("data")
        if not isinstance(data, list):
            raise _protocol_error()
        batches = [_as_batch(each) for each in cast("list[object]", data)]
        recent = [each for each in batches if each.created_at >= earliest or not each.created_at]
        found += [each for each in recent if each.created_at <= latest]
        if len(recent) < len(batches) or not batches or page.get("has_more") is not True:
            break
        query = {"limit": MAX_BATCHES_PER_PAGE, "after_id": batches[-1].id}
    return found


async def read_results(claude: ClaudeClient, batch_id: str) -> AsyncGenerator[BatchResult]:
    """The results of a batch that has ended, in any order, one at a time while they are downloaded.

    The address is made from the id, and not taken from `results_url`: the key goes to no other host.

    Raises:
        CallError: The results are not available, or the download broke off.
    """
    client = await _open_client(claude)
    async with _response_of(claude, client, f"{_batch_path(batch_id)}/results") as response:
        buffer = bytearray()
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                buffer += chunk
                end = buffer.rfind(b"\n")
                if end < 0:
                    if len(buffer) > MAX_RESULT_LINE_BYTES:
                        raise _protocol_error()
                    continue
                lines = bytes(buffer[:end])
                del buffer[: end + 1]
                for line in lines.split(b"\n"):
                    if line.strip():
                        yield _as_result(claude, line, response)
        if buffer.strip():
            yield _as_result(claude, bytes(buffer), response)


@asynccontextmanager
async def _response_of(claude: ClaudeClient, client: AsyncAnthropic, path: str) -> AsyncGenerator[Any]:
    """The response to a GET, which is read as it comes. An error of reading it is a call error too."""
    # The second header has the SDK return the response unread, as its own `with_streaming_response` does.
    headers = {"accept": "application/x-jsonl, application/binary", "X-Stainless-Raw-Response": "stream"}
    options = _options(claude, headers)
    streamed = cast("Any", await _call_api(claude, client.get(path, cast_to=object, **options)))
    try:
        yield streamed.http_response
    except CallError:
        raise
    except Exception as error:
        call_error = claude.classify_error(error)
        if call_error is None:
            raise
        raise call_error from None
    finally:
        await streamed.close()


async def _open_client(claude: ClaudeClient) -> AsyncAnthropic:
    """The SDK's client.

    Raises:
        CallError: The platform has no batches, or there is no usable key.
    """
    if "batch" in claude.platform.unsupported:
        raise RequestError(f"{claude.platform.title}, which this server uses, has no batches.", kind="unsupported")
    return await claude.get_client()


async def _call_api(claude: ClaudeClient, request: Awaitable[object]) -> object:
    try:
        return await request
    except Exception as error:
        call_error = claude.classify_error(error)
        if call_error is None:
            raise
        raise call_error from None


def _options(claude: ClaudeClient, headers: dict[str, str] | None = None) -> dict[str, Any]:
    timeout_s = min(TRANSFER_TIMEOUT_S, claude.settings.bytes_timeout_s)
    return {"options": {"headers": headers or {}, "timeout": timeout_s}}


def _batch_path(batch_id: str) -> str:
    return f"{BATCHES_PATH}/{quote(batch_id, safe='')}"


def _as_batch(value: object) -> UpstreamBatch:
    fields = as_object(value)
    batch_id, status = fields.get("id"), fields.get("processing_status")
    known = cast("BatchStatus | None", next((each for each in BATCH_STATUSES if each == status), None))
    if not isinstance(batch_id, str) or not batch_id or known is None:
        raise _protocol_error()
    counts = as_object(fields.get("request_counts"))
    return UpstreamBatch(
        id=batch_id,
        status=known,
        requests=sum(token_count(count) or 0 for count in counts.values()),
        created_at=_unix_seconds(fields.get("created_at")),
        has_results=bool(fields.get("results_url")),
    )


def _unix_seconds(value: object) -> float:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return 0.0
    if moment is None:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _as_result(claude: ClaudeClient, line: bytes, response: object) -> BatchResult:
    """One line of the results. An error within it is classified as one within a stream.

    Raises:
        TemporaryError: It is no result.
    """
    try:
        fields = as_object(parse_json(line))
    except ValueError:
        raise _protocol_error() from None
    result = as_object(fields.get("result"))
    custom_id = fields.get("custom_id")
    kind = cast("ResultKind | None", next((each for each in RESULT_KINDS if each == result.get("type")), None))
    if not isinstance(custom_id, str) or kind is None:
        raise _protocol_error()
    message = result.get("message")
    if kind == "succeeded":
        if not isinstance(message, dict):
            raise _protocol_error()
        return BatchResult(custom_id=custom_id, kind=kind, message=cast("dict[str, object]", message))
    return BatchResult(custom_id=custom_id, kind=kind, error=_error_of_result(claude, kind, result, response))


def _error_of_result(claude: ClaudeClient, kind: ResultKind, result: dict[str, object], response: object) -> CallError:
    if kind == "expired":
        return TemporaryError("The batch ended after 24 hours, before this was answered. Try again.", kind="expired")
    if kind == "canceled":
        return RequestError("It was stopped before it was answered.", kind="cancelled")
    import anthropic  # loaded long since: it has sent the request

    body = as_object(result.get("error"))
    if "error" not in body:  # the error itself, without the object around it
        body = {"type": "error", "error": body}
    reported = anthropic.APIStatusError("", response=cast("Any", response), body=body)
    error = claude.classify_error(reported) or _protocol_error()
    return type(error)(
        str(error), kind=error.kind, request_id=as_name(body.get("request_id")) or None, should_retry=error.should_retry
    )


def _protocol_error() -> TemporaryError:
    return TemporaryError("The response is not one of the Message Batches API. Check the base URL.", kind="protocol")
