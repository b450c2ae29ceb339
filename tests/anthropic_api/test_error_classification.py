from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.anthropic_api.response_headers import retry_after_seconds
from mcp_server_claude.errors import CallError, ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.redaction import MAX_SANITIZED_CHARS, sanitize
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import directive
from support.mcp_session import FAKE_KEY
from support.recorded_streams import REQUEST_BODY, STREAMS_DIR
from support.scripted_upstream import scripted_upstream

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


async def failure_of(
    url: str, prompt: str = "Tell me.", answer: MessageStream | None = None, key: str = FAKE_KEY
) -> CallError | None:
    """What asking ends in: nothing, or the failure."""
    claude = ClaudeClient(Settings.model_validate({"api_key": key, "base_url": url}))
    body = {
        **REQUEST_BODY,
        "model": "claude-sonnet-5-5",
        "max_tokens": 4000,
        "messages": [{"role": "user", "content": prompt}],
    }
    try:
        with anyio.fail_after(60):
            await claude.stream_message(body, answer or MessageStream(lambda _: None))
    except CallError as failure:
        message = str(failure)
        assert message.endswith((".", "…"))
        assert "\n" not in message
        assert key not in message
        return failure
    else:
        return None
    finally:
        await claude.close()


# --------------------------------------------------------------------- before the stream


@pytest.mark.parametrize(
    ("status", "family", "kind"),
    [
        (400, RequestError, "invalid_request"),
        (401, ConfigurationError, "authentication"),
        (402, ConfigurationError, "billing"),
        (403, ConfigurationError, "permission"),
        (404, RequestError, "not_found"),
        (408, TemporaryError, "timeout"),
        (409, TemporaryError, "conflict"),
        (413, RequestError, "too_large"),
        (418, RequestError, "invalid_request"),
        (429, TemporaryError, "rate_limit"),
        (500, TemporaryError, "api_error"),
        (503, TemporaryError, "api_error"),
        (504, TemporaryError, "timeout"),
        (529, TemporaryError, "overloaded"),
    ],
)
async def test_each_status_is_one_of_three_error_classes(
    upstream: Simulator, status: int, family: type[CallError], kind: str
) -> None:
    failure = await failure_of(upstream.url, directive(status=status))
    (request,) = upstream.requests
    assert failure is not None
    assert (type(failure), failure.kind, failure.status) == (family, kind, status)
    assert failure.request_id == request.request_id
    assert failure.as_json()["retryable"] is (family is TemporaryError)


async def test_a_spend_limit_is_not_retried(upstream: Simulator) -> None:
    failure = await failure_of(upstream.url, directive(fault="spend_limit"))
    assert isinstance(failure, ConfigurationError)
    assert (failure.kind, failure.status, failure.retryable) == ("spend_limit", 429, False)
    assert "2026-12-01" in str(failure)


ERROR_MESSAGES: list[tuple[int, str, str, str, str]] = [
    (
        400, "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
        "spend_limit", "2026-12-01",
    ),
    (
        400, "invalid_request_error",
        "You have reached your specified workspace API usage limits. You will regain access on 2026-12-01.",
        "spend_limit", "workspace",
    ),
    (
        429, "rate_limit_error",
        "You have reached your API usage limits: your organization has crossed its monthly API usage threshold.",
        "spend_limit", "threshold",
    ),
    (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.", "billing", "credit"),
    (400, "invalid_request_error", "Schema is too complex for compilation.", "schema_too_complex", "schema"),
    (400, "invalid_request_error", "compiled grammar too large", "schema_too_complex", "schema"),
    (404, "not_found_error", "model: claude-tea-9", "not_found", "model"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "error_type", "message", "kind", "expected"), ERROR_MESSAGES)
async def test_an_ambiguous_error_type_is_classified_by_its_message(
    status: int, error_type: str, message: str, kind: str, expected: str
) -> None:
    body = json.dumps({"type": "error", "error": {"type": error_type, "message": message}}).encode()
    async with scripted_upstream(body, status=status, content_type="application/json") as upstream:
        error = await failure_of(upstream.url)
    assert error is not None
    assert error.kind == kind
    assert expected in str(error)


async def test_images_that_are_too_large_are_reported_with_the_limit_and_their_positions() -> None:
    details = {
        "error_code": "image_dimensions_too_large",
        "max_side_length_pixels": 2000,
        "paths": ["messages.0.content.1", "messages.0.content.2"],
    }
    error_fields = {"type": "invalid_request_error", "message": "Images are too large.", "details": details}
    body = json.dumps({"type": "error", "error": error_fields}).encode()
    async with scripted_upstream(body, status=400, content_type="application/json") as upstream:
        error = await failure_of(upstream.url)
    assert error is not None
    assert error.kind == "image_dimensions_too_large"
    assert "2 images are larger than 2,000 pixels on a side (messages.0.content.1, messages.0.content.2)" in str(error)


@pytest.mark.parametrize("body", [b"", b"404 page not found", b'{"detail": "Not Found"}', b'{"error": "Not Found"}'])
async def test_a_404_of_the_route_names_the_base_url_and_not_the_model(body: bytes) -> None:
    async with scripted_upstream(body, status=404, content_type="application/json") as upstream:
        error = await failure_of(f"{upstream.url}/prefix")
    assert isinstance(error, ConfigurationError)
    assert error.kind == "base_url"
    assert "/prefix/v1/messages (HTTP 404)" in str(error)
    assert "MCP_CLAUDE_BASE_URL" in str(error)


async def test_control_characters_of_an_error_do_not_reach_a_terminal() -> None:
    body = json.dumps({"error": {"type": "invalid_request_error", "message": "a\x1b[31mb\x07c\u202ed"}}).encode()
    async with scripted_upstream(body, status=400, content_type="application/json") as upstream:
        error = await failure_of(upstream.url)
    assert str(error).isprintable()


async def test_the_time_to_retry_is_passed_on(upstream: Simulator) -> None:
    failure = await failure_of(upstream.url, directive(status=429, retry_after=7, should_retry="false"))
    assert failure is not None
    assert (failure.retry_after_s, failure.should_retry) == (7, False)
    assert "Try again in 7 s." in str(failure)
    failure = await failure_of(
        upstream.url, directive(status=529, retry_after=7, retry_after_ms=250, should_retry="true")
    )
    assert failure is not None
    assert (failure.retry_after_s, failure.should_retry) == (0.25, True)


async def test_a_wrong_key_is_reported_with_the_host_that_rejected_it(upstream: Simulator) -> None:
    failure = await failure_of(upstream.url, directive(status=401))
    assert upstream.url in str(failure)
    assert "doctor" in str(failure)


@pytest.mark.parametrize(
    "path", sorted(STREAMS_DIR.glob("errors/*.json")) or [None], ids=lambda path: path and path.stem
)
async def test_recorded_errors_are_reported_in_the_words_of_the_api(path: Path | None) -> None:
    if path is None:
        pytest.skip("The recorded streams (../shared/streams) are not here.")
    async with scripted_upstream(
        await anyio.Path(path).read_bytes(), status=400, content_type="application/json"
    ) as upstream:
        failure = await failure_of(upstream.url)
    assert failure is not None
    assert failure.kind in {"invalid_request", "authentication", "not_found"}
    assert failure.request_id


@pytest.mark.parametrize("status", [400, 401, 500])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[1]",
        b"<html>",
        b"\xff\xfe",
        b'"\\ud83d"',
        b'{"error":"text"}',
        b'{"error":{"message":{"a":1},"type":7}}',
        b'{"error":{"type":["a"],"message":"m","details":{"error_code":[1]}}}',
        b'{"detail":[{"loc":["x"]}]}',
    ],
)
async def test_a_gateways_errors_may_have_any_shape(status: int, body: bytes) -> None:
    async with scripted_upstream(body, status=status, content_type="application/json") as upstream:
        failure = await failure_of(upstream.url)
    assert failure is not None
    assert failure.status == status


async def test_a_password_in_the_base_url_is_not_reported() -> None:
    async with scripted_upstream(b"", status=401) as upstream:
        failure = await failure_of(upstream.url.replace("http://", "http://user:pa55word@"))
    assert "pa55word" not in str(failure)
    assert upstream.url in str(failure)


# --------------------------------------------------------------------- within the stream


@pytest.mark.parametrize(
    ("keys", "family", "kind"),
    [
        ({"fault": "error"}, TemporaryError, "overloaded"),
        ({"fault": "error", "at": "headers"}, TemporaryError, "overloaded"),
        ({"fault": "error", "type": "api_error"}, TemporaryError, "api_error"),
        ({"fault": "error", "type": "rate_limit_error"}, TemporaryError, "rate_limit"),
        ({"fault": "error", "type": "invalid_request_error"}, RequestError, "invalid_request"),
        ({"fault": "error", "type": "novel_error"}, TemporaryError, "api_error"),
        ({"fault": "drop"}, TemporaryError, "connection"),
        ({"fault": "drop", "at": "headers"}, TemporaryError, "connection"),
        ({"fault": "fin"}, TemporaryError, "connection"),
        ({"fault": "fin", "at": "headers"}, TemporaryError, "connection"),
        ({"fault": "malformed"}, TemporaryError, "protocol"),
        ({"fault": "badutf8"}, TemporaryError, "protocol"),
        ({"fault": "html"}, ConfigurationError, "protocol"),
        ({"fault": "redirect"}, ConfigurationError, "protocol"),
    ],
)
async def test_each_way_to_break_a_stream_is_reported_and_keeps_the_text_so_far(
    upstream: Simulator, keys: dict[str, str], family: type[CallError], kind: str
) -> None:
    answer = MessageStream(lambda _: None)
    failure = await failure_of(upstream.url, f"Tell me. {directive(**keys)}", answer)
    assert failure is not None
    assert (type(failure), failure.kind) == (family, kind)
    assert answer.stop_reason is None
    assert upstream.requests[0].text.startswith(answer.text)
    if answer.has_started:
        assert failure.request_id == upstream.requests[0].request_id
        assert len(answer.text) > 0


@pytest.mark.parametrize("fault", ["eof", "empty"])
async def test_a_clean_end_without_a_stop_reason_is_left_to_the_caller(upstream: Simulator, fault: str) -> None:
    answer = MessageStream(lambda _: None)
    assert await failure_of(upstream.url, f"Tell me. [[sim: fault={fault}]]", answer) is None
    assert answer.stop_reason is None
    assert answer.usage().estimated is answer.has_started is bool(answer.text) is (fault == "eof")


@pytest.mark.parametrize("fault", ["nostop", "gzip", "tiny", "huge"])
async def test_unusual_but_valid_streams_are_answers(upstream: Simulator, fault: str) -> None:
    answer = MessageStream(lambda _: None)
    assert await failure_of(upstream.url, f"Tell me. [[sim: fault={fault}]]", answer) is None
    assert answer.stop_reason == "end_turn"
    assert answer.text == upstream.requests[0].text


# --------------------------------------------------------------------- no connection at all


async def test_a_port_on_which_nothing_listens_is_reported() -> None:
    with socket.socket() as idle:
        idle.bind(("127.0.0.1", 0))
        failure = await failure_of(f"http://127.0.0.1:{idle.getsockname()[1]}")
    assert isinstance(failure, TemporaryError)
    assert failure.kind == "connection_refused"


async def test_a_host_that_does_not_exist_is_reported() -> None:
    failure = await failure_of("http://no-such-host.invalid")
    assert isinstance(failure, ConfigurationError)
    assert failure.kind == "dns"


async def test_a_server_without_tls_is_reported(upstream: Simulator) -> None:
    failure = await failure_of(upstream.url.replace("http:", "https:"))
    assert isinstance(failure, ConfigurationError)
    assert failure.kind == "tls"


# --------------------------------------------------------------------- words and numbers

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after-ms": "0", "retry-after": "9"}, 9),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Fri, 20 Nov 2026 12:01:30 GMT"}, 90),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:30 GMT", "date": "Fri, 20 Nov 2026 11:00:00 GMT"}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT", "date": "yesterday"}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 12:01:30 -0000"}, 90),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


@given(st.text(), st.text(st.characters()), st.from_regex(r"sk-ant-[A-Za-z0-9_-]{1,40}", fullmatch=True))
def test_repeated_text_of_an_error_is_one_short_line_without_a_key(before: str, after: str, key: str) -> None:
    message = sanitize(f"{before} {key} {after}")
    assert key not in message
    assert len(message) <= MAX_SANITIZED_CHARS + 1
    assert len(message.splitlines()) <= 1
    assert message.encode()
