"""The errors of the API, by status, type and wording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Object

MAX_REQUEST_BYTES = 32 * 1024 * 1024
MAX_BATCH_BYTES = 256 * 1024 * 1024
MAX_FILE_BYTES = 500 * 1024 * 1024

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
ERROR_MESSAGES = {
    "rate_limit_error": "This request would exceed your organization's rate limit of 80,000 input tokens per minute.",
    "overloaded_error": "Overloaded",
    "api_error": "Internal server error",
    "timeout_error": "Request timed out",
    "permission_error": "Your API key does not have permission to use the specified resource.",
    "authentication_error": "invalid x-api-key",
    "billing_error": "Your credit balance is too low to access the Anthropic API.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiError:
    """An HTTP error: its status, `error.type`, `error.message`, `error.details` and the header `retry-after`."""

    status: int
    message: str
    type: str = ""
    details: Object | None = None
    retry_after_s: int | None = None

    def response_body(self, request_id: str) -> Object:
        """The error's body."""
        error: Object = {"type": self.type or error_type(self.status), "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        return {"type": "error", "error": error, "request_id": request_id}


class RequestRejectedError(Exception):
    """A request the API does not take."""

    def __init__(self, api_error: ApiError) -> None:
        super().__init__(api_error.message)
        self.api_error = api_error


def max_request_bytes(target: str) -> int:
    """The largest body, in bytes, that a path takes (platform.claude.com/docs/en/api/errors, August 2026)."""
    if target.startswith("/v1/messages/batches"):
        return MAX_BATCH_BYTES
    return MAX_FILE_BYTES if target.startswith("/v1/files") else MAX_REQUEST_BYTES


def error_type(status: int) -> str:
    """The `error.type` that goes with a status."""
    return ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def rejection(message: str, *, status: int = 400) -> RequestRejectedError:
    """The refusal to raise."""
    return RequestRejectedError(ApiError(status=status, message=message))


def complete_body(body: bytes | None) -> bytes:
    """A request's body.

    Raises:
        RequestRejectedError: It was too large to be kept.
    """
    if body is None:
        raise rejection("Request exceeds the maximum size", status=413)
    return body
