"""Errors as HTTP responses: a status by kind, and JSON with a sentence and the fields of the error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mcp_server_claude.errors import CallError, ConfigurationError, RequestError, local_resource_error
from mcp_server_claude.server.validation_messages import validation_message
from mcp_server_claude.web.auth.oauth_hint import is_authorization_server_path, no_authorization_server
from mcp_server_claude.web.error_text import error_text
from mcp_server_claude.web.route_dependencies import app_state, reader_role

if TYPE_CHECKING:
    from fastapi import Request

    from mcp_server_claude.users.user import Role

STATUS_BY_KIND = {
    "not_found": 404,
    "unknown_model": 404,
    "too_large": 413,
    "forbidden": 403,
    "body_timeout": 408,
    "budget": 402,
    "max_usd": 402,
    "confirmation": 402,
    "rate_limit": 429,
    "user_rate_limit": 429,
    "user_concurrency": 429,
    "thread_busy": 409,
    "conflict": 409,
    "unauthorized": 401,
    "wrong_host": 421,
    "media_type": 415,
    "store": 503,
}
"""For other kinds: 400 for errors of the request, 500 for those of the configuration, 503 for temporary ones."""


def http_status(failure: CallError) -> int:
    """The HTTP status of an error."""
    if isinstance(failure, RequestError):
        return STATUS_BY_KIND.get(failure.kind, 400)
    return STATUS_BY_KIND.get(failure.kind, 500 if isinstance(failure, ConfigurationError) else 503)


def error_json(failure: CallError, role: Role = "operator") -> dict[str, object]:
    """The JSON of an error, in a response and in an `error` event: `text` for a person, the rest for a program."""
    return {"text": error_text(failure, role), **failure.as_json()}


def error_response(failure: CallError, *, status: int | None = None, role: Role = "operator") -> JSONResponse:
    """The response to a request that failed; `status` overrides that of the kind."""
    headers = {"Cache-Control": "no-store"}
    if failure.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(failure.retry_after_s))
    return JSONResponse({"error": error_json(failure, role)}, status or http_status(failure), headers)


async def handle_call_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for every `CallError` that leaves a route."""
    assert isinstance(error, CallError)  # noqa: S101 - registered for this class alone
    return error_response(error, role=reader_role(request))


async def handle_local_resource_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for an exception that says that memory, threads, files or disk space ran out.

    Raises:
        Exception: It says something else, and is a bug.
    """
    failure = local_resource_error(error)
    if failure is None:
        raise error
    return error_response(failure, role=reader_role(request))


TEXT_BY_STATUS = {
    400: "The body is not JSON.",
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
}
"""The errors that the framework raises before a route is called."""


async def handle_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for requests without a route: an unknown path, or a method that the path does not support."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    if error.status_code == 404 and is_authorization_server_path(request.url.path):
        return error_response(no_authorization_server(app_state(request).services.settings))
    kind = "not_found" if error.status_code == 404 else "invalid_request"
    text = TEXT_BY_STATUS.get(error.status_code, f"{error.detail}.")
    return JSONResponse({"error": error_json(RequestError(text, kind=kind))}, error.status_code, error.headers)


async def handle_validation_error(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for requests of the wrong shape: names the fields, never their values."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    return error_response(RequestError(validation_message(error.errors())), status=422)
