"""The limits on images and PDF files over a whole request, its tool results and stored files included.

Source: platform.claude.com/docs/en/build-with-claude/vision and …/pdf-support, as documented by November 2026. The
sentences on sizes and pages are those of the API, quoted in public bug reports of August and September 2026; the error
code is that of anthropic-sdk-python 2.14.0. The sentence on too many images is assumed.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.api_errors import ApiError, RequestRejectedError, rejection
from mcp_server_claude.simulator.image_sizes import image_size
from mcp_server_claude.simulator.json_body import as_list, as_object, as_text, content_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.json_body import Json, Object

MAX_IMAGE_BASE64_BYTES = 10 * 1024 * 1024
MAX_IMAGE_SIDE = 8000
MANY_IMAGES, MAX_SIDE_OF_MANY = 20, 2000
"""Above 20 images in a request, none may have a side of more than 2,000 pixels."""
IMAGE_TYPES = {
    "image/png": b"\x89PNG",
    "image/jpeg": b"\xff\xd8",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
_PDF_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaBlock:
    """An image or a PDF file of a request: its place and its bytes; None for what only a URL names."""

    path: str
    kind: str
    media_type: str
    data: bytes | None


def check_media(body: Object, model: CatalogModel, read_file: Callable[[str], tuple[str, bytes]]) -> None:
    """Pass a request whose images and PDF files are within the limits of the model.

    Args:
        body: The request.
        model: The model that it names.
        read_file: The media type and the bytes of a stored file, by its id.

    Raises:
        RequestRejectedError: There are too many images or pages, or one is too large or not what it says to be.
    """
    media = list(media_blocks(body, read_file))
    images = [block for block in media if block.kind == "image"]
    if len(images) > model.max_media:
        raise rejection(f"messages: too many images: {len(images)} > {model.max_media} maximum")
    for block in images:
        _check_image_type(block)
    _check_sizes(images)
    pages = 0
    for block in media:
        if block.kind == "document" and block.data is not None and block.media_type == "application/pdf":
            pages += pdf_pages(block.data)
            if pages > model.max_media:
                raise rejection(f"{block.path}: A maximum of {model.max_media} PDF pages may be provided.")


def media_blocks(body: Object, read_file: Callable[[str], tuple[str, bytes]]) -> Iterator[MediaBlock]:
    """The images and documents of a request, in order, those in tool results included.

    Raises:
        RequestRejectedError: Data is not base64, or an image has more than 10 MB of it.
    """
    for index, message in enumerate(as_list(body.get("messages"))):
        blocks = content_blocks(as_object(message).get("content"))
        yield from _media_of(f"messages.{index}.content", blocks, read_file)


def image_data(block: Object, read_file: Callable[[str], tuple[str, bytes]]) -> bytes | None:
    """The bytes of an image block; None for what only a URL names."""
    return _media_block("", "image", as_object(block.get("source")), read_file).data


def pdf_pages(data: bytes) -> int:
    """The pages of a PDF file, as far as its page objects are not compressed; at least one."""
    return max(1, len(_PDF_PAGE.findall(data)))


def _media_of(path: str, blocks: list[Object], read_file: Callable[[str], tuple[str, bytes]]) -> Iterator[MediaBlock]:
    for position, block in enumerate(blocks):
        kind, place = as_text(block.get("type")), f"{path}.{position}"
        if kind == "tool_result":
            yield from _media_of(f"{place}.content", content_blocks(block.get("content")), read_file)
        elif kind in {"image", "document"}:
            yield _media_block(place, kind, as_object(block.get("source")), read_file)


def _media_block(path: str, kind: str, source: Object, read_file: Callable[[str], tuple[str, bytes]]) -> MediaBlock:
    match source.get("type"):
        case "base64":
            return MediaBlock(
                path=f"{path}.{kind}.source.base64",
                kind=kind,
                media_type=as_text(source.get("media_type")),
                data=_decode(f"{path}.{kind}.source.base64", kind, as_text(source.get("data"))),
            )
        case "file":
            media_type, data = read_file(as_text(source.get("file_id")))
            return MediaBlock(path=f"{path}.{kind}.source.file", kind=kind, media_type=media_type, data=data)
        case _:
            return MediaBlock(path=f"{path}.{kind}", kind=kind, media_type="", data=None)


def _decode(path: str, kind: str, encoded: str) -> bytes:
    if kind == "image" and len(encoded) > MAX_IMAGE_BASE64_BYTES:
        raise rejection(f"{path}: image exceeds 10 MB maximum: {len(encoded)} bytes > {MAX_IMAGE_BASE64_BYTES} bytes")
    try:
        return b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        raise rejection(f"{path}.data: Invalid base64 data") from None


def _check_image_type(block: MediaBlock) -> None:
    if block.data is None:
        return
    expected = IMAGE_TYPES.get(block.media_type)
    if expected is None:
        known = ", ".join(f"'{name}'" for name in IMAGE_TYPES)
        raise rejection(f"{block.path}.media_type: Input should be {known}")
    if not block.data.startswith(expected):
        raise rejection(f"{block.path}.data: The image was specified using the {block.media_type} media type, but it "
                        "appears to be of another type or cannot be read")  # fmt: skip


def _check_sizes(images: list[MediaBlock]) -> None:
    many = len(images) > MANY_IMAGES
    limit = MAX_SIDE_OF_MANY if many else MAX_IMAGE_SIDE
    sizes = [(block.path, image_size(block.data)) for block in images if block.data is not None]
    paths: list[Json] = [path for path, size in sizes if size is not None and max(size) > limit]
    if not paths:
        return
    details: Object = {
        "error_code": "image_dimensions_too_large",
        "paths": paths,
        "max_side_length_pixels": limit,
    }
    many_text = " for many-image requests" if many else ""
    raise RequestRejectedError(
        ApiError(
            status=400,
            message=f"{paths[0]}.data: At least one of the image dimensions exceed max allowed size{many_text}: "
            f"{limit} pixels",
            details=details,
        )
    )
