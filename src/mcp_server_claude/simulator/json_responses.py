"""Responses that are sent in one piece: JSON, refusals, whole messages, and answers that are no answers."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import sse_format
from mcp_server_claude.simulator.api_errors import ERROR_MESSAGES, ERROR_TYPES, ApiError
from mcp_server_claude.simulator.json_body import as_object
from mcp_server_claude.simulator.token_counting import token_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.simulator.event_plan import EventPlan
    from mcp_server_claude.simulator.http_connection import ClientConnection
    from mcp_server_claude.simulator.json_body import Object
    from mcp_server_claude.simulator.prompt_directives import Directive
    from mcp_server_claude.simulator.request_log import LoggedRequest
    from mcp_server_claude.simulator.stream_player import StreamTiming
    from mcp_server_claude.simulator.token_counting import InputUsage

ORGANIZATION_ID = "5f0c8d1e-0000-4000-8000-73696d756c61"
LOGIN_PAGE = b"<!doctype html><title>Sign in</title><h1>Welcome to the network</h1><p>Please sign in to go on.</p>"
JSON_HEADERS = {"content-type": "application/json"}


def response_headers(record: LoggedRequest) -> dict[str, str]:
    """The headers of every `/v1/*` response, with the rate limits where a model answers."""
    return {
        "request-id": record.request_id,
        "anthropic-organization-id": ORGANIZATION_ID,
        **record.rate_limit_headers,
    }


def send_json(payload: Object, record: LoggedRequest, connection: ClientConnection) -> None:
    """Send JSON."""
    send_json_bytes(sse_format.json_bytes(payload), record, connection)


def send_json_bytes(
    payload: bytes,
    record: LoggedRequest,
    connection: ClientConnection,
    extra_headers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Send JSON that is encoded already."""
    send_file(payload, JSON_HEADERS["content-type"], record, connection, extra_headers)


def send_file(
    data: bytes,
    content_type: str,
    record: LoggedRequest,
    connection: ClientConnection,
    extra_headers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Send a file."""
    record.status = 200
    record.record_first_byte()
    headers = response_headers(record) | {"content-type": content_type} | dict(extra_headers)
    connection.send_response(200, headers, data)
    record.record_end("complete")


def send_error(
    api_error: ApiError, record: LoggedRequest, connection: ClientConnection, extra_headers: Mapping[str, str]
) -> None:
    """Send an error; `extra_headers` win."""
    retry = "true" if api_error.status in {408, 409, 429} or api_error.status >= 500 else "false"
    record.status, record.error_message = api_error.status, api_error.message
    record.record_first_byte()
    body = sse_format.json_bytes(api_error.response_body(record.request_id))
    wait = {} if api_error.retry_after_s is None else {"retry-after": str(api_error.retry_after_s)}
    connection.send_response(
        api_error.status,
        response_headers(record) | JSON_HEADERS | {"x-should-retry": retry} | wait | dict(extra_headers),
        body,
    )
    record.record_end("complete")


def send_wrong_content(directive: Directive, record: LoggedRequest, connection: ClientConnection) -> bool:
    """Send a page, nothing or a redirect, when that is the fault."""
    status, body = 200, b""
    found = response_headers(record)
    match directive.fault:
        case "html":
            body = LOGIN_PAGE
            found["content-type"] = "text/html; charset=utf-8"
        case "empty":
            found["content-type"] = "text/event-stream; charset=utf-8"
        case "redirect":
            status = 302
            found["location"] = "/login"
        case _:
            return False
    record.status = status
    record.record_first_byte()
    connection.send_response(status, found, body)
    record.record_end(f"fault:{directive.fault}")
    return True


async def send_message(
    plan: EventPlan,
    input_usage: InputUsage,
    record: LoggedRequest,
    connection: ClientConnection,
    directive: Directive,
    timing: StreamTiming,
) -> None:
    """Send a message in one piece; faults of streams become the nearest thing that can happen to it."""
    chars = sum(step.thinking_chars + step.visible_chars for step in plan.steps)
    await asyncio.sleep(timing.ttft_s + (token_count(chars) / timing.tokens_per_s if timing.tokens_per_s else 0))
    body = sse_format.json_bytes(plan.message)
    match directive.fault:
        case "stall" | "noevents":
            await asyncio.Event().wait()
        case "error":
            kind = directive.type or "overloaded_error"
            status = next((status for status, name in ERROR_TYPES.items() if name == kind), 500)
            record.end = "fault:error"
            send_error(
                ApiError(status=status, type=kind, message=ERROR_MESSAGES.get(kind, kind)), record, connection, {}
            )
            return
        case "drop" | "fin" | "eof":
            await _send_half_body(body, record, connection, directive)
            return
        case "malformed":
            record.end = "fault:malformed"
            body = body[:-9]
        case "badutf8":
            record.end = "fault:badutf8"
            body = body[:-2] + b'\xff"}'
        case _:
            pass
    record.status = 200
    record.record_first_byte()
    record.record_message(plan, input_usage)
    connection.send_response(200, response_headers(record) | JSON_HEADERS, body)
    record.record_end(
        "fault:json" if directive.fault == "json" and as_object(record.body).get("stream") is True else "complete"
    )


async def _send_half_body(
    body: bytes, record: LoggedRequest, connection: ClientConnection, directive: Directive
) -> None:
    """Half a body, or not even a head, and the socket is closed."""
    if directive.at != "headers":
        record.status = 200
        record.record_first_byte()
        connection.send_head(200, response_headers(record) | JSON_HEADERS | {"content-length": str(len(body))})
        connection.write(body[: len(body) // 2])
        await connection.flush()
    record.record_end(f"fault:{directive.fault}")
    if directive.fault == "drop":
        connection.reset()
    else:
        connection.close()
