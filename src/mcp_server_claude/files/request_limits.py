"""Checks a whole request, its thread included, against the limits of the Messages API before it is sent.

The API answers these with HTTP 400 or 413, and a thread whose history breaks a limit would get that answer in every
later turn. Only what is certain is refused: images by URL or file id count, their size is not known.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING, cast

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files.content_types import MANY_IMAGES_THRESHOLD, MAX_IMAGE_SIDE_PX, MAX_MANY_IMAGE_SIDE_PX
from mcp_server_claude.files.name_quoting import format_bytes
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.image_headers import image_dimensions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGE_CONTEXT_TOKENS = 1_000_000
IMAGE_HEADER_CHARS = 1 << 18
"""Base64 characters that are enough to find the size of an image; in a JPEG it stands after the thumbnail."""
QUICK_CHECK_CHARS = 1 << 16
"""Characters and values of a request that are checked within a tenth of a millisecond."""

_PDF_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_PDF_PAGE_COUNT = re.compile(rb"/Count\s+(\d{1,6})")


@frozen_dataclass(kw_only=True)
class RequestLimits:
    """Limits of one request, from platform.claude.com/docs (read in November 2026): "Vision", general limits; "PDF
    support", requirements; "Errors", request size limits.
    """

    max_images: int = 600
    max_pdf_pages: int = 600
    max_image_bytes: int = 10_000_000
    """Bytes of one image in base64."""
    max_request_bytes: int = 32_000_000

    @classmethod
    def for_model(cls, context_tokens: int, *, max_request_bytes: int, max_image_bytes: int) -> RequestLimits:
        """The limits of a model on a platform; 100 images and PDF pages where the context is below a million tokens, an
        unknown context (0) is taken for a large one.
        """
        count = 100 if 0 < context_tokens < LARGE_CONTEXT_TOKENS else 600
        return cls(
            max_images=count,
            max_pdf_pages=count,
            max_image_bytes=max_image_bytes,
            max_request_bytes=max_request_bytes,
        )


def is_quickly_checked(request: Mapping[str, object]) -> bool:
    """True if `check_request_limits` takes less time than to hand the request to a thread: by its characters."""
    left, values = QUICK_CHECK_CHARS, list[object](request.values())
    while values and left > 0:
        value = values.pop()
        left -= 1
        if isinstance(value, str):
            left -= len(value)
        elif isinstance(value, dict):
            values += cast("dict[str, object]", value).values()
        elif isinstance(value, list | tuple):
            values += cast("list[object]", value)
    return left > 0


def check_request_limits(request: Mapping[str, object], limits: RequestLimits) -> None:
    """Refuse a request that the API would refuse for its size, its images or the pages of its PDF files.

    Takes up to a tenth of a second for a request of 30 MB: run it on a thread, unless it `is_quickly_checked`.

    Raises:
        RequestError: A limit is passed; of kind `too_large`.
    """
    size = _json_bytes(request)
    if size > limits.max_request_bytes:
        raise _too_large(
            f"With its thread and files the request has {format_bytes(size)}; at most "
            f"{format_bytes(limits.max_request_bytes)} can be sent."
        )
    blocks = list(_file_blocks(request.get("messages")))
    images = [block for block in blocks if block.get("type") == "image"]
    if len(images) > limits.max_images:
        raise _too_large(
            f"With its thread the request has {len(images):,} images; at most {limits.max_images} can be sent."
        )
    side_limit = MAX_IMAGE_SIDE_PX if len(images) <= MANY_IMAGES_THRESHOLD else MAX_MANY_IMAGE_SIDE_PX
    for image in images:
        _check_image(image, len(images), side_limit, limits)
    pages = sum(_pdf_pages(_base64_data(block)) for block in blocks if block.get("type") == "document")
    if pages > limits.max_pdf_pages:
        raise _too_large(
            f"With its thread the request has {pages:,} PDF pages; at most {limits.max_pdf_pages} can be sent."
        )


def _check_image(image: Mapping[str, object], count: int, side_limit: int, limits: RequestLimits) -> None:
    data = _base64_data(image)
    if len(data) > limits.max_image_bytes:
        size, limit = format_bytes(len(data)), format_bytes(limits.max_image_bytes)
        raise _too_large(f"An image has {size} in base64; at most {limit} can be sent.")
    width, height = image_dimensions(_decoded(data[:IMAGE_HEADER_CHARS]))
    if max(width, height) > side_limit:
        others = "" if side_limit == MAX_IMAGE_SIDE_PX else f" among {count} in the request and its thread"
        raise _too_large(
            f"An image of {width:,}×{height:,} pixels{others} is too large: the limit is {side_limit:,} a side"
            f"{f' where there are more than {MANY_IMAGES_THRESHOLD}' if others else ''}."
        )


def _too_large(message: str) -> RequestError:
    return RequestError(f"{message} Name fewer or smaller files, or start a new thread.", kind="too_large")


def _file_blocks(value: object) -> Iterator[Mapping[str, object]]:
    """The image and document blocks in the messages, those in tool results included."""
    if isinstance(value, list | tuple):
        for each in cast("list[object]", value):
            yield from _file_blocks(each)
    elif isinstance(value, dict):
        block = cast("dict[str, object]", value)
        if block.get("type") in {"image", "document"}:
            yield block
        else:
            yield from _file_blocks(block.get("content"))


def _base64_data(block: Mapping[str, object]) -> str:
    source = block.get("source")
    fields = cast("dict[str, object]", source) if isinstance(source, dict) else {}
    data = fields.get("data")
    return data if fields.get("type") == "base64" and isinstance(data, str) else ""


def _pdf_pages(data: str) -> int:
    """The pages of a PDF by its page objects and by the count in its page tree, the smaller of the two; 0 where either
    is compressed, as in most newer files.
    """
    raw = _decoded(data)
    counts = [int(count) for count in _PDF_PAGE_COUNT.findall(raw)]
    return min(len(_PDF_PAGE.findall(raw)), max(counts, default=0))


def _decoded(data: str) -> bytes:
    """The bytes of base64; none where it is damaged, as in an answer of a gateway that is sent back with its thread."""
    try:
        return b64decode(data)
    except binascii.Error:
        return b""


def _json_bytes(value: object) -> int:
    """The bytes of a value as JSON, without escapes: never more than are sent."""
    match value:
        case str():
            return 2 + (len(value) if value.isascii() else len(value.encode(errors="replace")))
        case bool() | None:
            return 4
        case int() | float():
            return len(str(value))
        case dict():
            fields = cast("dict[str, object]", value)
            return 1 + sum(_json_bytes(key) + _json_bytes(each) + 2 for key, each in fields.items())
        case list() | tuple():
            return 1 + sum(_json_bytes(each) + 1 for each in cast("list[object]", value))
        case _:
            return 0
