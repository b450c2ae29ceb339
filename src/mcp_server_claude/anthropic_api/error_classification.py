"""Everything that can go wrong upstream, put into one of three failures and one sentence that says what to do.

The source of the table is the SDK's exception tree and its behaviour in mid-stream (2.11): an `error` event arrives as
an `APIStatusError` of status 200, a lost socket as a bare `httpx2.TransportError`, malformed data as `ValueError`,
`LookupError` or `AssertionError`. No exception of the SDK crosses this module, and no text of one is repeated unless
the API wrote it for the reader: theirs may hold a key (an illegal header does).
"""

from __future__ import annotations

import math
import re
import socket
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, cast

from mcp_server_claude.errors import CallError, ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.redaction import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anthropic import APIStatusError


SPEND_LIMIT_CODES = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached"}
)
HTTP_OVERLOADED, HTTP_RATE_LIMIT, HTTP_TOO_LARGE = 529, 429, 413
STREAM_CONTENT_TYPES = ("text/event-stream", "application/vnd.amazon.eventstream")

TOO_LONG_PATTERN = re.compile(r"(?:prompt|input) is too long|exceeds? (?:the )?context", re.IGNORECASE)
"""`prompt is too long: 215000 tokens > 200000 maximum`; `input length and max_tokens exceed context limit: 197202 +
8192 > 200000`; Amazon's `Input is too long for requested model.`"""
TOKEN_OVERFLOW_PATTERN = re.compile(r"(\d[\d,]*)(?: tokens)?(?: \+ (\d[\d,]*))? > (\d[\d,]*)")
TOO_LONG_MESSAGE = "The prompt is longer than the model takes. Send less."

KIND_BY_ERROR_TYPE: dict[str, str] = {
    "overloaded_error": "overloaded",
    "rate_limit_error": "rate_limit",
    "api_error": "api_error",
    "timeout_error": "timeout",
    "authentication_error": "authentication",
    "permission_error": "permission",
    "billing_error": "billing",
    "not_found_error": "not_found",
    "invalid_request_error": "invalid_request",
    "request_too_large": "too_large",
    "conflict_error": "conflict",
    # Amazon's, in the stream and as a header (botocore's service model of bedrock-runtime), in lower case
    "throttlingexception": "rate_limit",
    "modeltimeoutexception": "timeout",
    "serviceunavailableexception": "overloaded",
    "modelnotreadyexception": "overloaded",
    "validationexception": "invalid_request",
    "accessdeniedexception": "permission",
    "expiredtokenexception": "authentication",
    "unrecognizedclientexception": "authentication",
    "invalidsignatureexception": "authentication",
}
KIND_BY_STATUS: dict[int, str] = {
    400: "invalid_request",
    401: "authentication",
    402: "billing",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    HTTP_TOO_LARGE: "too_large",
    422: "invalid_request",
    HTTP_RATE_LIMIT: "rate_limit",
    504: "timeout",
    HTTP_OVERLOADED: "overloaded",
}


def to_call_error(error: Exception) -> CallError | None:
    """The failure that an exception of the SDK, of its HTTP layer or of its parser stands for; None for a bug."""
    import anthropic
    import httpx2

    match error:
        case CallError():
            return error
        case anthropic.APIStatusError():
            return _from_status(error)
        case anthropic.APITimeoutError() | httpx2.TimeoutException():
            return TemporaryError("The Messages API did not answer in time. Try again.", kind="timeout")
        case anthropic.APIConnectionError() | httpx2.TransportError():
            return _from_connection_error(error)
        case anthropic.CredentialsError():
            return ConfigurationError(
                "The SDK's credentials could not be used; `mcp-server-claude doctor` says more.", kind="authentication"
            )
        case anthropic.APIResponseValidationError() | ValueError() | LookupError() | AssertionError():
            return TemporaryError(
                "What came back is not a valid stream of the Messages API. Try again, and if it stays so check the "
                "base URL.",
                kind="protocol",
            )
        case httpx2.HTTPError() | httpx2.StreamError() | httpx2.InvalidURL():
            return TemporaryError("The connection to the Messages API failed. Try again.", kind="connection")
        case _:
            return None


def check_content_type(status: int, headers: Mapping[str, str]) -> None:
    """Look whether a response is an event stream at all: the API's own kind, or Amazon's.

    Raises:
        ConfigurationError: It is not: a captive portal, a proxy's page, a gateway that cannot stream.
    """
    content_type = headers.get("content-type", "")
    if content_type.startswith(STREAM_CONTENT_TYPES):
        return
    what = content_type.partition(";")[0].strip()[:60] or "nothing"
    raise ConfigurationError(
        f"The base URL answered with {what} instead of an event stream (HTTP {status}): it is not a Messages API that "
        "streams. Check MCP_CLAUDE_BASE_URL, and any proxy in between.",
        kind="protocol",
        status=status,
        request_id=request_id_from(headers),
    )


def request_id_from(headers: Mapping[str, str]) -> str | None:
    """The id that support asks for, the API's or Amazon's."""
    return headers.get("request-id") or headers.get("x-amzn-requestid")


def api_message_sentence(error: Exception) -> str:
    """What the API says of an error, as a sentence after a space; empty where it says nothing."""
    import anthropic

    if not isinstance(error, anthropic.APIStatusError):
        return ""
    given: object = error.body
    body = cast("dict[str, object]", given) if isinstance(given, dict) else {}
    # Gateways send other shapes, and so does Amazon: {"message": …}, or {"Message": …} where it refuses a signature.
    found = next((each for each in (error.api_message, body.get("message"), body.get("Message")) if each), "")
    # Where Amazon refuses a signature it goes on to show what was to be signed, a session's token included.
    said = sanitize(found.partition("The Canonical String")[0]) if isinstance(found, str) else ""
    return f" The API says: {said}{'' if said.endswith(('.', '!', '?', '…')) else '.'}" if said else ""


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the API asks to wait: `retry-after-ms`, `retry-after` in seconds, or as an HTTP date (RFC 9110)."""
    milliseconds, value = _finite_number(headers.get("retry-after-ms")), headers.get("retry-after")
    seconds = _finite_number(value) if milliseconds is None else milliseconds / 1000
    if seconds is not None:
        return max(0.0, seconds)
    if value is None:
        return None
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def _finite_number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _from_status(error: APIStatusError) -> CallError:
    """A status before the stream, or an `error` event within it (status 200: only its type counts)."""
    status = error.status_code
    in_stream = status < 400
    named = str(error.type or error.response.headers.get("x-amzn-errortype", "").partition(":")[0])
    kind = KIND_BY_ERROR_TYPE.get(named.lower(), "api_error" if in_stream else KIND_BY_STATUS.get(status, ""))
    if not kind or (not in_stream and status >= 500 and kind == "invalid_request"):
        kind = "api_error" if status >= 500 or in_stream else "invalid_request"
    if error.error_code in SPEND_LIMIT_CODES:
        kind = "spend_limit"
    said = api_message_sentence(error)
    wait = retry_after_seconds(error.response.headers)
    url = error.request.url  # may hold a password, which is nobody's business
    message, family = _message_and_class(kind, said, wait, f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}")
    if 300 <= status < 400:
        message, family = "The base URL answers with a redirect. Give the address that it leads to.", ConfigurationError
        kind = "protocol"
    if kind in {"invalid_request", "too_large"} and (long := _too_long_message(said)):
        message, family, kind = long, RequestError, "too_long"
    found = request_id_from(error.response.headers)
    advice = _retry_advice(error.response.headers)
    return family(message, kind=kind, retry_after_s=wait, request_id=found, status=status, should_retry=advice)


def _too_long_message(api_message: str) -> str:
    """By how much a prompt is too long, where the API says that it is; empty where it says something else."""
    if not TOO_LONG_PATTERN.search(api_message):
        return ""
    found = TOKEN_OVERFLOW_PATTERN.search(api_message)
    if found is None:
        return TOO_LONG_MESSAGE
    tokens, answer, most = (int((each or "0").replace(",", "")) for each in found.groups())
    asked = f"{tokens:,} tokens" + (f", with {answer:,} for the answer" if answer else "")
    over = max(0, tokens + answer - most)
    return f"The prompt is too long: {asked}, {over:,} more than the {most:,} that the model takes. Send less."


def _retry_advice(headers: Mapping[str, str]) -> bool | None:
    """The API's own advice, which outranks every rule of ours."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())


def _message_and_class(
    kind: str, api_message: str, retry_after_s: float | None, base_url: str
) -> tuple[str, type[CallError]]:
    later = f" Try again in {retry_after_s:.0f} s." if retry_after_s is not None else " Try again in a moment."
    match kind:
        case "overloaded":
            return f"Claude is overloaded right now.{later}", TemporaryError
        case "rate_limit":
            return f"The rate limit of this API key is reached.{later}{api_message}", TemporaryError
        case "timeout":
            return f"The Messages API took too long and gave up.{later}", TemporaryError
        case "api_error" | "conflict":
            return f"The Messages API had an internal fault.{later}{api_message}", TemporaryError
        case "authentication":
            return (
                f"{base_url} does not accept the API key. Check the key that `mcp-server-claude doctor` names.",
                ConfigurationError,
            )
        case "permission":
            return f"The API key may not do this.{api_message}", ConfigurationError
        case "billing":
            return (
                f"The account behind the API key cannot pay.{api_message} Check the billing page of the Console.",
                ConfigurationError,
            )
        case "spend_limit":
            return (
                f"The spend limit of this organization is reached.{api_message} Raise it in the Console.",
                ConfigurationError,
            )
        case "not_found" if "file" in api_message.lower():
            return (
                f"A file is not, or no longer, at Anthropic.{api_message} Name it anew in files, in a new thread.",
                RequestError,
            )
        case "not_found":
            return (
                f"The Messages API does not know what was asked for.{api_message} Check the model's name.",
                RequestError,
            )
        case "too_large":
            return "The request is larger than the Messages API takes (32 MB). Send less.", RequestError
        case _:
            return f"The Messages API refused the request.{api_message}", RequestError


def _from_connection_error(error: Exception) -> CallError:
    """A connection that failed, by the cause beneath it. The cause's own words stay here: they may hold a key."""
    for cause in _cause_chain(error):
        match cause:
            case socket.gaierror():
                return ConfigurationError(
                    "The host of the base URL is not known (DNS). Check MCP_CLAUDE_BASE_URL and the network.",
                    kind="dns",
                )
            case ssl.SSLError():
                return ConfigurationError(
                    "The TLS connection to the base URL was refused (certificate or protocol). Check the URL, the "
                    "proxy and the trusted certificates.",
                    kind="tls",
                )
            case ConnectionRefusedError():
                return TemporaryError(
                    "Nothing listens at the base URL: the connection was refused.", kind="connection_refused"
                )
            case _ if type(cause).__name__ in {"LocalProtocolError", "UnsupportedProtocol", "InvalidURL"}:
                return ConfigurationError(
                    "The request could not be sent: the key, an extra header or the base URL holds characters that "
                    "HTTP does not allow.",
                    kind="malformed_key",
                )
            case _:
                pass
    return TemporaryError("The connection to the Messages API was lost. Try again.", kind="connection")


def _cause_chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
