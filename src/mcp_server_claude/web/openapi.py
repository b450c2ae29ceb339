"""Parts of `/openapi.json` that several routes share: authentication, the event stream, errors."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

BEARER_AUTH = Security(
    HTTPBearer(
        scheme_name="token",
        auto_error=False,  # it only documents: `AuthMiddleware` authenticates
        description="The token that `mcp-server-claude user add` printed. A server without users needs none from its "
        "own machine.",
    )
)
"""A dependency that documents the bearer token of a route."""


class ErrorDetail(BaseModel):
    """An error: what went wrong, and who can fix it."""

    text: str = Field(description="One sentence for a person.")
    class_: Literal["request_error", "temporary_error", "configuration_error"] = Field(
        alias="class", description="Who can fix it: the caller, a later attempt, or the operator."
    )
    kind: str = Field(description="A short, stable name of the error.", examples=["budget"])
    retryable: bool
    retry_after_s: float | None
    request_id: str | None = Field(description="Anthropic's id of the request, if there was one.")
    approval: str = Field("", description="Only of kind `confirmation`: the token that approves the cost, once.")
    highest_usd: float | None = Field(
        None, description="Only of kind `confirmation`: the most that the request can cost; null if unknown."
    )


class ErrorBody(BaseModel):
    """The body of every error response."""

    error: ErrorDetail


STREAM_EXAMPLE = """\
id: c_6740f2a13b9c04d7:0
event: start
data:{"call": "c_6740f2a13b9c04d7", "thread": "t_5d0e8c1f2a7b9634", "model": "claude-sonnet-5-5"}

id: c_6740f2a13b9c04d7:0
event: status
data:{"state": "writing", "text": "", "until": null}

id: c_6740f2a13b9c04d7:24
data: Tea is a drink.
data: It is ho

id: c_6740f2a13b9c04d7:26
data: t.

id: c_6740f2a13b9c04d7:26
event: usage
data:{"model": "claude-sonnet-5-5", "input_tokens": 12, "output_tokens": 9, "cost_usd": 0.00017, …}

id: c_6740f2a13b9c04d7:26
event: done
data:{"complete": true, "incomplete": "", "stop_reason": "end_turn", "notes": [], "files": []}

"""
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "event": {"enum": ["message", "start", "status", "usage", "error", "done"]},
        "data": {"type": "string", "description": "Text; JSON in a named event."},
        "id": {"type": "string", "pattern": "^c_[0-9a-f]+:[0-9]+$"},
    },
    "required": ["data", "id"],
}
"""The schema of one event (OpenAPI 3.2, "Sequential Media Types"; 3.1 readers ignore it)."""
STREAM_RESPONSE: dict[str, Any] = {
    "description": "The answer as server-sent events, or with `Accept: text/plain` its text alone. Unnamed "
    "events contain "
    "text; `start`, `status`, `usage`, `error` and `done` contain JSON. `done` is always the last.",
    "content": {
        "text/event-stream": {"itemSchema": EVENT_SCHEMA, "example": STREAM_EXAMPLE},
        "text/plain": {"schema": {"type": "string"}, "example": "Tea is a drink.\nIt is hot."},
    },
    "headers": {
        "Call-Id": {"description": "The call's id.", "schema": {"type": "string"}},
        "Thread-Id": {
            "description": "The id of the call's conversation, in the response to `POST /chat`.",
            "schema": {"type": "string"},
        },
    },
}
STATUS_DESCRIPTIONS = {
    400: "The request is invalid.",
    401: "The token or session is missing, unknown or revoked.",
    402: "The budget, or the call's `max_usd`, is too low, or the cost must be approved (kind `confirmation`).",
    403: "The user, or the page that sends the request, may not do this.",
    404: "There is no such call, thread or model.",
    408: "The request's body arrived too slowly.",
    409: "Another process is answering in the thread.",
    413: "The request, or a file, is too large.",
    415: "The request is not `application/json`.",
    421: "The server does not answer to that Host.",
    422: "A field of the request is invalid.",
    429: "Too many requests; `Retry-After` says when to try again, if that is known.",
    500: "The operator must act, e.g. there is no API key.",
    503: "Try again later.",
}
COMMON_STATUSES = (400, 401, 403, 421, 500, 503)
"""Error statuses of every route that authenticates."""


def openapi_errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of a route's errors: these statuses and the common ones."""
    return {
        code: {"description": STATUS_DESCRIPTIONS[code], "model": ErrorBody}
        for code in sorted({*COMMON_STATUSES, *codes})
    }
