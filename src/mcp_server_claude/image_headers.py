"""Type, size and token count of an image, read from the header of its file."""

from __future__ import annotations

from typing import Literal, TypeAlias

ImageType: TypeAlias = Literal["image/png", "image/jpeg", "image/gif", "image/webp"]

# platform.claude.com/docs/en/build-with-claude/vision, "Calculate image costs" (read in November 2026): models since
# 4.7 scale an image to 2,576 pixels a side and 4,784 tokens, older ones to 1,568 pixels and 1,568 tokens.
PATCH_PX = 28
MAX_SCALED_SIDE_PX = 2_576
MAX_IMAGE_TOKENS = 4_784


def image_type(data: bytes) -> ImageType | None:
    """The media type of an image that Claude takes, None for other data."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def image_dimensions(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from the beginning of an image file; zeros where its header is damaged."""
    match image_type(data):
        case "image/png" if data[12:16] == b"IHDR" and len(data) >= 24:
            return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        case "image/gif" if len(data) >= 10:
            return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        case "image/jpeg":
            return _jpeg_dimensions(data)
        case "image/webp":
            return _webp_dimensions(data)
        case _:
            return 0, 0


def image_tokens(width: int, height: int) -> int:
    """The input tokens of an image of this size in pixels, on the models that use most. An unknown size counts most."""
    if width <= 0 or height <= 0:
        return MAX_IMAGE_TOKENS
    scale = min(1.0, MAX_SCALED_SIDE_PX / max(width, height))
    columns, rows = (max(1, -(-round(side * scale) // PATCH_PX)) for side in (width, height))
    return min(columns * rows, MAX_IMAGE_TOKENS)


def _jpeg_dimensions(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # a frame, not a table
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0


def _webp_dimensions(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X" if len(data) >= 30:
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L" if len(data) >= 25:
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if len(data) >= 30:
            width, height = int.from_bytes(data[26:28], "little"), int.from_bytes(data[28:30], "little")
            return width & 0x3FFF, height & 0x3FFF
        case _:
            return 0, 0
