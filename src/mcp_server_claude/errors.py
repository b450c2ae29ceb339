"""The errors of a call, classified by the person who can fix them.

    CallError
    ├── RequestError          the caller: bad arguments, an unknown model, an input that is too long
    │   └── UnknownIdError    an id that names no call, job or thread
    ├── TemporaryError        time: rate limits, overload, a lost connection; has `retry_after_s` where it is known
    └── ConfigurationError    the operator: no key, a wrong key, no credit, a base URL that is not an API

Any other exception is a bug, unless memory, threads, files or disk space ran out (`local_resource_error`).
`Engine.run_call` logs it and raises a `CallError` of kind `internal` in its place.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Literal, Self

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Usage


class CallError(Exception):
    """Base class of all errors that a client sees; never raised itself.

    `str(error)` is one sentence that a reader can act on, without values or secrets. An error does not change after it
    was made: `with_message` and `with_usage` return copies.

    Args:
        message: The sentence.
        kind: A key of `KINDS`, or the `stop_reason` of an answer without text.
        retry_after_s: Seconds after which a retry can succeed; None when unknown.
        request_id: The API's id of the request that failed.
        status: The HTTP status of the API's response.
        usage: The usage of the call, if a request was made.
        should_retry: The API's advice (`x-should-retry`), or our own where waiting cannot help; None when there is
            neither, so that the class decides.
    """

    class_name: ClassVar[str]
    """The name of the class in JSON."""
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
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.status = status
        self.usage = usage
        self.should_retry = should_retry

    def with_message(self, message: str) -> Self:
        """A copy with another sentence."""
        return self._copy(message)

    def with_usage(self, usage: Usage) -> Self:
        """A copy with the usage of the call."""
        return self._copy(usage=usage)

    def with_request_id(self, request_id: str | None) -> Self:
        """A copy with the API's id of the request, unless the error has one."""
        return self._copy(request_id=self.request_id or request_id)

    def with_retry(self, retry_after_s: float = 0.0) -> Self:
        """A copy that is retried after `retry_after_s` seconds, whatever its class says."""
        return self._copy(retry_after_s=retry_after_s, should_retry=True)

    def as_json(self) -> dict[str, object]:
        """The fields by which a program decides what to do next, JSON-ready."""
        return {
            "class": self.class_name,
            "kind": self.kind,
            "retryable": self.retryable,
            "retry_after_s": self.retry_after_s,
            "request_id": self.request_id,
        }

    def _copy(self, message: str = "", **fields: object) -> Self:
        copy = type(self).__new__(type(self))  # a subclass may have other arguments
        copy.args = (message,) if message else self.args
        copy.__dict__.update(self.__dict__ | fields)
        return copy


class RequestError(CallError):
    """The caller can fix it."""

    class_name: ClassVar[str] = "request_error"


class UnknownIdError(RequestError):
    """There is no call, job or thread with the id. Each door adds where its reader finds the ids.

    Args:
        thing: What the id was to name.
        detail: A further part of the sentence.
    """

    def __init__(self, thing: Literal["call", "job", "thread"], detail: str = "") -> None:
        super().__init__(f"There is no {thing} with that id{detail}.", kind="not_found")
        self.thing = thing


class TemporaryError(CallError):
    """A later attempt can succeed."""

    class_name: ClassVar[str] = "temporary_error"
    retryable: ClassVar[bool] = True


class ConfigurationError(CallError):
    """The operator of this server must act."""

    class_name: ClassVar[str] = "configuration_error"


def internal_error(call_id: str) -> ConfigurationError:
    """The error for a bug; the traceback belongs in the log, which is standard error at the shell."""
    return ConfigurationError(
        f"A bug in mcp-server-claude ended the call {call_id}. Its log has the details.", kind="internal"
    )


MISSING_RESOURCES = {
    errno.ENOMEM: "mcp-server-claude ran out of memory.",
    errno.EMFILE: "mcp-server-claude has as many files and connections open as its limit allows (ulimit -n).",
    errno.ENFILE: "The machine of mcp-server-claude has as many files open as its limit allows.",
    errno.ENOSPC: "The disk to which mcp-server-claude writes is full.",
    errno.EDQUOT: "The disk quota of mcp-server-claude is used up.",
}
"""Sentences that are true for a command of the shell, a client over stdio and a user of a server elsewhere."""
NO_THREAD = "can't start new thread"
"""The text of CPython's `RuntimeError` where the system starts no further thread."""


def local_resource_error(error: BaseException | None) -> TemporaryError | None:
    """The error for an exception that says that memory, threads, files or disk space ran out; None for any other."""
    sentence = ""
    match error:
        case MemoryError():
            sentence = MISSING_RESOURCES[errno.ENOMEM]
        case RuntimeError() if NO_THREAD in str(error):
            sentence = "mcp-server-claude cannot start another thread: it has too many, or too little memory."
        case OSError():
            sentence = MISSING_RESOURCES.get(error.errno or 0, "")
        case BaseExceptionGroup() as group:
            return next((found for each in group.exceptions if (found := local_resource_error(each))), None)
        case _:
            pass
    return TemporaryError(f"{sentence} Try again later.", kind="local_resources") if sentence else None


_REQUEST, _TEMPORARY, _CONFIGURATION = (each.class_name for each in (RequestError, TemporaryError, ConfigurationError))

KINDS: dict[str, tuple[str, str]] = {
    "api_error": (_TEMPORARY, "The Messages API had an internal error."),
    "authentication": (_CONFIGURATION, "The API does not accept the key."),
    "base_url": (_CONFIGURATION, "The base URL is not a URL, or not that of a Messages API."),
    "billing": (_CONFIGURATION, "The account behind the key cannot pay."),
    "body_timeout": (_REQUEST, "Over HTTP: the request's body took too long to arrive."),
    "budget": (_TEMPORARY, "The day's budget does not pay for the call; `retry_after_s` runs to its reset."),
    "cancelled": (_REQUEST, "The call was cancelled before any text came."),
    "capacity": (_TEMPORARY, "No slot for the call became free in time."),
    "confirmation": (_REQUEST, "The user has not approved the cost of the call, or the client cannot ask."),
    "conflict": (_TEMPORARY, "The API was already changing the resource that the request names."),
    "connection": (_TEMPORARY, "The connection was lost or could not be made."),
    "connection_refused": (_TEMPORARY, "Nothing listens at the base URL."),
    "deadline": (_TEMPORARY, "The call took longer than `MCP_CLAUDE_DEADLINE_S`."),
    "dns": (_CONFIGURATION, "The host of the base URL is not known."),
    "expired": (_TEMPORARY, "The message batch ended after 24 hours, before this was answered."),
    "forbidden": (_REQUEST, "Over HTTP: the user, or the page that sent the request, is not allowed to do this."),
    "identity_provider": (
        _TEMPORARY,
        "Over HTTP: the identity provider's keys could not be fetched, so no token can be checked.",
    ),
    "image_dimensions_too_large": (
        _REQUEST,
        "Images are larger than the model accepts; the limit and the places are given.",
    ),
    "insecure": (_CONFIGURATION, "`serve --http`: others could reach the server, and it has no users."),
    "internal": (_CONFIGURATION, "A bug in this server; its log has the traceback under the call's id."),
    "interrupted": (_TEMPORARY, "The server process ended while it wrote the answer; the saved text can be read."),
    "invalid_request": (_REQUEST, "An argument is wrong, or the API rejected the request."),
    "job_budget": (_TEMPORARY, "What is left of the job's `max_usd` does not pay for another item."),
    "keyring": (_CONFIGURATION, "The system's keyring cannot be used, or it has no key of the configured name."),
    "listen": (_CONFIGURATION, "`serve --http`: it cannot listen on that address and port."),
    "local_resources": (_TEMPORARY, "The server has no memory, thread, file descriptor or disk space left for it."),
    "malformed_key": (_CONFIGURATION, "The key, a header or the URL contains characters that cannot be sent."),
    "max_tokens": (_REQUEST, "Thinking used all output tokens, or they ended within a JSON answer."),
    "max_usd": (_REQUEST, "The call's own limit does not pay for it."),
    "media_type": (_REQUEST, "Over HTTP: the request is not application/json."),
    "missing_extra": (_CONFIGURATION, "A package that the platform needs is not installed; the command is given."),
    "no_key": (_CONFIGURATION, "There is no API key, or there are no credentials for the platform."),
    "not_found": (_REQUEST, "There is no such model, call, thread or file."),
    "overloaded": (_TEMPORARY, "Claude is overloaded."),
    "permission": (_CONFIGURATION, "The key is not allowed to do this."),
    "platform": (_CONFIGURATION, "The platform lacks a region, a project or the like; the setting is named."),
    "protocol": (_TEMPORARY, "The response is not a valid stream of the Messages API."),
    "proxy": (_CONFIGURATION, "A proxy variable of the environment cannot be used; it is named."),
    "rate_limit": (_TEMPORARY, "The key's rate limit is reached."),
    "refusal": (_REQUEST, "Claude declined to answer."),
    "retired_model": (_REQUEST, "The model is no longer served; its successor is named."),
    "schema_mismatch": (_REQUEST, "The second answer does not match the schema either."),
    "schema_with_citations": (_REQUEST, "The Messages API does not allow a schema together with citations."),
    "schema_too_complex": (_REQUEST, "The schema is beyond the grammar of the Messages API."),
    "settings": (_CONFIGURATION, "A setting is invalid."),
    "shutdown": (_TEMPORARY, "The server is shutting down; the text so far can be read by the call's id."),
    "spend_limit": (_CONFIGURATION, "The organization's spend limit is reached; never retried."),
    "store": (
        _CONFIGURATION,
        "The database cannot be read or written, and the call depends on it; a `temporary_error` while it is away.",
    ),
    "stream_timeout": (_TEMPORARY, "The API sent nothing for too long."),
    "thinking_signature": (_REQUEST, "The API does not accept the thinking of the thread's earlier turns."),
    "thread_busy": (_TEMPORARY, "Another server process was answering in the thread until the call's deadline."),
    "timeout": (_TEMPORARY, "The API did not answer in time."),
    "tls": (_CONFIGURATION, "The TLS connection failed."),
    "too_large": (_REQUEST, "The request is larger than the API accepts."),
    "too_long": (_REQUEST, "The prompt is longer than the model's context window; by how much is given."),
    "truncated": (_TEMPORARY, "The stream ended before the answer did."),
    "unauthorized": (_REQUEST, "Over HTTP: the token or session is missing or wrong."),
    "unknown_model": (_REQUEST, "There is no such model; the nearest names are given."),
    "unsupported": (_REQUEST, "The model does not support that effort, input or limit; what it supports is given."),
    "user_concurrency": (_TEMPORARY, "The user has as many calls running as allowed."),
    "user_rate_limit": (_TEMPORARY, "The user has started as many calls in a minute as allowed."),
    "url_unavailable": (_REQUEST, "Anthropic could not fetch a URL that `files` names."),
    "wrong_host": (_REQUEST, "Over HTTP: the server does not answer to that Host."),
}
"""Every `kind` with the `class_name` it usually has, and its meaning. `docs/errors.md` is generated from this table.

An answer that ended without any text has its `stop_reason` as its kind.
"""
