"""Classification of upstream errors: each becomes one of three call errors with a sentence that says what to do.

The tables follow the SDK's exception tree and its behaviour in mid-stream (2.14): an `error` event arrives as an
`APIStatusError` of status 200, a lost socket as a bare `httpx2.TransportError`, malformed data as `ValueError`,
`LookupError` or `AssertionError`. No exception of the SDK leaves this package, and no text of one is repeated unless
the API wrote it for the reader: the SDK's own text may hold a key (an illegal header does).
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, cast

from mcp_server_claude.anthropic_api.response_headers import request_id_from, retry_advice, retry_after_seconds
from mcp_server_claude.anthropic_api.stream_usage import as_object
from mcp_server_claude.errors import CallError, ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.redaction import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anthropic import APIStatusError


SPEND_LIMIT_CODES = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached"}
)
SPEND_LIMIT_PATTERN = re.compile(r"reached your (?:specified )?(?:workspace )?API usage limits", re.IGNORECASE)
"""A spend limit that the user set is a 400 `invalid_request_error` "You have reached your specified [workspace] API
usage limits…", the monthly threshold a 429 "You have reached your API usage limits: …" without `retry-after`
(platform.claude.com/docs/en/api/rate-limits, as documented by November 2026)."""
LOW_CREDIT_PATTERN = re.compile(r"credit balance is too low", re.IGNORECASE)
"""An empty account is a 400 `invalid_request_error` too (support.claude.com, "credit balance is too low")."""
THINKING_SIGNATURE_PATTERN = re.compile(
    r"invalid `?signature`? in `?(?:redacted_)?thinking`?|bound to a different (?:conversation|model|organization)",
    re.IGNORECASE,
)
"""A thinking block that is bound to another conversation, model or account, or that was altered
(platform.claude.com/docs/en/build-with-claude/preserved-thinking, as documented by November 2026)."""
SCHEMA_PATTERN = re.compile(r"too complex for compilation|compiled grammar (?:is )?too large", re.IGNORECASE)
"""A JSON Schema beyond the API's grammar (platform.claude.com/docs, "Structured outputs", 2026-08-22)."""
SCHEMA_CITATIONS_PATTERN = re.compile(
    r"(?:structured outputs?|output_format|output_config\b).{0,200}citations|citations.{0,200}structured outputs?",
    re.IGNORECASE,
)
"""A JSON Schema beside citations, which the API refuses (platform.claude.com/docs, "Structured outputs")."""
URL_PATTERN = re.compile(r"(?:unable|failed) to (?:download|fetch)|could not (?:be )?(?:download|fetch)", re.IGNORECASE)
"""A URL whose content the API could not fetch: `Unable to download the file. Please verify the URL and try again.`"""
TOO_LONG_PATTERN = re.compile(r"(?:prompt|input) is too long|exceeds? (?:the )?context", re.IGNORECASE)
"""`prompt is too long: 215000 tokens > 200000 maximum`; `input length and max_tokens exceed context limit: 197202 +
8192 > 200000`; Amazon's `Input is too long for requested model.`"""
TOKEN_OVERFLOW_PATTERN = re.compile(r"(\d[\d,]*)(?: tokens)?(?: \+ (\d[\d,]*))? > (\d[\d,]*)")
TOO_LONG_MESSAGE = "The prompt is longer than the model takes. Send less."
MAX_SIGNATURE_MESSAGE_CHARS = 2_000
"""Characters of the API's message on a thinking signature: its last sentence names what changed."""
HTTP_NOT_FOUND, HTTP_TOO_LARGE, HTTP_RATE_LIMIT, HTTP_OVERLOADED = 404, 413, 429, 529
UNSENDABLE_ERRORS = frozenset({"LocalProtocolError", "UnsupportedProtocol", "InvalidURL"})
"""Exceptions of the HTTP libraries for a request that they do not send, by name, since these are not imported."""

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
    HTTP_NOT_FOUND: "not_found",
    408: "timeout",
    409: "conflict",
    HTTP_TOO_LARGE: "too_large",
    422: "invalid_request",
    HTTP_RATE_LIMIT: "rate_limit",
    504: "timeout",
    HTTP_OVERLOADED: "overloaded",
}


def to_call_error(error: Exception) -> CallError | None:
    """The call error for an exception of the SDK, of its HTTP layer or of its parser; None for a bug."""
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
        case httpx2.InvalidURL():
            return ConfigurationError(
                "The base URL is not one that a request can be sent to. Check MCP_CLAUDE_BASE_URL.", kind="base_url"
            )
        case anthropic.APIResponseValidationError() | ValueError() | LookupError() | AssertionError():
            return TemporaryError(
                "The response is not a valid stream of the Messages API. Try again; if the error persists, check the "
                "base URL.",
                kind="protocol",
            )
        case httpx2.HTTPError() | httpx2.StreamError():
            return TemporaryError("The connection to the Messages API failed. Try again.", kind="connection")
        case _:
            return None


def api_message_sentence(error: Exception) -> str:
    """The API's own message as a sentence after a space; empty where the response has none."""
    import anthropic

    if not isinstance(error, anthropic.APIStatusError):
        return ""
    message = _api_message(error)
    limit = MAX_SIGNATURE_MESSAGE_CHARS if THINKING_SIGNATURE_PATTERN.search(message) else None
    text = sanitize(message) if limit is None else sanitize(message, max_chars=limit)
    return f" The API says: {text}{'' if text.endswith(('.', '!', '?', '…')) else '.'}" if text else ""


def _api_message(error: APIStatusError) -> str:
    """The message in the response's body, unsanitized; empty where it has none."""
    body = as_object(error.body)
    # Gateways send other shapes, and so does Amazon: {"message": …}, or {"Message": …} where it refuses a signature.
    message = next((each for each in (error.api_message, body.get("message"), body.get("Message")) if each), "")
    # Amazon's error for a bad signature quotes the text that was to be signed, with the session's token.
    return message.partition("The Canonical String")[0] if isinstance(message, str) else ""


def _from_status(error: APIStatusError) -> CallError:
    """The call error for an HTTP status, or for an `error` event within the stream (status 200: its type decides)."""
    status, headers = error.status_code, error.response.headers
    kind = _refine_kind(error, _kind_of(error))
    message, error_class = _message_and_class(error, kind)
    return error_class(
        message,
        kind=kind,
        retry_after_s=retry_after_seconds(headers),
        request_id=request_id_from(headers),
        status=status,
        should_retry=retry_advice(headers),
    )


def _kind_of(error: APIStatusError) -> str:
    """The kind by the error's type, else by its status."""
    status = error.status_code
    is_in_stream = status < 300
    error_type = str(error.type or error.response.headers.get("x-amzn-errortype", "").partition(":")[0])
    kind = KIND_BY_ERROR_TYPE.get(error_type.lower(), "api_error" if is_in_stream else KIND_BY_STATUS.get(status, ""))
    if 300 <= status < 400:
        return "protocol"
    if not kind or (status >= 500 and kind == "invalid_request"):
        return "api_error" if status >= 500 or is_in_stream else "invalid_request"
    return kind


def _refine_kind(error: APIStatusError, kind: str) -> str:
    """The kind by the error's code and message, which say more than its type."""
    message = _api_message(error)
    if error.error_code in SPEND_LIMIT_CODES:
        return "spend_limit"
    if kind in {"invalid_request", "rate_limit"} and SPEND_LIMIT_PATTERN.search(message):
        return "spend_limit"
    if error.status_code == HTTP_NOT_FOUND and kind in {"not_found", "invalid_request"} and _is_missing_route(error):
        return "base_url"
    if kind not in {"invalid_request", "too_large"}:
        return kind
    if error.error_code == "image_dimensions_too_large":
        return "image_dimensions_too_large"
    patterns = {
        "thinking_signature": THINKING_SIGNATURE_PATTERN,
        "billing": LOW_CREDIT_PATTERN,
        "schema_too_complex": SCHEMA_PATTERN,
        "schema_with_citations": SCHEMA_CITATIONS_PATTERN,
        "too_long": TOO_LONG_PATTERN,
        "url_unavailable": URL_PATTERN,
    }
    return next((refined for refined, pattern in patterns.items() if pattern.search(message)), kind)


def _is_missing_route(error: APIStatusError) -> bool:
    """True if a 404 is about the address and not about a model or a file.

    The API and the clouds name what is missing in an error object; a web server that has no such route answers with a
    page, with nothing, with `{"detail": "Not Found"}`, or repeats the path.
    """
    if error.response.headers.get("x-amzn-requestid") or error.error_code:
        return False
    path = error.request.url.path
    message = _api_message(error)
    return not isinstance(as_object(error.body).get("error"), dict) or not message or path in message


def _message_and_class(error: APIStatusError, kind: str) -> tuple[str, type[CallError]]:
    """The sentence for the reader and the class of the error."""
    api_message = api_message_sentence(error)
    retry_after_s = retry_after_seconds(error.response.headers)
    later = f" Try again in {retry_after_s:.0f} s." if (retry_after_s or 0) >= 1 else " Try again in a moment."
    match kind:
        case "overloaded":
            return f"Claude is overloaded right now.{later}", TemporaryError
        case "rate_limit":
            return f"The rate limit of this API key is reached.{later}{api_message}", TemporaryError
        case "timeout":
            return f"The Messages API took too long and gave up.{later}", TemporaryError
        case "api_error" | "conflict":
            return f"The Messages API had an internal error.{later}{api_message}", TemporaryError
        case "authentication" | "permission" | "billing" | "spend_limit" | "base_url" | "protocol":
            return _operator_message(error, kind, api_message), ConfigurationError
        case _:
            return _request_message(error, kind, api_message), RequestError


def _operator_message(error: APIStatusError, kind: str, api_message: str) -> str:
    """The sentence for an error that only the operator can fix."""
    url = error.request.url
    base_url = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"  # without userinfo, which may be a password
    match kind:
        case "authentication":
            return f"{base_url} does not accept the API key. Check the key that `mcp-server-claude doctor` names."
        case "permission":
            return f"The API key has no permission for this.{api_message}"
        case "billing":
            return f"The account behind the API key cannot pay.{api_message} Check the billing page of the Console."
        case "spend_limit":
            return f"The spend limit of this organization is reached.{api_message} Raise it in the Console."
        case "base_url":
            return (
                f"{base_url} has no Messages API at {sanitize(url.path)} (HTTP 404). Check MCP_CLAUDE_BASE_URL: it is "
                "the address before /v1/messages, with the gateway's path prefix if there is one."
            )
        case _:
            return "The base URL answers with a redirect. Set MCP_CLAUDE_BASE_URL to the address that it leads to."


def _request_message(error: APIStatusError, kind: str, api_message: str) -> str:
    """The sentence for an error that the caller can fix."""
    match kind:
        case "not_found" if "file" in api_message.lower():
            return (
                f"Anthropic has no such file, or it was deleted.{api_message} Name it again in files, in a new thread."
            )
        case "not_found":
            return f"The Messages API does not know the model or resource.{api_message} Check the model's name."
        case "too_large":
            return "The request is larger than the Messages API takes (32 MB). Send less."
        case "too_long":
            return _too_long_message(api_message)
        case "url_unavailable":
            return (
                f"Anthropic could not fetch a URL of the request.{api_message} Check the URL, or send the file itself."
            )
        case "image_dimensions_too_large":
            return _image_message(error)
        case "thinking_signature":
            return f"The Messages API does not accept the thread's earlier thinking.{api_message}"
        case "schema_with_citations":
            return f"The Messages API does not allow a schema together with citations.{api_message} Ask without tools."
        case "schema_too_complex":
            return f"The schema is too complex for the Messages API.{api_message} Use fewer optional properties."
        case _:
            return f"The Messages API refused the request.{api_message}"


def _too_long_message(api_message: str) -> str:
    """The sentence for a prompt that is too long, with the number of excess tokens where the API gives it."""
    match = TOKEN_OVERFLOW_PATTERN.search(api_message)
    if match is None:
        return TOO_LONG_MESSAGE
    prompt, answer, limit = (int((each or "0").replace(",", "")) for each in match.groups())
    size = f"{prompt:,} tokens" + (f", with {answer:,} for the answer" if answer else "")
    excess = max(0, prompt + answer - limit)
    return f"The prompt is too long: {size}, {excess:,} more than the {limit:,} that the model takes. Send less."


def _image_message(error: APIStatusError) -> str:
    """The sentence for images that are too large, with the limit and the places of the images.

    The details are those of `anthropic.types.ImageDimensionsTooLargeErrorDetails` (SDK 2.14).
    """
    details = as_object(as_object(as_object(error.body).get("error")).get("details"))
    limit, paths = details.get("max_side_length_pixels"), details.get("paths")
    side = f"{limit:,} pixels" if isinstance(limit, int) else "the limit"
    places = (
        [sanitize(path) for path in cast("list[object]", paths) if isinstance(path, str)]
        if isinstance(paths, list)
        else []
    )
    listed_places = f" ({', '.join(places[:5])}{', …' if len(places) > 5 else ''})" if places else ""
    count = f"{len(places)} images are" if len(places) > 1 else "An image is"
    return (
        f"{count} larger than {side} on a side{listed_places}. Scale down, or send fewer: more than 20 lower the limit."
    )


def _from_connection_error(error: Exception) -> CallError:
    """The call error for a connection that failed, by the cause beneath it. The cause's text may hold a key."""
    for cause in _cause_chain(error):
        match cause:
            case CallError():  # raised while the SDK read the response
                return cause
            case socket.gaierror():
                return ConfigurationError(
                    "The host of the base URL is not known (DNS). Check MCP_CLAUDE_BASE_URL and the network.",
                    kind="dns",
                )
            case ssl.SSLCertVerificationError():
                return ConfigurationError(
                    "The certificate of the base URL is not trusted. For a private certificate authority, or a proxy "
                    "that inspects TLS, set SSL_CERT_FILE to a file with its certificate.",
                    kind="tls",
                )
            # asyncio raises a bare ConnectionResetError when the other end closes the connection during the TLS
            # handshake.
            case ssl.SSLError() | ConnectionResetError() if isinstance(cause, ssl.SSLError) or not cause.args:
                return ConfigurationError(
                    "The TLS connection to the base URL failed. Check the URL (https:// for a port that speaks HTTP?) "
                    "and any proxy in between.",
                    kind="tls",
                )
            case ConnectionRefusedError():
                return TemporaryError(
                    "Nothing listens at the base URL: the connection was refused.", kind="connection_refused"
                )
            # aiohttp raises a bare ValueError for a header that it does not send; the SDK wraps it in its own error.
            case _ if type(cause).__name__ in UNSENDABLE_ERRORS or (
                isinstance(cause, ValueError) and cause is error.__cause__
            ):
                return ConfigurationError(
                    "The request could not be sent: the key, an extra header or the base URL holds characters that "
                    "HTTP does not allow.",
                    kind="malformed_key",
                )
            case _:
                pass
    return TemporaryError("The connection to the Messages API was lost. Try again.", kind="connection")


def _cause_chain(error: BaseException | None) -> Iterator[BaseException]:
    depth = 0
    while error is not None and depth < 10:
        yield error
        error, depth = error.__cause__ or error.__context__, depth + 1
