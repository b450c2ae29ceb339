"""Responses that are sent in one piece: JSON, refusals, whole messages, and answers that are no answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import sse_format
from mcp_server_claude.simulator.api_errors import MESSAGES, TYPES, Problem
from mcp_server_claude.simulator.json_body import obj, text
from mcp_server_claude.simulator.token_counting import tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.simulator.event_plan import Script
    from mcp_server_claude.simulator.http_connection import Connection
    from mcp_server_claude.simulator.json_body import Object
    from mcp_server_claude.simulator.prompt_directives import Directive
    from mcp_server_claude.simulator.request_log import Record
    from mcp_server_claude.simulator.stream_player import Tempo
    from mcp_server_claude.simulator.token_counting import Input

ORGANIZATION = "5f0c8d1e-0000-4000-8000-73696d756c61"
HTML = b"<!doctype html><title>Sign in</title><h1>Welcome to the network</h1><p>Please sign in to go on.</p>"
LIMITS = {"requests": 4000, "tokens": 2_800_000, "input-tokens": 2_000_000, "output-tokens": 800_000}
JSON_TYPE = {"content-type": "application/json"}


def headers(record: Record) -> dict[str, str]:
    """The headers of every `/v1/*` response."""
    reset = (datetime.now(UTC) + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = {"request-id": record.request_id, "anthropic-organization-id": ORGANIZATION}
    for name, limit in LIMITS.items():
        found[f"anthropic-ratelimit-{name}-limit"] = str(limit)
        found[f"anthropic-ratelimit-{name}-remaining"] = str(max(0, limit - record.sequence))
        found[f"anthropic-ratelimit-{name}-reset"] = reset
    return found


def reply(told: Object, record: Record, line: Connection) -> None:
    """Send JSON."""
    record.status = 200
    record.began()
    line.respond(200, headers(record) | JSON_TYPE, sse_format.dumps(told))
    record.ended("complete")


def send(data: bytes, kind: str, record: Record, line: Connection) -> None:
    """Send a file."""
    record.status = 200
    record.began()
    line.respond(200, headers(record) | {"content-type": kind}, data)
    record.ended("complete")


def refuse(problem: Problem, record: Record, line: Connection, more: Mapping[str, str]) -> None:
    """Send an error; `more` headers win."""
    retry = "true" if problem.status in {408, 409, 429} or problem.status >= 500 else "false"
    record.status = problem.status
    record.began()
    told = sse_format.dumps(problem.as_json(record.request_id))
    line.respond(problem.status, headers(record) | JSON_TYPE | {"x-should-retry": retry} | dict(more), told)
    record.ended("complete")


def strange(chosen: Directive, record: Record, line: Connection) -> bool:
    """Send a page, nothing or a redirect, when that is the fault."""
    status, body = 200, b""
    found = headers(record)
    match chosen.fault:
        case "html":
            body = HTML
            found["content-type"] = "text/html; charset=utf-8"
        case "empty":
            found["content-type"] = "text/event-stream; charset=utf-8"
        case "redirect":
            status = 302
            found["location"] = "/login"
        case _:
            return False
    record.status = status
    record.began()
    line.respond(status, found, body)
    record.ended(f"fault:{chosen.fault}")
    return True


async def whole(script: Script, used: Input, record: Record, line: Connection, chosen: Directive, tempo: Tempo) -> None:
    """Send a message in one piece; faults of streams become the nearest thing that can happen to it."""
    said = sum(step.thinking + step.visible for step in script.steps)
    await asyncio.sleep(tempo.ttft_s + (tokens(said) / tempo.tokens_per_s if tempo.tokens_per_s else 0))
    body = sse_format.dumps(script.message)
    match chosen.fault:
        case "stall" | "noevents":
            await asyncio.Event().wait()
        case "error":
            kind = chosen.type or "overloaded_error"
            status = next((status for status, name in TYPES.items() if name == kind), 500)
            record.end = "fault:error"
            refuse(Problem(status=status, type=kind, message=MESSAGES.get(kind, kind)), record, line, {})
            return
        case "drop" | "fin" | "eof":
            await _break_off(body, record, line, chosen)
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
    record.began()
    record.told_input(used)
    record.thinking_chars = sum(step.thinking for step in script.steps)
    record.visible_chars = sum(step.visible for step in script.steps)
    record.pieces.extend(step.text for step in script.steps if step.text)
    record.stop_reason = text(script.message["stop_reason"])
    line.respond(200, headers(record) | JSON_TYPE, body)
    record.ended("fault:json" if chosen.fault == "json" and obj(record.body).get("stream") is True else "complete")


async def _break_off(body: bytes, record: Record, line: Connection, chosen: Directive) -> None:
    """Half a body, or not even a head, and the socket is closed."""
    if chosen.at != "headers":
        record.status = 200
        record.began()
        line.head(200, headers(record) | JSON_TYPE | {"content-length": str(len(body))})
        line.write(body[: len(body) // 2])
        await line.flush()
    record.ended(f"fault:{chosen.fault}")
    if chosen.fault == "drop":
        line.reset()
    else:
        line.close()
