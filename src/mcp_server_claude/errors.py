"""The three ways in which a call can fail, told to whoever can mend it.

    CallError
    ├── RequestError          the caller can fix it: bad arguments, an unknown model, an input that is too long
    ├── TemporaryError        later: rate limits, overload, a lost connection; carries `retry_after_s` where it is known
    └── ConfigurationError    the operator must act: no key, a wrong key, no credit, a base URL that is not an API

Anything else that is raised is a bug and travels up untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Usage


class CallError(Exception):
    """A call failed. `str(failure)` is one sentence that a reader can act on, without values or secrets.

    `kind` is a short, stable class name such as `rate_limit` or `authentication`; `usage` is the account of the
    call where one was begun; `should_retry` is the API's own advice where it gave one (`x-should-retry`).
    """

    class_name: ClassVar[str]
    """Which of the three it is, for a program; a door may tell them apart further."""
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        kind: str = "invalid_request",
        retry_after_s: float | None = None,
        request_id: str | None = None,
        status: int | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.status = status
        self.usage = usage
        self.should_retry: bool | None = None

    def as_json(self) -> dict[str, object]:
        """What a program needs to decide what to do next, JSON-ready."""
        return {
            "class": self.class_name,
            "kind": self.kind,
            "retryable": self.retryable,
            "retry_after_s": self.retry_after_s,
            "request_id": self.request_id,
        }


class RequestError(CallError):
    """The caller can fix it."""

    class_name: ClassVar[str] = "refused"


class TemporaryError(CallError):
    """Try again later."""

    class_name: ClassVar[str] = "unavailable"
    retryable: ClassVar[bool] = True


class ConfigurationError(CallError):
    """Whoever runs this server must act."""

    class_name: ClassVar[str] = "misconfigured"


KINDS: dict[str, tuple[str, str]] = {
    "api_error": ("unavailable", "The Messages API had an internal fault."),
    "authentication": ("misconfigured", "The API does not accept the key."),
    "base_url": ("misconfigured", "The base URL is not one."),
    "billing": ("misconfigured", "The account behind the key cannot pay."),
    "budget": ("unavailable", "The day's budget does not pay for the call; `retry_after_s` runs to its reset."),
    "busy": ("unavailable", "No place among the running calls became free in time."),
    "conflict": ("unavailable", "The API was asked for something that is being changed."),
    "connection": ("unavailable", "The connection was lost or could not be made."),
    "deadline": ("unavailable", "The call took longer than `MCP_CLAUDE_DEADLINE_S`."),
    "dns": ("misconfigured", "The host of the base URL is not known."),
    "forbidden": ("refused", "Over HTTP: the user, or the page that asks, may not do this."),
    "identity": (
        "unavailable",
        "Over HTTP: the identity provider's keys could not be had, so no token can be checked.",
    ),
    "internal": ("misconfigured", "Over HTTP: a fault of this server, in the middle of an answer; its log says more."),
    "interrupted": ("unavailable", "The server process that wrote the answer ended; what it had saved can be read."),
    "insecure": ("misconfigured", "`serve --http`: others could reach the server, and it has no users."),
    "invalid_request": ("refused", "An argument is wrong, or the API refused the request."),
    "ledger": ("misconfigured", "The ledger cannot be read or written, and the call depends on it."),
    "listen": ("misconfigured", "`serve --http`: it cannot listen on that address and port."),
    "malformed_key": ("misconfigured", "The key, a header or the URL holds characters that cannot be sent."),
    "max_tokens": ("refused", "All output tokens went into thinking."),
    "max_usd": ("refused", "The call's own limit does not pay for it."),
    "media_type": ("refused", "Over HTTP: the request is not application/json."),
    "missing_extra": ("misconfigured", "A package is not installed that the platform needs; the command is given."),
    "no_key": ("misconfigured", "There is no API key, or there are no credentials for the platform."),
    "not_found": ("refused", "There is no such model, call or thing."),
    "overloaded": ("unavailable", "Claude is overloaded."),
    "permission": ("misconfigured", "The key may not do this."),
    "platform": ("misconfigured", "The platform lacks a region, a project or the like; what to set is said."),
    "protocol": ("unavailable", "What came back is not a stream of the Messages API."),
    "rate_limit": ("unavailable", "The key's rate limit is reached."),
    "refusal": ("refused", "Claude declined to answer."),
    "refused": ("unavailable", "Nothing listens at the base URL."),
    "retired_model": ("refused", "The model is no longer served; its successor is named."),
    "schema_mismatch": ("refused", "The answer does not fit the schema, also after Claude was told so."),
    "settings": ("misconfigured", "A setting could not be understood."),
    "shutdown": ("unavailable", "The server is ending; what is written can be read again by the call's id."),
    "slow_body": ("refused", "Over HTTP: the request's body took too long to arrive."),
    "spend_limit": ("misconfigured", "The organization's spend limit is reached; never tried again."),
    "stall": ("unavailable", "Nothing came for too long."),
    "stopped": ("refused", "The call was stopped before it said anything."),
    "thread_busy": ("unavailable", "Another server process is answering in the thread."),
    "timeout": ("unavailable", "The API did not answer in time."),
    "tls": ("misconfigured", "The TLS connection was refused."),
    "too_large": ("refused", "The request is larger than the API takes."),
    "too_long": ("refused", "The prompt is longer than the model takes; by how much is said."),
    "truncated": ("unavailable", "The stream ended before the answer did."),
    "unauthorized": ("refused", "Over HTTP: the token or session is missing or wrong."),
    "unknown_model": ("refused", "There is no such model; the nearest names are given."),
    "unsupported": ("refused", "The model does not take that effort or that many tokens; what it takes is said."),
    "user_busy": ("unavailable", "The user has as many calls running as they may."),
    "user_rate": ("unavailable", "The user has begun as many calls in a minute as they may."),
    "wrong_host": ("refused", "Over HTTP: the server does not answer to that Host."),
}
"""Every `kind` with its usual class and its meaning; `docs/errors.md` is made from it, a test keeps it complete.

An answer that ended without any text has its `stop_reason` as its kind.
"""
