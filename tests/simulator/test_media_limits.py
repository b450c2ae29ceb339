"""Images and PDF files of a request: their number, size and tokens."""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import TYPE_CHECKING, Any, cast

import anthropic
import pytest

from mcp_server_claude.simulator.image_sizes import image_size, scaled_image_tokens
from mcp_server_claude.simulator.media_limits import pdf_pages

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import MessageParam

pytestmark = pytest.mark.anyio


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", width, height) + bytes(9)


def image(width: int = 10, height: int = 10, media_type: str = "image/png") -> dict[str, Any]:
    data = b64encode(png(width, height)).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def pdf(pages: int) -> dict[str, Any]:
    data = b"%PDF-1.7\n" + b"<< /Type /Page >>\n" * pages + b"<< /Type /Pages >>"
    source = {"type": "base64", "media_type": "application/pdf", "data": b64encode(data).decode()}
    return {"type": "document", "source": source}


def question(*blocks: dict[str, Any]) -> list[MessageParam]:
    content = [*blocks, {"type": "text", "text": "What is it?"}]
    return cast("list[MessageParam]", [{"role": "user", "content": content}])


async def ask(client: AsyncAnthropic, *blocks: dict[str, Any], model: str = "claude-sonnet-5-5") -> int:
    reply = await client.messages.create(model=model, max_tokens=100, messages=question(*blocks))
    return reply.usage.input_tokens


@pytest.mark.parametrize(
    ("blocks", "model", "message"),
    [
        ([image(8001, 10)], "claude-sonnet-5-5", "dimensions exceed max allowed size: 8000 pixels"),
        ([image(10, 2001)] + [image()] * 20, "claude-sonnet-5-5", "for many-image requests: 2000 pixels"),
        ([image()] * 101, "claude-haiku-4-5", "too many images: 101 > 100"),
        ([image()] * 601, "claude-sonnet-5-5", "too many images: 601 > 600"),
        ([pdf(101)], "claude-haiku-4-5", "A maximum of 100 PDF pages may be provided"),
        ([pdf(300), pdf(301)], "claude-sonnet-5-5", "A maximum of 600 PDF pages may be provided"),
        ([image(media_type="image/jpeg")], "claude-sonnet-5-5", "specified using the image/jpeg media type"),
        ([image(media_type="image/bmp")], "claude-sonnet-5-5", "media_type: Input should be"),
    ],
)
async def test_too_many_and_too_large_images_and_pages_are_rejected(
    client: AsyncAnthropic, blocks: list[dict[str, Any]], model: str, message: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        await ask(client, *blocks, model=model)
    with pytest.raises(anthropic.BadRequestError, match=message):
        await client.messages.count_tokens(model=model, messages=question(*blocks))


async def test_the_error_of_a_large_image_names_the_images_and_the_limit(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        await ask(client, image(), image(9000, 1))

    error = cast("dict[str, Any]", refused.value.body)["error"]
    assert error["details"] == {
        "error_code": "image_dimensions_too_large",
        "paths": ["messages.0.content.1.image.source.base64"],
        "max_side_length_pixels": 8000,
    }


async def test_an_image_has_at_most_10_mb_of_base64(client: AsyncAnthropic) -> None:
    large = image()
    large["source"]["data"] = "A" * (10 * 1024 * 1024 + 4)

    with pytest.raises(anthropic.BadRequestError, match="image exceeds 10 MB maximum: 10485764 bytes > 10485760 bytes"):
        await ask(client, large)


async def test_images_in_tool_results_and_earlier_turns_count(client: AsyncAnthropic) -> None:
    call: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [image()] * 10}
    messages: Any = [
        {"role": "user", "content": [image()] * 10 + [{"type": "text", "text": "Look"}]},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, image(2001, 5)]},
    ]

    with pytest.raises(anthropic.BadRequestError, match="2000 pixels"):
        await client.messages.create(model="claude-sonnet-5-5", max_tokens=10, messages=messages)


async def test_an_uploaded_image_counts_by_its_size(client: AsyncAnthropic) -> None:
    uploaded = await client.files.upload(file=("a.png", png(2801, 2801), "image/png"))
    by_id = {"type": "image", "source": {"type": "file", "file_id": uploaded.id}}
    without = await ask(client)

    assert await ask(client, by_id) - without > 4000
    with pytest.raises(anthropic.BadRequestError, match="2000 pixels"):
        await ask(client, by_id, *[image()] * 20)


@pytest.mark.parametrize(
    ("size", "large", "small"),
    [
        ((1, 1), 1, 1),
        ((28, 28), 1, 1),
        ((29, 28), 2, 2),
        ((1092, 1092), 1521, 1521),
        ((2576, 28), 92, 56),
        ((8000, 8000), 4784, 1568),
    ],
)
def test_an_image_counts_its_patches_after_it_is_scaled_down(size: tuple[int, int], large: int, small: int) -> None:
    assert scaled_image_tokens(size, takes_large_images=True) <= 4784
    assert abs(scaled_image_tokens(size, takes_large_images=True) - large) <= large * 0.02
    assert abs(scaled_image_tokens(size, takes_large_images=False) - small) <= small * 0.02


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(3, 4), (3, 4)),
        (b"GIF89a" + struct.pack("<HH", 5, 6), (5, 6)),
        (b"\xff\xd8\xff\xe0\0\x04ab\xff\xc2\0\x11\x08" + struct.pack(">HH", 8, 7) + bytes(9), (7, 8)),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x09\0\0\x0a\0\0", (10, 11)),
        (b"\x89PNG", None),
        (b"hello", None),
    ],
)
def test_the_size_is_read_from_the_first_bytes(data: bytes, size: tuple[int, int] | None) -> None:
    assert image_size(data) == size


def test_pages_of_a_pdf_are_counted_without_the_page_tree() -> None:
    assert pdf_pages(b"<</Type/Page>> << /Type /Pages >> <</Type /Page /Parent 1 0 R>>") == 2
