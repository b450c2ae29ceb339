"""The headers of a response: its content type, the request id, and the advice on retrying."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.redaction import printable, sanitize

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RETRY_AFTER_S = 86_400.0
"""Seconds that a response can ask to wait; a longer wait says no more than that it is long."""
MAX_REQUEST_ID_CHARS = 200
STREAM_CONTENT_TYPES = ("text/event-stream", "application/vnd.amazon.eventstream")


def media_type(headers: Mapping[str, str]) -> str:
    """The media type of a response in lower case (RFC 9110, 8.3.1), without parameters; empty without one."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_content_type(status: int, headers: Mapping[str, str]) -> None:
    """Check that a response is an event stream: the API's own kind, or Amazon's.

    Raises:
        ConfigurationError: It is something else, such as a captive portal, a proxy's error page, or the response of a
            gateway that cannot stream.
    """
    if media_type(headers) in STREAM_CONTENT_TYPES:
        return
    content_type = sanitize(media_type(headers))[:60] or "nothing"
    raise ConfigurationError(
        f"The base URL answered with {content_type} instead of an event stream (HTTP {status}): it is not a Messages "
        "API that streams. Check MCP_CLAUDE_BASE_URL, and any proxy in between.",
        kind="protocol",
        status=status,
        request_id=request_id_from(headers),
    )


def request_id_from(headers: Mapping[str, str]) -> str | None:
    """The request id that support asks for, the API's or Amazon's."""
    value = headers.get("request-id") or headers.get("x-amzn-requestid") or ""
    return printable(value[:MAX_REQUEST_ID_CHARS]) or None


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date, RFC 9110); None without either.

    Never more than `MAX_RETRY_AFTER_S`. A wait of 0 says nothing: then the backoff of the caller holds. A date is
    compared with that of the response, since the clock of this machine may differ from the API's.
    """
    milliseconds, value = _finite_number(headers.get("retry-after-ms")), headers.get("retry-after")
    seconds = milliseconds / 1000 if milliseconds else _finite_number(value)
    if seconds is None and value is not None:
        seconds = _seconds_between(_http_date(headers.get("date", "")) or now or datetime.now(UTC), value)
    return min(seconds, MAX_RETRY_AFTER_S) if seconds is not None and seconds > 0 else None


def response_time(headers: Mapping[str, str]) -> float | None:
    """The time of a response by the clock of its sender, in unix seconds (RFC 9110, 6.6.1); None without a date."""
    date = _http_date(headers.get("date", ""))
    return None if date is None else date.timestamp()


def retry_advice(headers: Mapping[str, str]) -> bool | None:
    """The API's own advice on retrying, which outranks every rule of ours; None without any."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())


def _seconds_between(now: datetime, date: str) -> float | None:
    at = _http_date(date)
    return None if at is None else (at - now).total_seconds()


def _http_date(date: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _finite_number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
