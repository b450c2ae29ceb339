"""What `/openapi.json` says of answers and errors."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

BEARER_AUTH = Security(
    HTTPBearer(
        scheme_name="token",
        auto_error=False,  # it only documents: `auth` has checked who asks
        description="What `mcp-server-claude user add` printed. A server without users asks its own machine for none.",
    )
)
"""How a caller says who they are; a dependency of routers whose routes want to know."""


class ErrorDetail(BaseModel):
    """Why it could not be done, and whose turn it is."""

    text: str = Field(description="One sentence for a person.")
    class_: Literal["request_error", "temporary_error", "configuration_error"] = Field(
        alias="class", description="The caller, time, or the operator can mend it."
    )
    kind: str = Field(description="A short, stable name.", examples=["budget"])
    retryable: bool
    retry_after_s: float | None
    request_id: str | None = Field(description="Anthropic's id of the request, where there was one.")


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorDetail


STREAM_EXAMPLE = """\
id: c_6740f2a13b9c04d7:0
event: start
data: {"call": "c_6740f2a13b9c04d7", "thread": "t_5d0e8c1f2a7b9634", "model": "claude-sonnet-5-5"}

id: c_6740f2a13b9c04d7:0
event: status
data: {"state": "writing", "text": "", "until": null}

id: c_6740f2a13b9c04d7:25
data: Tea is a drink.
data: It is hot

id: c_6740f2a13b9c04d7:26
data: .

id: c_6740f2a13b9c04d7:26
event: usage
data: {"model": "claude-sonnet-5-5", "input_tokens": 12, "output_tokens": 9, "cost_usd": 0.00017, …}

id: c_6740f2a13b9c04d7:26
event: done
data: {"complete": true, "incomplete": "", "stop_reason": "end_turn", "notes": [], "files": []}

"""
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "event": {"enum": ["message", "start", "status", "usage", "error", "done"]},
        "data": {"type": "string", "description": "Text; of a named event JSON."},
        "id": {"type": "string", "pattern": "^c_[0-9a-f]+:[0-9]+$"},
    },
    "required": ["data", "id"],
}
"""One event (OpenAPI 3.2, "Sequential Media Types"; 3.1 readers pass over it)."""
STREAM_RESPONSE: dict[str, Any] = {
    "description": "The answer as server-sent events, or with `Accept: text/plain` its bare text. Unnamed events hold "
    "text; `start`, `status`, `usage`, `error` and `done` hold JSON. `done` is always the last.",
    "content": {
        "text/event-stream": {"itemSchema": EVENT_SCHEMA, "example": STREAM_EXAMPLE},
        "text/plain": {"schema": {"type": "string"}, "example": "Tea is a drink.\nIt is hot."},
    },
    "headers": {
        "Call-Id": {"description": "The call's id.", "schema": {"type": "string"}},
        "Thread-Id": {"description": "Its conversation's id, where it is asked.", "schema": {"type": "string"}},
    },
}
STATUS_DESCRIPTIONS = {
    400: "The request cannot be done like this.",
    401: "Who asks is not known.",
    402: "The budget, or the call's own `max_usd`, does not pay for it.",
    403: "Not from this page, or not by this user.",
    404: "There is no such call, thread or model.",
    408: "The request's body came too slowly.",
    409: "Another process is answering in the thread.",
    413: "The request, or a file, is too large.",
    415: "The request is not `application/json`.",
    421: "The server does not answer to that Host.",
    422: "The request has a field that is wrong.",
    429: "Too many requests; `Retry-After` says when to come again, where that is known.",
    500: "The operator must act, e.g. there is no API key.",
    503: "Try again later.",
}


COMMON_STATUSES = (400, 401, 403, 421, 500, 503)
"""What may come of any request that needs to know who asks."""


def openapi_errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, documented: these, and those of every route."""
    return {
        code: {"description": STATUS_DESCRIPTIONS[code], "model": ErrorBody}
        for code in sorted({*COMMON_STATUSES, *codes})
    }
