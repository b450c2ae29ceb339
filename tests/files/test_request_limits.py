"""The limits of a whole request, checked before it is sent."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import RequestLimits, check_request_limits, is_quickly_checked
from support.file_tree import pdf, png

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Block

LIMITS = RequestLimits.for_model(200_000, max_request_bytes=2_000_000, max_image_bytes=5_000)


def image(width: int = 10, height: int = 10, more: bytes = b"") -> Block:
    data = b64encode(png(width, height) + more).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def document(pages: int) -> Block:
    data = b64encode(pdf(pages) + b"<< /Type /Pages /Count %d >>" % pages).decode()
    return {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}


def request(*turns: list[Block]) -> dict[str, object]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)]}


URL_IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "hello"}]},
        request([image()] * 100),
        request([image(8000, 8000)] * 20),
        request([image(2000, 2000)] * 21),
        request([document(60)], [], [document(40)]),
        request(
            [{"type": "document", "source": {"type": "base64", "data": b64encode(b"%PDF-1.7 compressed").decode()}}]
        ),
    ],
)
def test_a_request_within_the_limits_passes(body: dict[str, object]) -> None:
    check_request_limits(body, LIMITS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (request([image()] * 60, [], [URL_IMAGE] * 41), "101 images; at most 100"),
        (
            request([image(2001, 10)], [], [image()] * 10 + [URL_IMAGE] * 10),
            "2,001×10 pixels among 21 in the request and its thread is too large: the limit is 2,000 a side",
        ),
        (request([image(8001, 10)]), "8,001×10 pixels is too large: the limit is 8,000 a side"),
        (request([image(more=bytes(5_000))]), "in base64; at most 5.0 kB can be sent"),
        (request([document(60)], [], [document(41)]), "101 PDF pages; at most 100"),
        (request([{"type": "text", "text": "é" * 1_000_000}]), "the request has 2.0 MB; at most 2.0 MB"),
        (
            request([{"type": "tool_result", "tool_use_id": "t", "content": [image(9000, 10)]}]),
            "9,000×10 pixels",
        ),
    ],
)
def test_a_request_beyond_a_limit_is_rejected_with_the_limit(body: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_request_limits(body, LIMITS)
    assert message in str(refused.value)
    assert "start a new thread" in str(refused.value)
    assert refused.value.kind == "too_large"


def test_a_model_with_a_million_tokens_accepts_six_hundred_images_and_pages() -> None:
    for context_tokens in (1_000_000, 0):
        limits = RequestLimits.for_model(context_tokens, max_request_bytes=32_000_000, max_image_bytes=10_000_000)
        assert (limits.max_images, limits.max_pdf_pages) == (600, 600)


TOOL_RESULT: Block = {"type": "tool_result", "tool_use_id": "t", "content": [image(more=bytes(60_000))]}


@pytest.mark.parametrize(
    ("body", "quick"),
    [
        ({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x" * 60_000}]}, True),
        (request([image()] * 10), True),
        ({"messages": [{"role": "user", "content": "x" * 70_000}]}, False),
        (request([TOOL_RESULT]), False),
        (request(*[[image()]] * 20_000), False),
    ],
)
def test_a_request_is_checked_on_the_event_loop_only_where_it_is_small(body: dict[str, object], *, quick: bool) -> None:
    assert is_quickly_checked(body) is quick
