"""The size of an image, read from its first bytes, and the tokens that it counts.

Source: platform.claude.com/docs/en/build-with-claude/vision, as documented by November 2026: an image is scaled down
until its longer side is at most 2,576 pixels and it has at most 4,784 tokens (1,568 pixels and 1,568 tokens before
Claude Opus 4.7); each patch of 28 by 28 pixels is a token.
"""

from __future__ import annotations

import math
import struct

PATCH_PIXELS = 28
MAX_LARGE_SIDE, MAX_LARGE_TOKENS = 2576, 4784
MAX_SMALL_SIDE, MAX_SMALL_TOKENS = 1568, 1568
JPEG_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF, JPEG or WebP image; None for anything else."""
    try:
        if data.startswith(b"\x89PNG"):
            return struct.unpack(">II", data[16:24])
        if data.startswith(b"GIF8"):
            return struct.unpack("<HH", data[6:10])
        if data.startswith(b"\xff\xd8"):
            return _jpeg_size(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
    except struct.error:
        return None
    return None


def scaled_image_tokens(size: tuple[int, int], *, takes_large_images: bool) -> int:
    """The tokens of an image of that size, after it has been scaled down to what the model looks at."""
    max_side = MAX_LARGE_SIDE if takes_large_images else MAX_SMALL_SIDE
    max_tokens = MAX_LARGE_TOKENS if takes_large_images else MAX_SMALL_TOKENS
    width, height = (max(1, side) for side in size)
    scale = min(1.0, max_side / max(width, height))
    area_scale = math.sqrt(max_tokens * PATCH_PIXELS**2 / (width * height))
    scale = min(scale, area_scale)
    columns, rows = (math.ceil(max(1, round(side * scale)) / PATCH_PIXELS) for side in (width, height))
    return min(columns * rows, max_tokens)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in JPEG_FRAME_MARKERS:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        place += 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case _:
            return None
