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

from mcp_server_claude.errors import Failure, Misconfigured, Refused, Unavailable
from mcp_server_claude.redaction import scrub

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anthropic import APIStatusError


SPEND = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached"}
)
OVERLOADED, RATE_LIMITED, TOO_LARGE = 529, 429, 413
STREAMS = ("text/event-stream", "application/vnd.amazon.eventstream")

LONG = re.compile(r"(?:prompt|input) is too long|exceeds? (?:the )?context", re.IGNORECASE)
"""`prompt is too long: 215000 tokens > 200000 maximum`; `input length and max_tokens exceed context limit: 197202 +
8192 > 200000`; Amazon's `Input is too long for requested model.`"""
OVER = re.compile(r"(\d[\d,]*)(?: tokens)?(?: \+ (\d[\d,]*))? > (\d[\d,]*)")
TOO_LONG = "The prompt is longer than the model takes. Send less."

BY_TYPE: dict[str, str] = {
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
BY_STATUS: dict[int, str] = {
    400: "invalid_request",
    401: "authentication",
    402: "billing",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    TOO_LARGE: "too_large",
    422: "invalid_request",
    RATE_LIMITED: "rate_limit",
    504: "timeout",
    OVERLOADED: "overloaded",
}


def translate(error: Exception) -> Failure | None:
    """The failure that an exception of the SDK, of its HTTP layer or of its parser stands for; None for a bug."""
    import anthropic
    import httpx2

    match error:
        case Failure():
            return error
        case anthropic.APIStatusError():
            return _status(error)
        case anthropic.APITimeoutError() | httpx2.TimeoutException():
            return Unavailable("The Messages API did not answer in time. Try again.", kind="timeout")
        case anthropic.APIConnectionError() | httpx2.TransportError():
            return _connection(error)
        case anthropic.CredentialsError():
            return Misconfigured(
                "The SDK's credentials could not be used; `mcp-server-claude doctor` says more.", kind="authentication"
            )
        case anthropic.APIResponseValidationError() | ValueError() | LookupError() | AssertionError():
            return Unavailable(
                "What came back is not a valid stream of the Messages API. Try again, and if it stays so check the "
                "base URL.",
                kind="protocol",
            )
        case httpx2.HTTPError() | httpx2.StreamError() | httpx2.InvalidURL():
            return Unavailable("The connection to the Messages API failed. Try again.", kind="connection")
        case _:
            return None


def check_stream(status: int, headers: Mapping[str, str]) -> None:
    """Look whether a response is an event stream at all: the API's own kind, or Amazon's.

    Raises:
        Misconfigured: It is not: a captive portal, a proxy's page, a gateway that cannot stream.
    """
    content_type = headers.get("content-type", "")
    if content_type.startswith(STREAMS):
        return
    what = content_type.partition(";")[0].strip()[:60] or "nothing"
    raise Misconfigured(
        f"The base URL answered with {what} instead of an event stream (HTTP {status}): it is not a Messages API that "
        "streams. Check MCP_CLAUDE_BASE_URL, and any proxy in between.",
        kind="protocol",
        status=status,
        request_id=request_id(headers),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The id that support asks for, the API's or Amazon's."""
    return headers.get("request-id") or headers.get("x-amzn-requestid")


def quoted(error: Exception) -> str:
    """What the API says of an error, as a sentence after a space; empty where it says nothing."""
    import anthropic

    if not isinstance(error, anthropic.APIStatusError):
        return ""
    given: object = error.body
    body = cast("dict[str, object]", given) if isinstance(given, dict) else {}
    # Gateways send other shapes, and so does Amazon: {"message": …}, or {"Message": …} where it refuses a signature.
    found = next((each for each in (error.api_message, body.get("message"), body.get("Message")) if each), "")
    # Where Amazon refuses a signature it goes on to show what was to be signed, a session's token included.
    said = scrub(found.partition("The Canonical String")[0]) if isinstance(found, str) else ""
    return f" The API says: {said}{'' if said.endswith(('.', '!', '?', '…')) else '.'}" if said else ""


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the API asks to wait: `retry-after-ms`, `retry-after` in seconds, or as an HTTP date (RFC 9110)."""
    milliseconds, value = _number(headers.get("retry-after-ms")), headers.get("retry-after")
    seconds = _number(value) if milliseconds is None else milliseconds / 1000
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


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _status(error: APIStatusError) -> Failure:
    """A status before the stream, or an `error` event within it (status 200: only its type counts)."""
    status = error.status_code
    in_stream = status < 400
    named = str(error.type or error.response.headers.get("x-amzn-errortype", "").partition(":")[0])
    kind = BY_TYPE.get(named.lower(), "api_error" if in_stream else BY_STATUS.get(status, ""))
    if not kind or (not in_stream and status >= 500 and kind == "invalid_request"):
        kind = "api_error" if status >= 500 or in_stream else "invalid_request"
    if error.error_code in SPEND:
        kind = "spend_limit"
    said = quoted(error)
    wait = retry_after(error.response.headers)
    url = error.request.url  # may hold a password, which is nobody's business
    message, family = _sentence(kind, said, wait, f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}")
    if 300 <= status < 400:
        message, family = "The base URL answers with a redirect. Give the address that it leads to.", Misconfigured
        kind = "protocol"
    if kind in {"invalid_request", "too_large"} and (long := _too_long(said)):
        message, family, kind = long, Refused, "too_long"
    found = request_id(error.response.headers)
    failure = family(message, kind=kind, retry_after_s=wait, request_id=found, status=status)
    failure.should_retry = _should_retry(error.response.headers)
    return failure


def _too_long(said: str) -> str:
    """By how much a prompt is too long, where the API says that it is; empty where it says something else."""
    if not LONG.search(said):
        return ""
    found = OVER.search(said)
    if found is None:
        return TOO_LONG
    tokens, answer, most = (int((each or "0").replace(",", "")) for each in found.groups())
    asked = f"{tokens:,} tokens" + (f", with {answer:,} for the answer" if answer else "")
    over = max(0, tokens + answer - most)
    return f"The prompt is too long: {asked}, {over:,} more than the {most:,} that the model takes. Send less."


def _should_retry(headers: Mapping[str, str]) -> bool | None:
    """The API's own advice, which outranks every rule of ours."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())


def _sentence(kind: str, said: str, wait: float | None, base_url: str) -> tuple[str, type[Failure]]:
    later = f" Try again in {wait:.0f} s." if wait is not None else " Try again in a moment."
    match kind:
        case "overloaded":
            return f"Claude is overloaded right now.{later}", Unavailable
        case "rate_limit":
            return f"The rate limit of this API key is reached.{later}{said}", Unavailable
        case "timeout":
            return f"The Messages API took too long and gave up.{later}", Unavailable
        case "api_error" | "conflict":
            return f"The Messages API had an internal fault.{later}{said}", Unavailable
        case "authentication":
            return (
                f"{base_url} does not accept the API key. Check the key that `mcp-server-claude doctor` names.",
                Misconfigured,
            )
        case "permission":
            return f"The API key may not do this.{said}", Misconfigured
        case "billing":
            return (
                f"The account behind the API key cannot pay.{said} Check the billing page of the Console.",
                Misconfigured,
            )
        case "spend_limit":
            return f"The spend limit of this organization is reached.{said} Raise it in the Console.", Misconfigured
        case "not_found" if "file" in said.lower():
            return f"A file is not, or no longer, at Anthropic.{said} Name it anew in files, in a new thread.", Refused
        case "not_found":
            return f"The Messages API does not know what was asked for.{said} Check the model's name.", Refused
        case "too_large":
            return "The request is larger than the Messages API takes (32 MB). Send less.", Refused
        case _:
            return f"The Messages API refused the request.{said}", Refused


def _connection(error: Exception) -> Failure:
    """A connection that failed, by the cause beneath it. The cause's own words stay here: they may hold a key."""
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return Misconfigured(
                    "The host of the base URL is not known (DNS). Check MCP_CLAUDE_BASE_URL and the network.",
                    kind="dns",
                )
            case ssl.SSLError():
                return Misconfigured(
                    "The TLS connection to the base URL was refused (certificate or protocol). Check the URL, the "
                    "proxy and the trusted certificates.",
                    kind="tls",
                )
            case ConnectionRefusedError():
                return Unavailable("Nothing listens at the base URL: the connection was refused.", kind="refused")
            case _ if type(cause).__name__ in {"LocalProtocolError", "UnsupportedProtocol", "InvalidURL"}:
                return Misconfigured(
                    "The request could not be sent: the key, an extra header or the base URL holds characters that "
                    "HTTP does not allow.",
                    kind="malformed_key",
                )
            case _:
                pass
    return Unavailable("The connection to the Messages API was lost. Try again.", kind="connection")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
