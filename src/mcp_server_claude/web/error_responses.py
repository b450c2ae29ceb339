"""How a failure is told over HTTP: a status that says whose turn it is, and JSON that says what to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mcp_server_claude.errors import CallError, ConfigurationError, RequestError

if TYPE_CHECKING:
    from fastapi import Request


STATUS_BY_KIND = {
    "not_found": 404,
    "unknown_model": 404,
    "too_large": 413,
    "forbidden": 403,
    "body_timeout": 408,
    "budget": 402,
    "max_usd": 402,
    "rate_limit": 429,
    "user_rate_limit": 429,
    "user_concurrency": 429,
    "thread_busy": 409,
    "conflict": 409,
    "unauthorized": 401,
    "wrong_host": 421,
    "media_type": 415,
}
"""By kind; else 400 for what the caller can mend, 500 for what the operator must, 503 for what time will."""


def http_status(failure: CallError) -> int:
    """The HTTP status of a failure."""
    if isinstance(failure, RequestError):
        return STATUS_BY_KIND.get(failure.kind, 400)
    return STATUS_BY_KIND.get(failure.kind, 500 if isinstance(failure, ConfigurationError) else 503)


def error_json(failure: CallError) -> dict[str, object]:
    """A failure as every route and every `error` event tells it: `text` for a person, the rest for a program."""
    return {"text": str(failure), **failure.as_json()}


def error_response(failure: CallError) -> JSONResponse:
    """The answer to a request that failed."""
    headers = {"Cache-Control": "no-store"}
    if failure.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(failure.retry_after_s))
    return JSONResponse({"error": error_json(failure)}, http_status(failure), headers)


async def handle_call_error(_: Request, failure: Exception) -> JSONResponse:
    """FastAPI's handler for every `CallError` that a route lets through."""
    assert isinstance(failure, CallError)  # noqa: S101 - it is registered for that class alone
    return error_response(failure)


async def handle_http_exception(_: Request, error: Exception) -> JSONResponse:
    """The handler for what has no route: an unknown path, a method that is not taken."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for that class alone
    kind = "not_found" if error.status_code == 404 else "invalid_request"
    text = "There is nothing at this address." if error.status_code == 404 else f"{error.detail}."
    return JSONResponse({"error": error_json(RequestError(text, kind=kind))}, error.status_code, error.headers)
